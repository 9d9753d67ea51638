use super::{
    super::{RedisQuestion, Service},
    *,
};
use crate::{
    contract::Provider,
    names::{Waiting, reason},
    services::redis::RedisTarget,
};

const STACKS: usize = 1200;

impl Tenant for usize {
    fn namespace(&self) -> &'static str {
        ["a", "b", "c", "d"][self % 4]
    }
}

fn question(url: String) -> Question {
    Question {
        provider: Provider::of_url(&url),
        service: Service::Redis(RedisQuestion { target: RedisTarget { url, ca: None }, cluster_mode: None }),
        origin: None,
        interval: None,
    }
}

fn good() -> Answer {
    Answer::known(None, false)
}

fn failed() -> Answer {
    Answer::Failed(Waiting::new(reason::UNREACHABLE, "it is away"))
}

fn prober() -> Prober<usize, u8> {
    Prober::new(Network::open(), || 0, |_| {})
}

fn asked(prober: &Prober<usize, u8>) -> usize {
    let tasks = prober.lock();
    let all = tasks.values().flat_map(BTreeMap::values);
    all.filter(|task| matches!(*task.state.answer(), Answer::Failed(_))).count()
}

#[tokio::test(start_paused = true)]
async fn services_that_answered_before_a_restart_are_asked_no_more_often_than_others() {
    let prober = prober();
    for number in 0..STACKS {
        // Nobody listens there.
        let questions = BTreeMap::from([(0, question(format!("redis://127.0.0.1:1/{number}")))]);
        prober.answers(&number, questions, |_| Some(good()));
    }
    // A failure counts from the second on, which comes a second after the first.
    tokio::time::sleep(HEALTHY_INTERVAL + RETRY.0).await;
    let all = BETWEEN * u32::try_from(STACKS).unwrap();
    let expected = HEALTHY_INTERVAL.div_duration_f64(all);
    let share = f64::from(u32::try_from(asked(&prober)).unwrap()) / f64::from(u32::try_from(STACKS).unwrap());
    assert!((expected / 2.0..expected * 1.5).contains(&share), "{share} of all were asked in a minute, not {expected}");
    tokio::time::sleep(all + RETRY.0).await;
    assert_eq!(asked(&prober), STACKS);
}

#[test]
fn two_failures_in_a_row_turn_an_answer_and_a_first_answer_counts_at_once() {
    let state = |first| State { answer: Mutex::new(first), at: Mutex::new(Instant::now()), doubt: Notify::new() };
    let settled = state(good());
    assert!(!settled.store(failed(), 1));
    assert_eq!(*settled.answer(), good());
    assert!(settled.store(failed(), 2));
    assert_eq!(*settled.answer(), failed());
    assert!(!settled.store(failed(), 3));
    assert!(settled.store(good(), 0));
    assert!(!settled.store(failed(), 1));
    let new = state(Answer::Pending);
    assert!(new.store(failed(), 1));
    assert_eq!(*new.answer(), failed());
}

#[test]
fn a_question_that_costs_something_is_asked_less_often() {
    let minutes = |url: &str, interval| {
        let question = Question { interval, ..question(url.to_owned()) };
        question.interval().as_secs() / 60
    };
    assert_eq!(minutes("redis://redis.shop.svc:6379", None), 1);
    assert_eq!(minutes("rediss://eu1.upstash.io:6379", None), 5);
    assert_eq!(minutes("rediss://a.rlwy.net:6379", None), 60);
    assert_eq!(minutes("rediss://eu1.upstash.io:6379", Some(Duration::from_mins(30))), 30);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_asked_for_is_not_asked() {
    let prober = prober();
    let questions = BTreeMap::from([(0, question("redis://127.0.0.1:1".to_owned()))]);
    assert_eq!(prober.answers(&1, questions.clone(), |_| None), BTreeMap::from([(0, Answer::Pending)]));
    assert!(prober.awaited(&1).is_some());
    assert!(prober.answers(&1, BTreeMap::new(), |_| None).is_empty());
    assert!(prober.lock().is_empty());
    prober.answers(&1, questions, |_| None);
    prober.forget(&1);
    assert!(prober.lock().is_empty());
}
