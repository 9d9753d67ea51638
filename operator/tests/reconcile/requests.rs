//! RorunBackups: the stack makes the Job, and the RorunBackup keeps what became of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rorun_operator::api::v1alpha1::{RorunBackup, RorunBackupStatus};
use serde_json::{Value, json};

use super::{
    conditions::set_status,
    env::{TestEnv, development},
};

/// What the agent says at the end of a good backup.
const ID: &str = "20261124T021500Z-x7k2p";

pub async fn ask(env: &TestEnv, namespace: &str, name: &str) -> String {
    let backup = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunBackup", "metadata": {"name": name},
        "spec": {"stackRef": {"name": "shop"}}});
    let backup: RorunBackup = serde_json::from_value(backup).expect("a RorunBackup");
    let made = env.backups(namespace).create(&PostParams::default(), &backup).await.expect("it is created");
    made.uid().expect("a uid")
}

pub async fn status(env: &TestEnv, namespace: &str, name: &str) -> RorunBackupStatus {
    env.backups(namespace).get(name).await.expect("the RorunBackup").status.unwrap_or_default()
}

pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<(&'a str, &'a str)> {
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((&found.status, &found.reason))
}

pub async fn until_reason(env: &TestEnv, namespace: &str, name: &str, reason: &str) -> RorunBackupStatus {
    env.until(&format!("{name} says {reason}"), async || {
        let found = status(env, namespace, name).await;
        found.conditions.iter().any(|condition| condition.type_ == "Complete" && condition.reason == reason)
    })
    .await;
    status(env, namespace, name).await
}

pub async fn jobs(env: &TestEnv, namespace: &str) -> Vec<kube::api::DynamicObject> {
    env.objects("Job", namespace).list(&ListParams::default()).await.expect("a list").items
}

/// Ends a Job as its controller and the kubelet do: its pod says something, and then its condition says how it ended.
pub async fn end(env: &TestEnv, namespace: &str, name: &str, said: &Value, well: bool) {
    end_in(env, namespace, name, ("containerStatuses", said), well).await;
}

/// Likewise, in the words of one of its containers.
pub async fn end_in(env: &TestEnv, namespace: &str, name: &str, (containers, said): (&str, &Value), well: bool) {
    let job = env.objects("Job", namespace).get(name).await.expect("the Job");
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job.uid(), "controller": true});
    let account = job.data.pointer("/spec/template/spec/serviceAccountName");
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{name}-x"), "labels": job.labels(), "ownerReferences": [owner]},
        "spec": {"automountServiceAccountToken": false, "serviceAccountName": account, "containers": [{"name": "agent", "image": "postgres:17"}]}});
    let pods = env.objects("Pod", namespace);
    pods.create(&PostParams::default(), &serde_json::from_value(pod).expect("a pod")).await.expect("its pod is made");
    let state = json!({"terminated": {"exitCode": i32::from(!well), "message": said.to_string()}});
    let ended = json!({"phase": if well { "Succeeded" } else { "Failed" }, containers: [{"name": "agent",
        "image": "postgres:17", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
    let patch = Patch::Merge(json!({"status": ended}));
    pods.patch_status(&format!("{name}-x"), &PatchParams::default(), &patch).await.expect("its status");
    let at = |second: &str| format!("2026-11-24T02:20:{second}Z");
    let condition = |kind: &str, why: &str| {
        json!({"type": kind, "status": "True", "reason": why, "lastTransitionTime": at("30"), "lastProbeTime": at("30"),
            "message": "it has ended"})
    };
    let status = if well {
        json!({"startTime": at("00"), "completionTime": at("30"), "succeeded": 1, "conditions": [
            condition("SuccessCriteriaMet", "CompletionsReached"), condition("Complete", "CompletionsReached")]})
    } else {
        json!({"startTime": at("00"), "conditions": [
            condition("FailureTarget", "BackoffLimitExceeded"), condition("Failed", "BackoffLimitExceeded")]})
    };
    set_status(env, ("Job", namespace, name), status).await;
}

fn record() -> Value {
    json!({"complete": {"id": ID, "at": "2026-11-24T02:20:00Z", "sizeBytes": 7, "sha256": "0",
        "location": format!("s3://shop-bucket/backups/n/shop/{ID}/manifest.json"), "removed": 0}})
}

pub async fn a_backup_is_made_once_and_keeps_its_result(env: &TestEnv) {
    let namespace = "backup-once";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    ask(env, namespace, "first").await;
    ask(env, namespace, "second").await;
    env.until("the first runs", async || status(env, namespace, "first").await.phase == "Running").await;
    env.settled(namespace).await;
    let there = jobs(env, namespace).await;
    assert_eq!(there.len(), 1, "backups run one after the other");
    let first = there[0].name_any();
    assert_eq!(there[0].owner_references()[0].kind, "RorunStack");
    let waits = status(env, namespace, "second").await;
    assert_eq!(condition(&waits.conditions, "Complete"), Some(("False", "DependencyNotReady")));
    assert_eq!(condition(&waits.conditions, "Reconciling").map(|(status, _)| status), Some("True"));
    assert!(waits.conditions[0].message.contains(&first), "{:?}", waits.conditions);

    end(env, namespace, &first, &record(), true).await;
    let done = until_reason(env, namespace, "first", "Complete").await;
    assert_eq!((&*done.phase, done.id.as_deref(), done.size_bytes), ("Complete", Some(ID), Some(7)));
    assert!(done.location.is_some_and(|location| location.ends_with("manifest.json")));
    assert_eq!(done.job.as_deref(), Some(&*first));
    assert!(done.completed_at.is_some() && done.duration_seconds.is_some());
    assert_eq!(done.conditions.len(), 1, "what is over is neither reconciling nor stalled: {:?}", done.conditions);

    env.until("the second runs", async || status(env, namespace, "second").await.phase == "Running").await;
    let second = status(env, namespace, "second").await.job.expect("its Job");
    end(env, namespace, &second, &json!({"failed": {"message": "no space left on device"}}), false).await;
    let failed = until_reason(env, namespace, "second", "BackupFailed").await;
    assert_eq!(condition(&failed.conditions, "Failed"), Some(("True", "BackupFailed")));
    assert_eq!(condition(&failed.conditions, "Stalled").map(|(status, _)| status), Some("True"));
    assert!(failed.conditions[0].message.contains("no space left on device"), "{:?}", failed.conditions);

    // What is over asks for nothing, also when its Job is gone; and a RorunBackup that goes takes nothing with it.
    for job in [&first, &second] {
        env.objects("Job", namespace).delete(job, &DeleteParams::background()).await.expect("it is deleted");
    }
    let mark = env.mark();
    env.backups(namespace).delete("first", &DeleteParams::default()).await.expect("it is deleted");
    env.settled(namespace).await;
    assert!(jobs(env, namespace).await.is_empty());
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));
}

pub async fn what_keeps_a_backup_from_beginning_is_told(env: &TestEnv) {
    let namespace = "backup-waits";
    env.namespace(namespace).await;
    ask(env, namespace, "now").await;
    let missing = until_reason(env, namespace, "now", "StackNotFound").await;
    assert_eq!(condition(&missing.conditions, "Stalled").map(|(status, _)| status), Some("True"));
    let with = |field: &str, value: Value| {
        let mut spec = development();
        spec[field] = value;
        spec
    };
    let mut without = development();
    without.as_object_mut().expect("a spec").remove("backup");
    env.submit(namespace, without).await;
    until_reason(env, namespace, "now", "BackupNotSet").await;
    env.submit(namespace, with("suspend", json!(true))).await;
    until_reason(env, namespace, "now", "Suspended").await;
    env.submit(namespace, with("hibernate", json!(true))).await;
    until_reason(env, namespace, "now", "Hibernated").await;
    assert!(jobs(env, namespace).await.is_empty());
    env.submit(namespace, development()).await;
    env.until("it runs", async || status(env, namespace, "now").await.phase == "Running").await;

    // A migration in between would not be in the point, so the spec of a RorunBackup is what it was when it began.
    let patch = Patch::Merge(json!({"spec": {"stackRef": {"name": "other"}}}));
    let refused =
        env.backups(namespace).patch("now", &PatchParams::default(), &patch).await.expect_err("it is refused");
    assert!(refused.to_string().contains("create another one"), "{refused}");
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    let job = status(env, namespace, "now").await.job.expect("its Job");
    end(env, namespace, &job, &record(), true).await;
    let done = until_reason(env, namespace, "now", "Complete").await;
    assert_eq!(done.id.as_deref(), Some(ID), "the stack waits for the Job, and its result is told");
}

/// Needs an operator of its own: it is killed.
pub async fn a_backup_outlives_the_operator(env: &TestEnv) {
    let namespace = "backup-killed";
    env.namespace(namespace).await;
    let operator = env.operator().await;
    env.apply(namespace, development()).await;
    ask(env, namespace, "now").await;
    env.until("it runs", async || status(env, namespace, "now").await.phase == "Running").await;
    env.settled(namespace).await;
    operator.kill();
    let version = async || env.backups(namespace).get("now").await.expect("it is there").resource_version();
    let (before, mark) = (version().await, env.mark());
    let operator = env.operator().await;
    env.settled(namespace).await;
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));
    assert_eq!(version().await, before, "a new operator has no news of it");
    operator.kill();
    let job = status(env, namespace, "now").await.job.expect("its Job");
    end(env, namespace, &job, &record(), true).await;
    let operator = env.operator().await;
    until_reason(env, namespace, "now", "Complete").await;
    env.settled(namespace).await;
    let (before, mark) = (version().await, env.mark());
    drop(operator);
    let operator = env.operator().await;
    env.settled(namespace).await;
    assert_eq!((version().await, env.calls(namespace, mark).len()), (before, 0));
    drop(operator);
}
