//! What the operator calls.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::room::{Room, development};

/// One after the other, on one stack.
pub async fn what_the_operator_calls(room: &Room) {
    creating_a_stack_costs_its_children_and_three(room).await;
    a_label_on_the_stack_costs_nothing(room).await;
    a_change_of_one_field_writes_one_child(room).await;
}

async fn creating_a_stack_costs_its_children_and_three(room: &Room) {
    room.namespace("create").await;
    let mark = room.mark();
    room.apply("create", development()).await;
    let calls = room.calls("create", mark);
    let children = room.children("create").await.len();
    let told: Vec<_> =
        calls.iter().map(|call| format!("{} {} {} {}", call.verb, call.resource, call.name, call.code)).collect();
    assert!(children >= 20, "only {children} children");
    assert!(calls.len() <= children + 3, "{} calls for {children} children:\n{}", calls.len(), told.join("\n"));
}

async fn a_label_on_the_stack_costs_nothing(room: &Room) {
    let mark = room.mark();
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}));
    room.stacks("create").patch("shop", &PatchParams::default(), &label).await.expect("the label is set");
    room.settled("create").await;
    let calls = room.calls("create", mark);
    assert!(calls.is_empty(), "{calls:?}");
}

async fn a_change_of_one_field_writes_one_child(room: &Room) {
    let mark = room.mark();
    let mut spec = development();
    spec["admin"]["image"] = json!("rorun-admin:2");
    room.apply("create", spec).await;
    assert_eq!(room.writes("create", mark), ["patch deployments/shop-admin"]);
}
