//! Whose the backups of a stack are.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::env::{TestEnv, development};

/// The arguments of the agent.
async fn arguments(env: &TestEnv, namespace: &str) -> Vec<String> {
    let job = env.objects("CronJob", namespace).get("shop-backup").await.expect("the CronJob");
    let args = job.data.pointer("/spec/jobTemplate/spec/template/spec/containers/0/args").and_then(Value::as_array);
    args.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}

async fn backup_status(env: &TestEnv, namespace: &str) -> Value {
    let stack = env.stacks(namespace).get("shop").await.expect("the stack");
    serde_json::to_value(stack.status.and_then(|status| status.backup)).expect("JSON")
}

/// The same when the stack is made again, and found out anew for it.
pub async fn the_owner_of_backups_is_asked_for_once(env: &TestEnv) {
    let namespace = "owner";
    env.namespace(namespace).await;
    let mark = env.mark();
    env.apply(namespace, development()).await;
    let uid = Api::<Namespace>::all(env.client.clone()).get(namespace).await.expect("it is there").uid();
    let owner = format!("{}/shop", uid.expect("a uid"));
    let reads = || env.calls(namespace, mark).into_iter().filter(|call| call.resource == "namespaces").count();
    let first = env.stacks(namespace).get("shop").await.expect("the stack").uid();
    let args = arguments(env, namespace).await;
    assert_eq!((value_of(&args, "--owner"), value_of(&args, "--stack-uid")), (Some(&*owner), first.as_deref()));
    let status = backup_status(env, namespace).await;
    assert_eq!((&status["owner"], &status["stackUID"]), (&json!(owner), &json!(first)));
    let mut spec = development();
    spec["backup"] = json!({"schedule": "@hourly"});
    env.apply(namespace, spec).await;
    assert_eq!(reads(), 1, "the namespace is read again and again");
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
    // No garbage collector runs here.
    for child in env.children(namespace).await.iter().filter(|child| !child.owner_references().is_empty()) {
        let kind = child.types.as_ref().expect("types").kind.clone();
        env.delete(&kind, namespace, &child.name_any()).await;
    }
    env.apply(namespace, development()).await;
    let args = arguments(env, namespace).await;
    let second = env.stacks(namespace).get("shop").await.expect("the stack").uid();
    assert_eq!((value_of(&args, "--owner"), value_of(&args, "--stack-uid")), (Some(&*owner), second.as_deref()));
    assert_ne!(first, second);
}

/// A pod that says what a run found, as the kubelet would tell.
async fn pod_that_says(env: &TestEnv, namespace: &str, said: &Value) {
    let labels = json!({"app.kubernetes.io/managed-by": "rorun-operator", "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/component": "backup"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "by-hand", "labels": labels},
        "spec": {"serviceAccountName": "shop-backup", "automountServiceAccountToken": false,
            "containers": [{"name": "dump", "image": "postgres:17"}]}});
    let pods = env.objects("Pod", namespace);
    let pod = serde_json::from_value(pod).expect("a pod");
    pods.create(&kube::api::PostParams::default(), &pod).await.expect("it is made");
    let state = json!({"terminated": {"exitCode": 0, "message": said.to_string()}});
    let status = json!({"phase": "Succeeded", "containerStatuses": [
        {"name": "dump", "image": "postgres:17", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
    let patch = Patch::Merge(json!({"status": status}));
    pods.patch_status("by-hand", &PatchParams::default(), &patch).await.expect("its status");
}

pub async fn a_wish_to_adopt_is_obeyed_once(env: &TestEnv) {
    let namespace = "adopt-backups";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    let annotate = async |value: &str| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/adopt-backups": value}}}));
        env.stacks(namespace).patch("shop", &PatchParams::default(), &patch).await.expect("it is annotated");
    };
    annotate("everything there is").await;
    env.until("the status says that the value is none", async || {
        env.condition(namespace, "BackupHealthy").await.2.contains("rorun.app/adopt-backups is not obeyed")
    })
    .await;
    assert_eq!(value_of(&arguments(env, namespace).await, "--adopt"), None);
    annotate("some-uid/shop").await;
    env.until("the status shows the next run", async || {
        value_of(&arguments(env, namespace).await, "--adopt") == Some("some-uid/shop")
    })
    .await;
    let adoption = json!({"value": "some-uid/shop", "done": true, "message": "3 backups are this stack's own now"});
    let record = json!({"id": "20260101T000000Z-bbbbb", "at": "2026-01-01T00:00:00Z", "sizeBytes": 7, "sha256": "0",
        "location": "s3://shop-bucket/x", "removed": 0, "adoption": adoption, "sharedWith": "third-uid/shop"});
    pod_that_says(env, namespace, &json!({"complete": record})).await;
    env.until("the wish is handled", async || value_of(&arguments(env, namespace).await, "--adopt").is_none()).await;
    let status = backup_status(env, namespace).await;
    let fields = ["adopted", "adoption", "sharedWith"].map(|field| status[field].clone());
    assert_eq!(
        fields,
        ["some-uid/shop", "3 backups are this stack's own now", "third-uid/shop"].map(|text| json!(text))
    );
}
