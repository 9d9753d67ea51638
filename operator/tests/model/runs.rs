//! The whole operator in paused time: random starts, random faults, random users; then silence.

use std::{cell::Cell, collections::BTreeSet, sync::Arc, time::Duration};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use rorun_operator::{
    controller::{self, Settings},
    runtime::{Clients, RetryAfterLayer, RunError},
    services::Network,
    telemetry::{Health, HealthLimits, Metrics},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    api::{ApiServer, Store},
    faults::{Fault, Way},
    judge,
    support::AGENT_IMAGE,
    world::{self, NAME, SPECS, Start, Step},
};

/// How many runs, side by side from each seed. Each takes about a quarter of a second; more are worth a night.
const RUNS: u32 = 75;
const SEEDS: [u8; 2] = [7, 8];
/// After the last fault: several times the longest pause before something is tried again, which is 72 s.
const SETTLES_WITHIN: Duration = Duration::from_mins(4);
/// How long nothing must be written then: longer than a watch lives. One run in ten is followed for longer than the pause
/// between two looks without a cause.
const QUIET: (Duration, Duration) = (Duration::from_mins(6), Duration::from_mins(90));

#[derive(Clone, Debug)]
struct Run {
    spec: usize,
    generation: i64,
    starts: Vec<Start>,
    faults: Vec<Fault>,
    steps: Vec<(u64, Step)>,
    long: bool,
}

#[test]
fn every_run_ends_as_wanted_and_then_nothing_is_written() {
    let threads: Vec<_> = SEEDS.iter().map(|seed| std::thread::spawn(|| play_all(*seed))).collect();
    let failures: Vec<String> =
        threads.into_iter().filter_map(|thread| thread.join().expect("no panic").err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn play_all(seed: u8) -> Result<(), String> {
    let config = Config { cases: RUNS, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let (runs, writes) = (Cell::new(0), Cell::new(0));
    let result = runner.run(&strategy(), |run| {
        runs.set(runs.get() + 1);
        writes.set(writes.get() + play(&run).map_err(TestCaseError::fail)?);
        Ok(())
    });
    println!("seed {seed}: {} runs, {} changes of objects judged", runs.get(), writes.get());
    result.map_err(|failure| format!("seed {seed}: {failure}"))
}

/// The judge is not blind: what it forbids is noticed.
#[test]
fn a_wrong_end_is_noticed() {
    let run =
        Run { spec: 1, generation: 1, starts: vec![Start::Right], faults: Vec::new(), steps: Vec::new(), long: false };
    let (server, mut by_hand) = in_paused_time(finished(&run)).expect("an end");
    let mut store = server.store().clone();
    assert_eq!(judge::end(&store), Ok(()));
    let first = |store: &Store, resource: &str| {
        let found = store.objects.iter().find(|(place, _)| place.resource == resource);
        found.map(|(place, object)| (place.clone(), object.clone())).expect("one")
    };
    let (place, mut changed) = first(&store, "apps/deployments");
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1");
    store.put(place.clone(), changed);
    assert!(judge::end(&store).expect_err("it is other").contains("not as wanted"));
    store.remove(&place);
    assert!(judge::end(&store).expect_err("it is gone").contains("is missing"));
    by_hand.extend(0..=store.revision);
    assert_eq!(judge::history(&store, &by_hand), Ok(()));
    store.remove(&first(&store, "/persistentvolumeclaims").0);
    assert!(judge::history(&store, &by_hand).expect_err("data are gone").contains("is data"));
}

/// Found by the runs below: it kept the volumes of every component from being made.
#[test]
fn a_foreign_service_account_concerns_its_component_alone() {
    let number = world::children(&world::spec(0))
        .iter()
        .position(|object| object.kind.kind == "ServiceAccount" && object.component() == "bucket");
    let mut starts = vec![Start::Absent; 40];
    starts[number.expect("the bucket has one")] = Start::Foreign;
    let run = Run { spec: 0, generation: 1, starts, faults: Vec::new(), steps: Vec::new(), long: false };
    assert!(play(&run).is_ok(), "{:?}", play(&run));
}

fn strategy() -> impl Strategy<Value = Run> {
    let start = prop_oneof![
        4 => Just(Start::Absent),
        4 => Just(Start::Right),
        3 => Just(Start::Changed),
        1 => Just(Start::Unlabelled),
        1 => Just(Start::Foreign),
        1 => Just(Start::Former),
    ];
    let starts = prop_oneof![1 => Just(vec![Start::Absent]), 1 => Just(vec![Start::Right]), 4 => vec(start, 40)];
    let fault = prop_oneof![
        8 => Just(Fault::Pass),
        2 => select(vec![409, 429, 500, 503]).prop_map(Fault::Refuse),
        1 => Just(Fault::DoneButRefused),
        1 => Just(Fault::LostBefore),
        1 => Just(Fault::LostAfter),
        1 => (1_u32..6000).prop_map(Fault::Late),
        1 => (1_u32..6000).prop_map(Fault::AnsweredLate),
        1 => select(vec![Fault::KillBefore, Fault::KillAfter]),
    ];
    let step = prop_oneof![
        3 => (0..SPECS).prop_map(Step::Edit),
        2 => (0_usize..40).prop_map(Step::Delete),
        2 => (0_usize..40).prop_map(Step::Change),
        1 => (0_usize..40).prop_map(Step::Unlabel),
        1 => select(vec![Step::Cut, Step::Expire, Step::Hold, Step::Release, Step::Kill]),
    ];
    let steps = vec((0_u64..4000, step), 0..8);
    (0..SPECS, 1_i64..4, starts, vec(fault, 0..60), steps, prop::bool::weighted(0.1)).prop_map(
        |(spec, generation, starts, faults, steps, long)| Run { spec, generation, starts, faults, steps, long },
    )
}

/// Plays a run and judges it. Returns how many changes were judged.
fn play(run: &Run) -> Result<usize, String> {
    in_paused_time(async {
        let (server, by_hand) = finished(run).await?;
        let before = server.store().revision;
        sleep(if run.long { QUIET.1 } else { QUIET.0 }).await;
        let store = server.store();
        if let Some(written) = store.history.iter().find(|change| change.revision > before) {
            return Err(format!("written after everything was settled: {:?} {:#?}", written.place, written.after));
        }
        judge::history(&store, &by_hand)?;
        judge::end(&store)?;
        Ok(store.history.len())
    })
}

fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

/// Plays a run up to where nothing should happen any more. The operator goes on while the server lives.
async fn finished(run: &Run) -> Result<(ApiServer, BTreeSet<u64>), String> {
    let server = ApiServer::new(world::begin(run.spec, run.generation, &run.starts));
    let mut by_hand: BTreeSet<u64> = (0..=server.store().revision).collect();
    let way = Way::new(server.clone(), run.faults.iter().copied());
    let mut operator = start(&way);
    for (pause, step) in &run.steps {
        let until = tokio::time::Instant::now() + Duration::from_millis(*pause);
        while tokio::time::timeout_at(until, way.kill.notified()).await.is_ok() {
            operator = start(&way);
        }
        match step {
            Step::Kill => operator = start(&way),
            Step::Cut => server.cut(),
            Step::Expire => {
                server.store().compact();
                server.cut();
            }
            Step::Hold => server.hold(true),
            Step::Release => server.hold(false),
            step => by_hand.extend(by_user(&mut server.store(), *step)),
        }
        server.tell();
    }
    server.hold(false);
    // What is left of the faults, which kills among them may follow.
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while tokio::time::timeout_at(until, way.kill.notified()).await.is_ok() {
        operator = start(&way);
    }
    way.clear();
    let settled = tokio::time::Instant::now() + SETTLES_WITHIN;
    while tokio::time::timeout_at(settled, way.kill.notified()).await.is_ok() {
        operator = start(&way);
    }
    if operator.is_finished() {
        return Err("the operator ended by itself".to_owned());
    }
    // It ends with the runtime.
    drop(operator.detach());
    Ok((server, by_hand))
}

/// Does what a user does. Returns the versions that it made.
fn by_user(store: &mut Store, step: Step) -> Vec<u64> {
    let before = store.revision;
    let number = match step {
        Step::Edit(number) => {
            let stack = json!({"metadata": {"name": NAME}, "spec": world::spec(number)});
            let done = store.apply(&world::target(&world::stack_place(), "user").applying(), &stack, true);
            done.expect("the stack is there");
            return (before + 1..=store.revision).collect();
        }
        Step::Delete(number) | Step::Change(number) | Step::Unlabel(number) => number,
        _ => return Vec::new(),
    };
    let children: Vec<_> = store
        .objects
        .keys()
        .filter(|place| ![world::stack_place(), world::namespace_place()].contains(place))
        .filter(|place| !place.resource.ends_with("events"))
        .cloned()
        .collect();
    let Some(place) = children.get(number % children.len().max(1)).cloned() else { return Vec::new() };
    let mut object = store.objects[&place].clone();
    match step {
        Step::Delete(_) => drop(store.delete(&place, &Value::Null)),
        Step::Change(_) => {
            world::change(&mut object);
            let done = store.merge(&world::target(&place, "user"), &object);
            done.expect("the object is there");
        }
        _ => {
            let done = store.merge(&world::target(&place, "user"), &json!({"metadata": {"labels": null}}));
            done.expect("the object is there");
        }
    }
    (before + 1..=store.revision).collect()
}

/// Starts an operator; one that ran is gone when its handle is replaced.
fn start(way: &Way) -> AbortOnDropHandle<Result<(), RunError>> {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let limits = HealthLimits { longest_reconcile: Duration::MAX, longest_silence: Duration::MAX };
    let health = Arc::new(Health::new(metrics.clone(), limits));
    let clients = Clients { work: way.client(), lease: way.client(), retry_after: RetryAfterLayer::default() };
    let settings = Settings {
        namespaces: Vec::new(),
        lease: None,
        concurrency: 4,
        resync: Duration::from_hours(1),
        agent_image: AGENT_IMAGE.to_owned(),
        network: Network::guarded(Vec::new(), false),
        instance: Some("test".to_owned()),
    };
    AbortOnDropHandle::new(tokio::spawn(controller::run(
        clients,
        settings,
        (metrics, health),
        CancellationToken::new(),
    )))
}
