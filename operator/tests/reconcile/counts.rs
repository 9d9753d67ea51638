//! What the operator calls.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::room::{Room, development};

/// One after the other, on one stack.
pub async fn what_the_operator_calls(room: &Room) {
    creating_a_stack_costs_its_children_and_three(room).await;
    a_label_on_the_stack_costs_nothing(room).await;
    a_change_of_one_field_writes_one_child(room).await;
    a_change_of_a_field_of_several_children_costs_them_and_one_status(room).await;
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
    // A look for volumes of an earlier stack, a first status at once, and one when all is made; and, since it has backups, one
    // look at the namespace, which tells whose these are.
    let looks = told.iter().filter(|call| call.starts_with("get namespaces ")).count();
    assert_eq!(looks, 1, "{}", told.join("\n"));
    assert!(calls.len() - looks <= children + 3, "{} calls for {children} children:\n{}", calls.len(), told.join("\n"));
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

async fn a_change_of_a_field_of_several_children_costs_them_and_one_status(room: &Room) {
    let (mark, before) = (room.mark(), room.versions("create").await);
    let mut spec = development();
    spec["image"] = json!({"registry": "registry.example.com"});
    room.apply("create", spec).await;
    let (calls, after) = (room.calls("create", mark), room.versions("create").await);
    let changed = after.iter().filter(|(of, version)| *of != "stack" && before.get(*of) != Some(*version)).count();
    assert!(changed > 1, "only {changed} children name an image");
    assert_eq!(room.writes("create", mark).len(), changed);
    // One status says that they were changed, in the words that fit what the watch then shows of the rollout.
    assert!(calls.len() <= changed + 1, "{} calls for {changed} children: {calls:?}", calls.len());
}

/// The finalizer, where data would be deleted; nothing, where they are kept.
pub async fn a_stack_without_data_costs_one_write_to_delete(room: &Room) {
    for (policy, most) in [("Delete", 1), ("Retain", 0)] {
        let namespace = format!("delete-{}", policy.to_lowercase());
        room.namespace(&namespace).await;
        let secrets: Api<Secret> = Api::namespaced(room.client.clone(), &namespace);
        let services = json!({"metadata": {"name": "services"}, "stringData": {
            "DATABASE_URL": "postgresql://user:none@127.0.0.1:1/shop", "REDIS_URL": "redis://127.0.0.1:1",
            "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
        }});
        let services = serde_json::from_value(services).expect("a Secret");
        secrets.create(&PostParams::default(), &services).await.expect("the Secret is made");
        room.apply(&namespace, external(policy)).await;
        let mark = room.mark();
        room.stacks(&namespace).delete("shop", &DeleteParams::default()).await.expect("it is deleted");
        room.until("the stack is gone", async || {
            room.stacks(&namespace).get_opt("shop").await.expect("an answer").is_none()
        })
        .await;
        room.pause().await;
        let writes = room.writes(&namespace, mark);
        assert_eq!(writes.len(), most, "{policy}: {writes:?}");
    }
}

fn external(policy: &str) -> Value {
    let secret = json!({"name": "services"});
    json!({
        "environment": "Development",
        "deletionPolicy": policy,
        "api": {"image": "rorun-api:1"},
        "database": {"external": {"secretRef": secret}},
        "redis": {"external": {"secretRef": secret}},
        "bucket": {"external": {"name": "shop", "endpoint": "http://127.0.0.1:1", "credentialsSecretRef": secret}},
    })
}
