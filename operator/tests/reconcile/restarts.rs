//! Restarts and kills.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use rand::RngExt;
use serde_json::Value;

use super::room::{Room, development};

const STACKS: usize = 20;
const KILLS: usize = 10;

/// Neither the restart, nor what is looked at again and again without a cause.
pub async fn twenty_settled_stacks_cost_nothing_after_a_restart(room: &Room) {
    let namespaces: Vec<String> = (0..STACKS).map(|index| format!("settled-{index}")).collect();
    let operator = room.operator().await;
    for namespace in &namespaces {
        room.namespace(namespace).await;
        room.submit(namespace, development()).await;
    }
    futures::future::join_all(namespaces.iter().map(|namespace| room.settled(namespace))).await;
    operator.kill();
    let mark = room.mark();
    let operator = room.operator_with(&["--resync-period=1s"]).await;
    room.settled(&namespaces[STACKS - 1]).await;
    let looked = operator.passes().await + 2 * STACKS as u64;
    room.until("each is looked at again", async || operator.passes().await >= looked).await;
    for namespace in &namespaces {
        let calls = room.calls(namespace, mark);
        assert!(calls.is_empty(), "{namespace}: {calls:?}");
    }
    println!("peak memory with {STACKS} stacks: {} KiB (debug build)", operator.peak_memory());
}

/// The watches begin anew, each with a list, and nothing that they tell is news.
pub async fn an_api_server_that_comes_back_is_written_nothing(room: &Room) {
    let operator = room.operator().await;
    room.namespace("back").await;
    room.apply("back", development()).await;
    let mark = room.mark();
    room.restart_apiserver();
    // Each kind is watched anew before this is written.
    let mut spec = development();
    spec["admin"]["image"] = serde_json::json!("rorun-admin:2");
    room.apply("back", spec).await;
    assert_eq!(room.writes("back", mark), ["patch deployments/shop-admin"]);
    let mut lists = BTreeMap::<String, usize>::new();
    for call in room.calls("", mark).iter().filter(|call| call.verb == "list") {
        *lists.entry(call.resource.clone()).or_default() += 1;
    }
    assert!(lists.values().all(|count| *count <= 3), "{lists:?}");
    drop(operator);
}

/// Kills at random moments while a stack is made; whichever write was the last, the end is that of an undisturbed run, and
/// nothing was made twice.
pub async fn a_killed_operator_reaches_the_same_end(room: &Room) {
    let operator = room.operator().await;
    room.namespace("undisturbed").await;
    room.apply("undisturbed", development()).await;
    operator.kill();
    let reference = shape(room, "undisturbed").await;
    for round in 0..KILLS {
        let namespace = format!("killed-{round}");
        room.namespace(&namespace).await;
        let mark = room.mark();
        let operator = room.operator().await;
        room.submit(&namespace, development()).await;
        let moment = rand::rng().random_range(50..450);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        operator.kill();
        let made = room.children(&namespace).await.len();
        let operator = room.operator().await;
        room.settled(&namespace).await;
        assert_eq!(shape(room, &namespace).await, reference, "killed after {moment} ms with {made} children made");
        let calls = room.calls(&namespace, mark);
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
async fn shape(room: &Room, namespace: &str) -> BTreeMap<String, Value> {
    let stack = room.stacks(namespace).get("shop").await.expect("the stack");
    let uid = stack.uid().unwrap_or_default();
    let space = Api::<Namespace>::all(room.client.clone()).get(namespace).await.expect("the namespace");
    let space = space.uid().expect("a uid");
    let mut shapes = BTreeMap::new();
    for child in room.children(namespace).await {
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
pub async fn of_two_processes_without_a_name_one_leads(room: &Room) {
    let first = room.candidate().await;
    room.until("the first leads", async || first.said("leading")).await;
    let second = room.candidate().await;
    room.until("the second stands by", async || second.said("standing by")).await;
    assert!(!second.said("leading"), "two lead");
}
