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
    support::stack,
    world::{World, at, condition, line, rolled_out},
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

fn pods(world: &mut World, of: &[Component], body: &Value) {
    for component in of {
        world.put(("", "Pod"), *component, body.clone());
    }
}

fn runs(since: i64) -> Value {
    json!({"running": {"startedAt": at(since)}})
}

/// Each step of the pods of some workloads, from a second on, until they serve.
fn start(world: &mut World, of: &[Component], second: i64) -> Vec<RorunStackStatus> {
    let creating = json!({"waiting": {"reason": "ContainerCreating"}});
    let steps = [
        pod(false, second, None, false),
        pod(true, second + 2, Some((creating, false)), false),
        pod(true, second + 2, Some((runs(second + 4), false)), false),
        pod(true, second + 2, Some((runs(second + 4), true)), false),
    ];
    let mut told = Vec::new();
    for (step, body) in steps.iter().enumerate() {
        pods(world, of, body);
        told.push(world.pass(second + 2 * i64::try_from(step).unwrap()));
    }
    pods(world, of, &pod(true, second + 8, Some((runs(second + 4), true)), true));
    told
}

#[test]
fn the_reason_of_ready_goes_forward_only() {
    let mut world = World::empty(stack("shop").set("ocr", json!({"image": "ghcr.io/rorun/rorun-ai-service:1.8.0"})));
    world.stack.probes = BTreeMap::new();
    let mut told = vec![world.pass_that_writes(0, &SERVICES)];
    world.make_the_rest();
    for component in SERVICES {
        let unseen = json!({"spec": {"replicas": 1}, "status": {"replicas": 0}});
        world.put(("apps", "StatefulSet"), component, unseen);
    }
    told.push(world.pass(1));
    for component in SERVICES {
        world.stateful_set(component, 1, 0);
    }
    told.extend(start(&mut world, &SERVICES, 2));
    // One after the other serves, and the bucket's server does not answer at once.
    for component in SERVICES {
        world.stateful_set(component, 1, 1);
        told.push(world.pass(11));
    }
    let failed = Probe::Failed(Waiting::new(reason::UNREACHABLE, "bucket at shop-bucket is unreachable"));
    world.stack.probes.insert(Component::Bucket.into(), failed);
    told.push(world.pass(12));
    world.stack.probes.insert(Component::Bucket.into(), Probe::Answers { note: None });
    let apps = [Component::Ocr, Component::Api];
    told.push(world.pass_that_writes(14, &apps));
    for component in apps {
        world.put(("apps", "Deployment"), component, json!({"spec": {"replicas": 1}, "status": {}}));
    }
    told.push(world.pass(15));
    for component in apps {
        let updated = json!([{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]);
        world.deployment(component, 1, [1, 1, 0], &updated);
    }
    told.extend(start(&mut world, &apps, 16));
    for component in apps {
        world.deployment(component, 1, [1, 1, 1], &rolled_out());
        told.push(world.pass(25));
    }
    let mut reasons: Vec<_> = told.iter().map(|status| line(status, "Ready")).collect();
    let count = reasons.len();
    reasons.dedup();
    assert_eq!(reasons, ["Unknown Progressing", "False Progressing", "True Ready"]);
    assert!(count > 15, "{count} states");
    let (last, before) = told.split_last().unwrap();
    assert!(before.iter().all(|status| line(status, "Reconciling") == "True Progressing"));
    assert!(before.iter().all(|status| line(status, "Available") == "False Progressing"));
    assert_eq!((line(last, "Reconciling"), line(last, "Available")), (String::new(), "True Ready".to_owned()));
}

/// What is no matter of a moment is told when its time has passed, and the stack is looked at just then.
#[test]
fn a_pod_that_does_not_serve_is_told_after_the_time_that_it_has() {
    let mut world = World::ready(stack("shop").set("api.health", json!({"startupSeconds": 90})));
    world.deployment(Component::Api, 1, [1, 1, 0], &json!([]));
    let started = json!({"spec": {}, "status": pod(true, 1000, Some((runs(1000), true)), false)["status"]});
    world.put(("", "Pod"), Component::Api, started);
    let ready = |status: &RorunStackStatus| line(status, "ApiReady");
    assert_eq!(ready(&world.pass(1010)), "False Progressing");
    assert_eq!(world.requeue_after, Some(80));
    assert_eq!(ready(&world.pass(1089)), "False Progressing");
    let status = world.pass(1090);
    assert_eq!(ready(&status), "False NotHealthy");
    assert!(condition(&status, "Ready").unwrap().message.contains("read its log"), "{status:?}");
    assert_eq!(world.requeue_after, None, "nothing more turns by itself");
    // One that was started again has had its time.
    let again = json!([{"name": "main", "state": runs(1200), "started": true, "restartCount": 1}]);
    world.put(("", "Pod"), Component::Api, json!({"status": {"containerStatuses": again}}));
    let Readiness::Waiting(waiting) = world.readiness(Component::Api, 1201) else { panic!("it is ready") };
    assert_eq!(waiting.reason, reason::NOT_HEALTHY);
}

#[test]
fn a_pod_without_a_node_is_told_after_a_while() {
    let mut world = World::ready(stack("shop"));
    world.stateful_set(Component::Redis, 1, 0);
    world.put(("", "Pod"), Component::Redis, pod(false, 1000, None, false));
    assert_eq!(line(&world.pass(1003), "RedisReady"), "False Progressing");
    assert_eq!(world.requeue_after, Some(7));
    assert_eq!(line(&world.pass(1010), "RedisReady"), "False Unschedulable");
}
