//! The election against a real API server: who wins a race, how a lease is handed over, and what a conflict is.

use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
    runtime::wait::await_condition,
};
use rorun_operator::{
    runtime::leader::{Elector, LeaderConfig, Leadership},
    telemetry::Metrics,
};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{HOST, TIME_LIMIT};

const NAMESPACE: &str = "default";

/// Each scenario has a lease of its own.
pub async fn leases_at_a_real_api_server(client: &Client, metrics: &Metrics) {
    tokio::join!(
        a_release_is_taken_within_two_seconds(client),
        of_many_candidates_one_wins(client),
        a_label_of_somebody_else_is_kept_and_costs_nothing(client),
        a_stolen_lease_is_lost_and_left_alone(client),
        a_deleted_lease_is_lost(client),
        a_crashed_leader_is_followed_after_the_lease(client),
    );
    let text = metrics.render().expect("metrics");
    for (code, method) in [("200", "GET"), ("200", "PUT"), ("201", "POST"), ("404", "GET"), ("409", "PUT")] {
        let series = format!("rest_client_requests_total{{code=\"{code}\",host=\"{HOST}\",method=\"{method}\"}}");
        assert!(text.contains(&series), "no {series} in\n{text}");
    }
}

fn leases(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), NAMESPACE)
}

async fn spec(client: &Client, lease: &str) -> LeaseSpec {
    leases(client).get(lease).await.expect("the lease").spec.expect("its spec")
}

fn quick(lease: &str, identity: &str) -> LeaderConfig {
    LeaderConfig {
        lease_duration: Duration::from_secs(5),
        renew_deadline: Duration::from_secs(4),
        retry_period: Duration::from_millis(300),
        ..LeaderConfig::new(NAMESPACE, lease, identity)
    }
}

async fn leads(client: &Client, config: LeaderConfig) -> Leadership {
    let elector = Elector::new(client.clone(), config).expect("an elector");
    timeout(TIME_LIMIT, elector.acquire(&CancellationToken::new())).await.expect("in time").expect("the lease")
}

async fn lost(leadership: &Leadership) {
    timeout(TIME_LIMIT, leadership.lost().cancelled()).await.expect("a loss");
    assert!(!leadership.is_valid());
}

/// With the durations of production.
async fn a_release_is_taken_within_two_seconds(client: &Client) {
    let config = |identity: &str| LeaderConfig::new(NAMESPACE, "release", identity);
    let first = leads(client, config("a")).await;
    let fresh = spec(client, "release").await;
    assert_eq!(fresh.holder_identity.as_deref(), Some("a"));
    assert_eq!((fresh.lease_duration_seconds, fresh.lease_transitions), (Some(15), Some(0)));

    let waiting = tokio::spawn({
        let (client, config) = (client.clone(), config("b"));
        async move { leads(&client, config).await }
    });
    sleep(Duration::from_secs(3)).await;
    let renewed = spec(client, "release").await;
    assert!(renewed.renew_time > fresh.renew_time);
    assert_eq!(renewed.acquire_time, fresh.acquire_time);

    first.release().await;
    let since = Instant::now();
    let second = waiting.await.expect("the second");
    assert!(since.elapsed() < Duration::from_millis(2500), "handed over after {:?}", since.elapsed());
    assert!(second.is_valid());
    let taken = spec(client, "release").await;
    assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("b"), Some(1)));

    second.release().await;
    let empty = spec(client, "release").await;
    assert_eq!((empty.holder_identity.as_deref(), empty.lease_duration_seconds), (Some(""), Some(1)));
    assert_eq!(empty.lease_transitions, Some(1));
}

async fn of_many_candidates_one_wins(client: &Client) {
    let candidates = (0..8).map(|number| {
        let elector = Elector::new(client.clone(), quick("race", &format!("candidate-{number}"))).expect("an elector");
        async move { elector.acquire(&CancellationToken::new()).await }
    });
    let mut wins = candidates.collect::<FuturesUnordered<_>>();
    let winner = timeout(TIME_LIMIT, wins.next()).await.expect("in time").expect("a candidate").expect("the lease");
    let other = timeout(Duration::from_secs(3), wins.next()).await;
    assert!(other.is_err(), "two have won: {other:?}");
    assert!(winner.is_valid());
}

async fn a_label_of_somebody_else_is_kept_and_costs_nothing(client: &Client) {
    let leadership = leads(client, quick("label", "a")).await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    leases(client).patch("label", &PatchParams::default(), &patch).await.expect("a patch");
    let before = spec(client, "label").await.renew_time;
    let renewed = |lease: Option<&Lease>| {
        lease.is_some_and(|lease| lease.spec.as_ref().is_some_and(|spec| spec.renew_time > before))
    };
    let lease = timeout(TIME_LIMIT, await_condition(leases(client), "label", renewed)).await.expect("a renewal");
    let lease = lease.expect("a watch").expect("the lease");
    assert_eq!(lease.metadata.labels.expect("labels")["touched"], "yes");
    assert!(leadership.is_valid());
}

async fn a_stolen_lease_is_lost_and_left_alone(client: &Client) {
    let leadership = leads(client, quick("stolen", "a")).await;
    let patch = Patch::Merge(json!({"spec": {"holderIdentity": "b"}}));
    leases(client).patch("stolen", &PatchParams::default(), &patch).await.expect("a patch");
    lost(&leadership).await;
    assert_eq!(spec(client, "stolen").await.holder_identity.as_deref(), Some("b"));
}

async fn a_deleted_lease_is_lost(client: &Client) {
    let leadership = leads(client, quick("deleted", "a")).await;
    leases(client).delete("deleted", &DeleteParams::default()).await.expect("a deletion");
    lost(&leadership).await;
    assert!(leases(client).get_opt("deleted").await.expect("an answer").is_none());
}

async fn a_crashed_leader_is_followed_after_the_lease(client: &Client) {
    drop(leads(client, quick("crash", "a")).await);
    let since = Instant::now();
    let next = leads(client, quick("crash", "b")).await;
    assert!(
        since.elapsed() >= Duration::from_secs(5) && since.elapsed() < Duration::from_secs(8),
        "{:?}",
        since.elapsed()
    );
    assert!(next.is_valid());
}
