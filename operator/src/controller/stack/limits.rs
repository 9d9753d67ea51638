//! Every write has the write limit, also those that the apply step does not make: a former leader's last one is over before
//! another leads, and no reconcile waits a minute for an API server that does not answer.

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
    runtime::events::{EventType, Recorder, Reporter},
};
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use super::{Configurations, Context, References, finalizer, storage_classes::StorageClasses};
use crate::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    apply::{WRITE_LIMIT, WriteError, WriteThrottle, Writer},
    probe::Prober,
    runtime::{
        Cache, ControllerRuntime, EventPublisher, Requeue, StatusError, StatusWriter, Triggers, Written, event,
        optional::{OptionalApis, OptionalSettings},
    },
    services::Network,
    telemetry::{Health, HealthLimits, Metrics},
};

/// The context of a reconcile before an API server that takes every request and answers none.
fn silent(may_write: bool) -> Context {
    let never = |_: Request<Body>| future::pending::<Result<Response<Body>, Infallible>>();
    let client = Client::new(tower::service_fn(never), "n");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let limits = HealthLimits { longest_reconcile: Duration::MAX, longest_silence: Duration::MAX };
    let health = Arc::new(Health::new(metrics.clone(), limits));
    let controller_metrics = metrics.controller("rorunstack");
    let (triggers, _) = Triggers::new(controller_metrics.clone());
    let recorder = Recorder::new(client.clone(), Reporter { controller: "test".to_owned(), instance: None });
    let throttle = WriteThrottle::default();
    let writer = Writer::new(client.clone(), throttle.clone(), move || may_write, |_, _| {});
    let references = References::new(client.clone(), triggers.clone(), health.clone());
    let runtime = ControllerRuntime {
        throttle,
        cache: Arc::new(Cache::default()),
        optional: Arc::new(OptionalApis::new(&OptionalSettings::default())),
        triggers,
        requeue: Requeue::new(controller_metrics.clone()),
        statuses: StatusWriter::new(client.clone(), writer.clone(), metrics.clone()),
        events: EventPublisher::new(recorder, writer.clone()),
        metrics,
        controller_metrics,
        health,
        concurrency: 1,
        writer,
        client,
    };
    Context {
        requests: Arc::default(),
        configurations: Configurations::new(references.clone(), Arc::default()),
        references,
        storage_classes: StorageClasses::default(),
        prober: Prober::new(Network::open(), || 0, |_| {}),
        agent_image: String::new(),
        approvals_verified: false,
        resync: Duration::MAX,
        memory: Mutex::default(),
        runtime,
    }
}

fn stack() -> RorunStack {
    let stack = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
        "metadata": {"name": "shop", "namespace": "n", "uid": "1", "resourceVersion": "1"},
        "spec": {"environment": "Development", "api": {"image": "a"}, "deletionPolicy": "Delete"}});
    serde_json::from_value(stack).expect("a stack")
}

#[tokio::test(start_paused = true)]
async fn a_write_of_the_finalizer_is_given_up_in_time() {
    let (context, began) = (silent(true), Instant::now());
    let set = finalizer::set(&context, &stack(), true).await;
    assert!(matches!(set, Err(WriteError::TimedOut)), "{set:?}");
    assert_eq!(began.elapsed(), WRITE_LIMIT);
}

/// Data without the finalizer would outlast their stack, so the reconcile ends.
#[tokio::test(start_paused = true)]
async fn a_former_leader_sets_no_finalizer_and_ends_its_reconcile() {
    let began = Instant::now();
    assert!(finalizer::set(&silent(false), &stack(), true).await.expect("no request was sent"));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[rstest]
#[case::a_leader(true, WRITE_LIMIT)]
#[case::a_former_leader(false, Duration::ZERO)]
#[tokio::test(start_paused = true)]
async fn all_events_of_a_reconcile_together_take_no_longer(#[case] may_write: bool, #[case] limit: Duration) {
    let (context, began) = (silent(may_write), Instant::now());
    let events = (0..9).map(|number| event(EventType::Warning, "Tested", &format!("warning {number}"))).collect();
    context.runtime.events.publish(&stack(), events).await;
    assert_eq!(began.elapsed(), limit);
}

#[rstest]
#[case::a_leader(true, WRITE_LIMIT)]
#[case::a_former_leader(false, Duration::ZERO)]
#[tokio::test(start_paused = true)]
async fn a_write_of_the_status_takes_no_longer(#[case] may_write: bool, #[case] limit: Duration) {
    let (context, began) = (silent(may_write), Instant::now());
    let written = context.runtime.statuses.write(&stack(), RorunStackStatus::default()).await;
    assert_eq!(began.elapsed(), limit);
    match written {
        Err(StatusError::TimedOut) => assert!(may_write),
        Ok(Written::Dropped) => assert!(!may_write),
        other => unreachable!("{other:?}"),
    }
}
