//! What the operator calls.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::env::{Operator, TestEnv, development};

/// One after the other, on one stack.
pub async fn what_the_operator_calls(env: &TestEnv, operator: &Operator) {
    creating_a_stack_costs_its_children_and_three(env).await;
    a_label_on_the_stack_costs_nothing(env).await;
    an_unknown_command_costs_a_reconcile_and_no_call(env, operator).await;
    a_change_of_one_field_writes_one_child(env).await;
    a_change_of_a_field_of_several_children_costs_them_and_one_status(env).await;
}

async fn creating_a_stack_costs_its_children_and_three(env: &TestEnv) {
    env.namespace("create").await;
    let mark = env.mark();
    env.apply("create", development()).await;
    let calls = env.calls("create", mark);
    let children = env.children("create").await.len();
    let listed: Vec<_> =
        calls.iter().map(|call| format!("{} {} {} {}", call.verb, call.resource, call.name, call.code)).collect();
    assert!(children >= 20, "only {children} children");
    // A list of the volumes of an earlier stack, a first status at once, and one when all children are created; and, since the
    // stack has backups, one read of the namespace, whose uid is in the owner of the backups.
    let reads = listed.iter().filter(|call| call.starts_with("get namespaces ")).count();
    assert_eq!(reads, 1, "{}", listed.join("\n"));
    assert!(
        calls.len() - reads <= children + 3,
        "{} calls for {children} children:\n{}",
        calls.len(),
        listed.join("\n")
    );
}

async fn a_label_on_the_stack_costs_nothing(env: &TestEnv) {
    let mark = env.mark();
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}));
    env.stacks("create").patch("shop", &PatchParams::default(), &label).await.expect("the label is set");
    env.settled("create").await;
    let calls = env.calls("create", mark);
    assert!(calls.is_empty(), "{calls:?}");
}

/// Each annotation of the operator's prefix may be a command, also one that this version does not know.
async fn an_unknown_command_costs_a_reconcile_and_no_call(env: &TestEnv, operator: &Operator) {
    let (mark, before) = (env.mark(), operator.reconciles().await);
    let command = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/of-a-later-release": "1"}}}));
    env.stacks("create").patch("shop", &PatchParams::default(), &command).await.expect("the annotation is set");
    env.until("the stack is reconciled", async || operator.reconciles().await > before).await;
    env.settled("create").await;
    let calls = env.calls("create", mark);
    assert!(calls.is_empty(), "{calls:?}");
}

/// And the Secret that tells dumps the spec.
async fn a_change_of_one_field_writes_one_child(env: &TestEnv) {
    let mark = env.mark();
    let mut spec = development();
    spec["admin"]["image"] = json!("rorun-admin:2");
    env.apply("create", spec).await;
    assert_eq!(env.edited("create", mark), ["patch deployments/shop-admin"]);
}

async fn a_change_of_a_field_of_several_children_costs_them_and_one_status(env: &TestEnv) {
    let (mark, before) = (env.mark(), env.versions("create").await);
    let mut spec = development();
    spec["image"] = json!({"registry": "registry.example.com"});
    env.apply("create", spec).await;
    let (calls, after) = (env.calls("create", mark), env.versions("create").await);
    let child = |of: &str| of != "stack" && !of.starts_with("ControllerRevision/");
    let changed = after.iter().filter(|(of, version)| child(of) && before.get(*of) != Some(*version)).count();
    assert!(changed > 1, "only {changed} children name an image");
    assert_eq!(env.writes("create", mark).len(), changed);
    // One status says that they were changed, in the words that fit what the watch then shows of the rollout. The release gets a
    // record, and that of the one before, which never served, is deleted.
    assert!(calls.len() <= changed + 3, "{} calls for {changed} children: {calls:?}", calls.len());
}

/// The finalizer, where data would be deleted; nothing, where they are kept.
pub async fn a_stack_without_data_costs_one_write_to_delete(env: &TestEnv) {
    for (policy, most) in [("Delete", 1), ("Retain", 0)] {
        let namespace = format!("delete-{}", policy.to_lowercase());
        env.namespace(&namespace).await;
        let secrets: Api<Secret> = Api::namespaced(env.client.clone(), &namespace);
        let services = json!({"metadata": {"name": "services"}, "stringData": {
            "DATABASE_URL": "postgresql://user:none@127.0.0.1:1/shop", "REDIS_URL": "redis://127.0.0.1:1",
            "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
        }});
        let services = serde_json::from_value(services).expect("a Secret");
        secrets.create(&PostParams::default(), &services).await.expect("the Secret is made");
        env.apply(&namespace, external(policy)).await;
        let mark = env.mark();
        env.stacks(&namespace).delete("shop", &DeleteParams::default()).await.expect("it is deleted");
        env.until("the stack is gone", async || {
            env.stacks(&namespace).get_opt("shop").await.expect("an answer").is_none()
        })
        .await;
        env.pause().await;
        let writes = env.writes(&namespace, mark);
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
