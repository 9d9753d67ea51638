use super::{
    super::{RedisQuestion, Service},
    *,
};
use rstest::rstest;

use crate::{
    contract::{ClusterMode, Provider},
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
        service: Service::Redis(RedisQuestion {
            target: RedisTarget { url, ca: None },
            cluster_mode: ClusterMode::default(),
        }),
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
    let settled = State::new(good());
    assert!(!settled.store(failed(), 1));
    assert_eq!(*settled.answer(), good());
    assert!(settled.store(failed(), 2));
    assert_eq!(*settled.answer(), failed());
    assert!(!settled.store(failed(), 3));
    assert!(settled.store(good(), 0));
    assert!(!settled.store(failed(), 1));
    let new = State::new(Answer::Pending);
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

#[rstest]
#[case::usual(None, false, [1, 2, 4, 8, 16, 30, 30, 30])]
#[case::billed(Some(5), false, [1, 2, 4, 8, 16, 30, 300, 300])]
#[case::sleeps(Some(60), false, [1, 2, 4, 8, 16, 30, 900, 900])]
#[case::sleeps_and_lets_in(Some(60), true, [1, 2, 4, 8, 16, 30, 3600, 3600])]
fn after_a_short_burst_a_service_where_questions_cost_is_left_alone(
    #[case] costly: Option<u64>,
    #[case] let_in: bool,
    #[case] seconds: [u64; 8],
) {
    let waits = (1..=8).map(|failures| retry(failures, costly.map(Duration::from_mins), let_in).as_secs());
    assert_eq!(waits.collect::<Vec<_>>(), seconds);
    assert_eq!(retry(u32::MAX, None, false), RETRY.1);
}

/// How often a service that does not answer is asked in an hour in which a workload never serves.
async fn asked_in_an_hour(provider: &str) -> u32 {
    let prober = prober();
    let provider = Provider::named(provider);
    let question = Question { provider, ..question("redis://127.0.0.1:1".to_owned()) };
    prober.answers(&1, BTreeMap::from([(0, question)]), |_| None);
    let state = prober.lock()[&1][&0].state.clone();
    let (mut last, mut count) = (*state.at(), 0);
    for _ in 0..3600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        prober.doubt(&1);
        let at = *state.at();
        count += u32::from(at != last);
        last = at;
    }
    count
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_never_serves_keeps_no_database_awake() {
    let often = asked_in_an_hour("Render").await;
    assert!(often > 300, "{often}");
    let sleeps = asked_in_an_hour("Neon").await;
    let most = BURST + DOUBTS + 60 / 15 + 1;
    assert!((BURST..=most).contains(&sleeps), "{sleeps} of at most {most}");
    let billed = asked_in_an_hour("Upstash").await;
    let most = BURST + (DOUBTS + 1) * 60 / 5 + DOUBTS;
    assert!((BURST..=most).contains(&billed), "{billed} of at most {most}");
}
