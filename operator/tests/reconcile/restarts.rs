//! Restarts and kills.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use rand::RngExt;
use serde_json::Value;

use super::env::{TestEnv, development};

const STACKS: usize = 20;
const KILLS: usize = 10;

/// Neither the restart, nor the resyncs.
pub async fn twenty_settled_stacks_cost_nothing_after_a_restart(env: &TestEnv) {
    let namespaces: Vec<String> = (0..STACKS).map(|index| format!("settled-{index}")).collect();
    let operator = env.operator().await;
    for namespace in &namespaces {
        env.namespace(namespace).await;
        env.submit(namespace, development()).await;
    }
    futures::future::join_all(namespaces.iter().map(|namespace| env.settled(namespace))).await;
    operator.kill();
    let mark = env.mark();
    let operator = env.operator_with(&["--resync-period=1s"]).await;
    env.settled(&namespaces[STACKS - 1]).await;
    let resynced = operator.reconciles().await + 2 * STACKS as u64;
    env.until("each is reconciled again", async || operator.reconciles().await >= resynced).await;
    for namespace in &namespaces {
        let calls = env.calls(namespace, mark);
        assert!(calls.is_empty(), "{namespace}: {calls:?}");
    }
    println!("peak memory with {STACKS} stacks: {} KiB (debug build)", operator.peak_memory());
}

/// The watches begin anew, each with a list that holds no news.
pub async fn an_api_server_that_comes_back_is_written_nothing(env: &TestEnv) {
    let operator = env.operator().await;
    env.namespace("back").await;
    env.apply("back", development()).await;
    let mark = env.mark();
    env.restart_apiserver();
    // Each kind is watched anew before this is written.
    let mut spec = development();
    spec["admin"]["image"] = serde_json::json!("rorun-admin:2");
    env.apply("back", spec).await;
    assert_eq!(env.edited("back", mark), ["patch deployments/shop-admin"]);
    let mut lists = BTreeMap::<String, usize>::new();
    for call in env.calls("", mark).iter().filter(|call| call.verb == "list") {
        *lists.entry(call.resource.clone()).or_default() += 1;
    }
    assert!(lists.values().all(|count| *count <= 3), "{lists:?}");
    drop(operator);
}

/// Kills at random moments while a stack is made; whichever write was the last, the end is that of an undisturbed run, and
/// nothing was made twice.
pub async fn a_killed_operator_reaches_the_same_end(env: &TestEnv) {
    let operator = env.operator().await;
    env.namespace("undisturbed").await;
    env.apply("undisturbed", development()).await;
    operator.kill();
    let reference = shape(env, "undisturbed").await;
    for round in 0..KILLS {
        let namespace = format!("killed-{round}");
        env.namespace(&namespace).await;
        let mark = env.mark();
        let operator = env.operator().await;
        env.submit(&namespace, development()).await;
        let moment = rand::rng().random_range(50..450);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        operator.kill();
        let made = env.children(&namespace).await.len();
        let operator = env.operator().await;
        env.settled(&namespace).await;
        assert_eq!(shape(env, &namespace).await, reference, "killed after {moment} ms with {made} children made");
        let calls = env.calls(&namespace, mark);
        let mut creates = BTreeMap::<String, usize>::new();
        for call in calls.iter().filter(|call| call.code == 201 && call.resource != "events") {
            *creates.entry(format!("{}/{}", call.resource, call.name)).or_default() += 1;
        }
        assert!(creates.values().all(|count| *count == 1), "made twice: {creates:?}");
        println!("  killed after {moment} ms with {made} children made");
        drop(operator);
    }
}

/// The children without what differs between two runs: uids, times, hashes and generated values.
async fn shape(env: &TestEnv, namespace: &str) -> BTreeMap<String, Value> {
    let stack = env.stacks(namespace).get("shop").await.expect("the stack");
    let uid = stack.uid().unwrap_or_default();
    let space = Api::<Namespace>::all(env.client.clone()).get(namespace).await.expect("the namespace");
    let space = space.uid().expect("a uid");
    let mut shapes = BTreeMap::new();
    for child in env.children(namespace).await {
        let kind = child.types.as_ref().expect("types").kind.clone();
        let mut data = child.data.clone();
        if let Some(members) = data.as_object_mut() {
            members.remove("status");
            if kind == "Secret" {
                let keys = members["data"].as_object().map(|data| data.keys().cloned().collect::<Vec<_>>());
                members.insert("data".to_owned(), serde_json::json!(keys));
            }
        }
        if let Some(spec) = data.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        let text = [(namespace, "NAMESPACE"), (&*uid, "UID"), (&*space, "SPACE")]
            .iter()
            .fold(data.to_string(), |text, (one, any)| text.replace(one, any));
        let owned = child.owner_references().iter().all(|owner| owner.uid == uid);
        assert!(owned, "{kind}/{} belongs to another", child.name_any());
        shapes.insert(format!("{kind}/{}", child.name_any()), serde_json::from_str(&text).expect("JSON"));
    }
    shapes
}

/// Outside a chart nothing names a process: two of one host must not take each other's lease for their own.
pub async fn of_two_processes_without_a_name_one_leads(env: &TestEnv) {
    let first = env.candidate().await;
    env.until("the first leads", async || first.said("leading")).await;
    let second = env.candidate().await;
    env.until("the second stands by", async || second.said("standing by")).await;
    assert!(!second.said("leading"), "two lead");
}
