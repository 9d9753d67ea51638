//! Every write has the write limit, also those that the apply step does not make: a former leader's last one is over before
//! another leads, and no pass waits a minute for an API server that does not answer.

use std::{
    convert::Infallible,
    future,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use kube::{
    Client,
    client::Body,
    runtime::events::{Recorder, Reporter},
};
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Cache, Context, Memory, Patience, Prober, References, Triggers, events, finalize, storage_classes::StorageClasses,
};
use crate::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    apply::{WRITE_LIMIT, WriteError, Writer},
    services::Network,
    telemetry::{Health, HealthLimits, Metrics},
};

/// What a pass has before an API server that takes every request and answers none.
fn silent(may_write: bool) -> Context {
    let never = |_: Request<Body>| future::pending::<Result<Response<Body>, Infallible>>();
    let client = Client::new(tower::service_fn(never), "n");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let limits = HealthLimits { longest_reconcile: Duration::MAX, longest_silence: Duration::MAX };
    let health = Arc::new(Health::new(metrics.clone(), limits));
    let (triggers, _) = Triggers::new(metrics.clone());
    let reporter = Reporter { controller: "test".to_owned(), instance: None };
    let patience = Patience::default();
    Context {
        writer: Writer::new(client.clone(), patience.turns(), move || may_write, |_, _| {}),
        cache: Arc::new(Cache::default()),
        references: References::new(client.clone(), triggers.clone(), health.clone(), Arc::default()),
        storage_classes: StorageClasses::default(),
        prober: Prober::new(Network::open(), |_| {}),
        triggers,
        patience,
        recorder: Recorder::new(client.clone(), reporter),
        metrics,
        health,
        of_data: [String::new(), String::new()],
        agent_image: String::new(),
        resync: Duration::MAX,
        memory: Mutex::new(Memory::default()),
        client,
    }
}

fn stack() -> RorunStack {
    let stack = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
        "metadata": {"name": "shop", "namespace": "n", "uid": "1", "resourceVersion": "1"},
        "spec": {"environment": "Development", "api": {"image": "a"}, "deletionPolicy": "Delete"}});
    serde_json::from_value(stack).expect("a stack")
}

#[tokio::test(start_paused = true)]
async fn the_finalizer_is_given_up_in_time() {
    let (context, began) = (silent(true), Instant::now());
    let set = finalize::set(&context, &stack(), true).await;
    assert!(matches!(set, Err(WriteError::TimedOut)), "{set:?}");
    assert_eq!(began.elapsed(), WRITE_LIMIT);
}

/// Data without the finalizer would outlast their stack, so the pass ends.
#[tokio::test(start_paused = true)]
async fn whoever_may_not_write_sets_no_finalizer_and_makes_nothing_either() {
    let began = Instant::now();
    assert!(finalize::set(&silent(false), &stack(), true).await.expect("no request was sent"));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[rstest]
#[case::a_leader(true, WRITE_LIMIT)]
#[case::a_former_leader(false, Duration::ZERO)]
#[tokio::test(start_paused = true)]
async fn all_events_of_a_pass_together_take_no_longer(#[case] may_write: bool, #[case] limit: Duration) {
    let (context, began) = (silent(may_write), Instant::now());
    let new = RorunStackStatus { observed_generation: Some(1), ..RorunStackStatus::default() };
    let warnings: Vec<_> = (0..9).map(|number| format!("warning {number}")).collect();
    events::publish(&context, &stack(), (None, &new), &warnings).await;
    assert_eq!(began.elapsed(), limit);
}
