//! The states that a stack goes through while it is made, one after the other, as the watches show them.

use std::collections::BTreeMap;

use rorun_operator::{
    api::v1alpha1::RorunStackStatus,
    names::{Component, Waiting, reason},
    objects::Readiness,
    stack::Probe,
};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, at, condition, line, rolled_out},
    support::stack,
};

const SERVICES: [Component; 3] = [Component::Database, Component::Redis, Component::Bucket];

/// A pod: whether it has a node since when, and what its container does.
fn pod(scheduled: bool, since: i64, container: Option<(Value, bool)>, ready: bool) -> Value {
    let word = |is: bool| if is { "True" } else { "False" };
    let statuses = container
        .map(|(state, started)| json!([{"name": "main", "state": state, "started": started, "restartCount": 0}]));
    json!({"status": {
        "conditions": [
            {"type": "PodScheduled", "status": word(scheduled), "lastTransitionTime": at(since), "message": "unbound claims"},
            {"type": "Ready", "status": word(ready), "lastTransitionTime": at(since)},
        ],
        "containerStatuses": statuses,
    }})
}

fn pods(cluster: &mut Cluster, of: &[Component], body: &Value) {
    for component in of {
        cluster.put(("", "Pod"), *component, body.clone());
    }
}

fn runs(since: i64) -> Value {
    json!({"running": {"startedAt": at(since)}})
}

/// Each step of the pods of some workloads, from a second on, until they serve.
fn start(cluster: &mut Cluster, of: &[Component], second: i64) -> Vec<RorunStackStatus> {
    let creating = json!({"waiting": {"reason": "ContainerCreating"}});
    let steps = [
        pod(false, second, None, false),
        pod(true, second + 2, Some((creating, false)), false),
        pod(true, second + 2, Some((runs(second + 4), false)), false),
        pod(true, second + 2, Some((runs(second + 4), true)), false),
    ];
    let mut statuses = Vec::new();
    for (step, body) in steps.iter().enumerate() {
        pods(cluster, of, body);
        statuses.push(cluster.reconcile(second + 2 * i64::try_from(step).unwrap()));
    }
    pods(cluster, of, &pod(true, second + 8, Some((runs(second + 4), true)), true));
    statuses
}

#[test]
fn the_reason_of_ready_goes_forward_only() {
    let mut cluster =
        Cluster::empty(stack("shop").set("ocr", json!({"image": "ghcr.io/rorun/rorun-ai-service:1.8.0"})));
    cluster.stack.probes = BTreeMap::new();
    let mut statuses = vec![cluster.reconcile_that_writes(0, &SERVICES)];
    cluster.make_the_rest();
    for component in SERVICES {
        let unseen = json!({"spec": {"replicas": 1}, "status": {"replicas": 0}});
        cluster.put(("apps", "StatefulSet"), component, unseen);
    }
    statuses.push(cluster.reconcile(1));
    for component in SERVICES {
        cluster.stateful_set(component, 1, 0);
    }
    statuses.extend(start(&mut cluster, &SERVICES, 2));
    // One after the other serves, and the bucket's server does not answer at once.
    for component in SERVICES {
        cluster.stateful_set(component, 1, 1);
        statuses.push(cluster.reconcile(11));
    }
    let failed = Probe::Failed(Waiting::new(reason::UNREACHABLE, "bucket at shop-bucket is unreachable"));
    cluster.stack.probes.insert(Component::Bucket.into(), failed);
    statuses.push(cluster.reconcile(12));
    cluster.stack.probes.insert(Component::Bucket.into(), Probe::answers(None));
    let apps = [Component::Ocr, Component::Api];
    statuses.push(cluster.reconcile_that_writes(14, &apps));
    for component in apps {
        cluster.put(("apps", "Deployment"), component, json!({"spec": {"replicas": 1}, "status": {}}));
    }
    statuses.push(cluster.reconcile(15));
    for component in apps {
        let updated = json!([{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]);
        cluster.deployment(component, 1, [1, 1, 0], &updated);
    }
    statuses.extend(start(&mut cluster, &apps, 16));
    for component in apps {
        cluster.deployment(component, 1, [1, 1, 1], &rolled_out());
        statuses.push(cluster.reconcile(25));
    }
    let mut reasons: Vec<_> = statuses.iter().map(|status| line(status, "Ready")).collect();
    let count = reasons.len();
    reasons.dedup();
    assert_eq!(reasons, ["Unknown Progressing", "False Progressing", "True Ready"]);
    assert!(count > 15, "{count} states");
    let (last, before) = statuses.split_last().unwrap();
    assert!(before.iter().all(|status| line(status, "Reconciling") == "True Progressing"));
    assert!(before.iter().all(|status| line(status, "Available") == "False Progressing"));
    assert_eq!((line(last, "Reconciling"), line(last, "Available")), (String::new(), "True Ready".to_owned()));
}

/// A problem that may pass by itself is reported when its time has passed, and the next reconcile is due just then.
#[test]
fn a_pod_that_does_not_serve_is_reported_after_the_time_that_it_has() {
    let mut cluster = Cluster::ready(stack("shop").set("api.health", json!({"startupSeconds": 90})));
    cluster.deployment(Component::Api, 1, [1, 1, 0], &json!([]));
    let started = json!({"spec": {}, "status": pod(true, 1000, Some((runs(1000), true)), false)["status"]});
    cluster.put(("", "Pod"), Component::Api, started);
    let ready = |status: &RorunStackStatus| line(status, "ApiReady");
    assert_eq!(ready(&cluster.reconcile(1010)), "False Progressing");
    assert_eq!(cluster.requeue_after, Some(80));
    assert_eq!(ready(&cluster.reconcile(1089)), "False Progressing");
    let status = cluster.reconcile(1090);
    assert_eq!(ready(&status), "False NotHealthy");
    assert!(condition(&status, "Ready").unwrap().message.contains("read its log"), "{status:?}");
    assert_eq!(cluster.requeue_after, None, "no verdict changes by time alone any more");
    // One that was started again has had its time.
    let again = json!([{"name": "main", "state": runs(1200), "started": true, "restartCount": 1}]);
    cluster.put(("", "Pod"), Component::Api, json!({"status": {"containerStatuses": again}}));
    let Readiness::Waiting(waiting) = cluster.readiness(Component::Api, 1201) else { panic!("it is ready") };
    assert_eq!(waiting.reason, reason::NOT_HEALTHY);
}

#[test]
fn a_pod_without_a_node_is_reported_after_a_while() {
    let mut cluster = Cluster::ready(stack("shop"));
    cluster.stateful_set(Component::Redis, 1, 0);
    cluster.put(("", "Pod"), Component::Redis, pod(false, 1000, None, false));
    assert_eq!(line(&cluster.reconcile(1003), "RedisReady"), "False Progressing");
    assert_eq!(cluster.requeue_after, Some(7));
    assert_eq!(line(&cluster.reconcile(1010), "RedisReady"), "False Unschedulable");
}
