//! Restores, whose Jobs are played. The application has no pods here; that they end and start is for the scenario on a cluster.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use rorun_operator::api::v1alpha1::{RorunRestore, RorunRestoreStatus};
use serde_json::{Value, json};

use super::{
    conditions::set_status,
    env::{TestEnv, development},
    requests::{end, jobs},
};

const POINT: &str = "20261124T021500Z-x7k2p";
const KEPT: &str = "shop_before_abcdef";

fn restores(env: &TestEnv, namespace: &str) -> Api<RorunRestore> {
    Api::namespaced(env.client.clone(), namespace)
}

pub async fn ask(env: &TestEnv, namespace: &str, name: &str, stack_uid: &str) {
    let restore = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunRestore", "metadata": {"name": name},
        "spec": {"stackRef": {"name": "shop", "uid": stack_uid}, "from": {"id": POINT}}});
    let restore = serde_json::from_value(restore).expect("a RorunRestore");
    restores(env, namespace).create(&PostParams::default(), &restore).await.expect("it is created");
}

/// A stack whose database has a pod that is ready.
async fn apply(env: &TestEnv, namespace: &str) {
    env.apply(namespace, development()).await;
    let set = env.objects("StatefulSet", namespace).get("shop-database").await.expect("the StatefulSet");
    let serves = json!({"observedGeneration": set.metadata.generation, "replicas": 1, "readyReplicas": 1});
    set_status(env, ("StatefulSet", namespace, "shop-database"), serves).await;
}

pub async fn stack_uid(env: &TestEnv, namespace: &str) -> String {
    env.stacks(namespace).get("shop").await.expect("the stack").uid().expect("a uid")
}

pub async fn status(env: &TestEnv, namespace: &str, name: &str) -> RorunRestoreStatus {
    restores(env, namespace).get(name).await.expect("the RorunRestore").status.unwrap_or_default()
}

pub async fn until_phase(env: &TestEnv, namespace: &str, name: &str, phase: &str) -> RorunRestoreStatus {
    env.until(&format!("{name} is {phase}"), async || status(env, namespace, name).await.phase == phase).await;
    status(env, namespace, name).await
}

/// What the Job does: the word after `agent restore`, or after `agent`.
pub fn step_of(job: &DynamicObject) -> String {
    let args = job.data.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array);
    let words: Vec<_> = args.into_iter().flatten().filter_map(Value::as_str).collect();
    let word = if words.get(1) == Some(&"restore") { words.get(2) } else { words.get(1) };
    word.copied().unwrap_or_default().to_owned()
}

/// The one Job that has not ended, once it is there.
pub async fn open(env: &TestEnv, namespace: &str) -> DynamicObject {
    let found = async || {
        let all = jobs(env, namespace).await;
        let ended = |job: &DynamicObject| job.data.pointer("/status/conditions").is_some();
        all.into_iter().filter(|job| !ended(job)).collect::<Vec<_>>()
    };
    let told = async || {
        let all = restores(env, namespace).list(&ListParams::default()).await.expect("a list");
        let told: Vec<_> = all.into_iter().filter_map(|of| of.status).collect();
        let jobs: Vec<_> = jobs(env, namespace).await.iter().map(|job| (job.name_any(), step_of(job))).collect();
        format!("; there are {jobs:?}, and {told:#?}")
    };
    env.until_or("a Job is there", async || !found().await.is_empty(), &told).await;
    let mut open = found().await;
    assert_eq!(open.len(), 1, "one step at a time{}", told().await);
    open.remove(0)
}

pub fn said(step: &str) -> Value {
    match step {
        "dump" => json!({"complete": {"id": "20261124T030000Z-aaaaa", "at": "2026-11-24T03:00:00Z", "sizeBytes": 7,
            "sha256": "0", "location": "s3://b/k", "removed": 0}}),
        "switch" => json!({"done": {"kept": {"name": KEPT, "sizeBytes": 7}, "durationSeconds": 1}}),
        _ => json!({"done": {"rows": 2, "tables": 1, "durationSeconds": 1}}),
    }
}

/// Plays the next Job, which has to be this step.
pub async fn play(env: &TestEnv, namespace: &str, step: &str) {
    let job = open(env, namespace).await;
    assert_eq!(step_of(&job), step);
    end(env, namespace, &job.name_any(), &said(step), true).await;
}

/// The Deployments roll out, as their controller tells.
async fn roll_out(env: &TestEnv, namespace: &str) {
    until_phase(env, namespace, "back", "Starting").await;
    env.settled(namespace).await;
    for there in env.objects("Deployment", namespace).list(&ListParams::default()).await.expect("a list") {
        let count = there.data["spec"]["replicas"].as_i64().expect("a number");
        assert!(count > 0, "{} stays stopped", there.name_any());
        let status = json!({"observedGeneration": there.metadata.generation, "replicas": count, "updatedReplicas": count,
            "readyReplicas": count, "availableReplicas": count});
        set_status(env, ("Deployment", namespace, &there.name_any()), status).await;
    }
}

pub async fn the_data_of_a_point_become_those_of_a_stack_once(env: &TestEnv) {
    let namespace = "restore-once";
    env.namespace(namespace).await;
    apply(env, namespace).await;
    let uid = stack_uid(env, namespace).await;
    ask(env, namespace, "back", &uid).await;
    for step in ["check", "copy", "verify"] {
        play(env, namespace, step).await;
    }
    ask(env, namespace, "second", &uid).await;
    env.until("the second waits for the first", async || {
        let conditions = status(env, namespace, "second").await.conditions;
        conditions.iter().any(|found| found.message.contains("rorunrestore/back"))
    })
    .await;
    play(env, namespace, "dump").await;
    let switch = open(env, namespace).await;
    assert_eq!(step_of(&switch), "switch");
    restores(env, namespace).delete("second", &DeleteParams::default()).await.expect("it is deleted");
    env.settled(namespace).await;
    let mark = env.mark();
    end(env, namespace, &switch.name_any(), &said("switch"), true).await;
    until_phase(env, namespace, "back", "Starting").await;
    let calls = env.calls(namespace, mark);
    let told = calls.iter().find(|call| call.subresource == "status").map(|call| call.resource.as_str());
    // One that is over is never looked at again: what it left stands in the status of the stack before.
    assert_eq!(told, Some("rorunstacks"));
    roll_out(env, namespace).await;
    play(env, namespace, "smoke-test").await;
    let done = until_phase(env, namespace, "back", "Complete").await;
    assert_eq!((done.kept.as_deref(), done.rows), (Some(KEPT), Some(2)));
    env.settled(namespace).await;
    let count = jobs(env, namespace).await.len();

    // The same manifest, another object: as by a tool that keeps what is in git.
    restores(env, namespace).delete("back", &DeleteParams::default()).await.expect("it is deleted");
    env.until("it is gone", async || restores(env, namespace).get_opt("back").await.expect("an answer").is_none())
        .await;
    ask(env, namespace, "back", &uid).await;
    let again = until_phase(env, namespace, "back", "Refused").await;
    assert!(again.conditions.iter().any(|found| found.reason == "AlreadyRestored"), "{:?}", again.conditions);
    env.settled(namespace).await;
    assert_eq!(jobs(env, namespace).await.len(), count);
    let mark = env.mark();
    env.settled(namespace).await;
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));

    let patch = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/discard": KEPT}}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &patch).await.expect("the annotation is set");
    play(env, namespace, "discard").await;
    env.until("nothing is kept", async || {
        let stack = env.stacks(namespace).get("shop").await.expect("the stack");
        stack.status.and_then(|status| status.restore).is_none()
    })
    .await;
}

pub async fn what_cannot_be_restored_leaves_the_live_data(env: &TestEnv) {
    let namespace = "restore-refused";
    env.namespace(namespace).await;
    apply(env, namespace).await;
    ask(env, namespace, "foreign", "another").await;
    let foreign = until_phase(env, namespace, "foreign", "Refused").await;
    assert!(foreign.conditions.iter().any(|found| found.reason == "AnotherStack"), "{:?}", foreign.conditions);
    assert!(jobs(env, namespace).await.is_empty());
    let uid = stack_uid(env, namespace).await;
    ask(env, namespace, "corrupt", &uid).await;
    let check = open(env, namespace).await.name_any();
    let refused = json!({"refused": {"reason": "PointCorrupt", "message": "the dump is cut off"}});
    end(env, namespace, &check, &refused, false).await;
    let corrupt = until_phase(env, namespace, "corrupt", "Refused").await;
    assert!(corrupt.conditions.iter().any(|found| found.reason == "PointCorrupt"), "{:?}", corrupt.conditions);
    ask(env, namespace, "broken", &uid).await;
    play(env, namespace, "check").await;
    let copy = open(env, namespace).await.name_any();
    end(env, namespace, &copy, &json!({"failed": {"message": "no route to the bucket"}}), false).await;
    until_phase(env, namespace, "broken", "Broken").await;
    env.settled(namespace).await;
    assert_eq!(jobs(env, namespace).await.len(), 3, "nothing is tried again by itself");

    // A retry of the stack is about something else; that of the restore is obeyed.
    let retry = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/retry": "1"}}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &retry).await.expect("the stack is annotated");
    env.settled(namespace).await;
    assert_eq!(jobs(env, namespace).await.len(), 3);
    restores(env, namespace).patch("broken", &PatchParams::default(), &retry).await.expect("it is annotated");
    play(env, namespace, "copy").await;
    until_phase(env, namespace, "broken", "Verifying").await;
    assert_eq!(jobs(env, namespace).await.len(), 5);
}

/// Each step is begun by one operator and seen to its end by the next, which repeats none of them.
pub async fn a_restore_outlives_the_operator(env: &TestEnv) {
    let namespace = "restore-killed";
    env.namespace(namespace).await;
    let mut operator = env.operator().await;
    apply(env, namespace).await;
    let uid = stack_uid(env, namespace).await;
    ask(env, namespace, "back", &uid).await;
    let mut steps = Vec::new();
    for step in ["check", "copy", "verify", "dump", "switch"] {
        let job = open(env, namespace).await;
        assert_eq!(step_of(&job), step, "after {steps:?}");
        env.settled(namespace).await;
        operator.kill();
        let mark = env.mark();
        operator = env.operator().await;
        env.settled(namespace).await;
        assert!(env.writes(namespace, mark).is_empty(), "{step}: {:?}", env.writes(namespace, mark));
        // It ends while nobody looks.
        operator.kill();
        end(env, namespace, &job.name_any(), &said(step), true).await;
        operator = env.operator().await;
        steps.push(job.name_any());
    }
    roll_out(env, namespace).await;
    play(env, namespace, "smoke-test").await;
    let done = until_phase(env, namespace, "back", "Complete").await;
    assert_eq!(done.kept.as_deref(), Some(KEPT));
    env.settled(namespace).await;
    assert_eq!(jobs(env, namespace).await.len(), steps.len() + 1, "a step was repeated");
    operator.kill();
    let mark = env.mark();
    operator = env.operator().await;
    env.settled(namespace).await;
    assert!(env.writes(namespace, mark).is_empty(), "{:?}", env.writes(namespace, mark));
    drop(operator);
}

pub async fn a_manifest_that_is_wrong_is_refused(env: &TestEnv) {
    let namespace = "restore-wrong";
    env.namespace(namespace).await;
    let api = restores(env, namespace);
    // As a user wrote it, whatever the type would make of it.
    let unread: Api<DynamicObject> =
        Api::namespaced_with(env.client.clone(), namespace, &ApiResource::erase::<RorunRestore>(&()));
    let make = async |spec: Value| {
        let restore = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunRestore", "metadata": {"name": "r"}, "spec": spec});
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let object: DynamicObject = serde_json::from_value(restore).expect("an object");
        let refused = unread.create(&params, &object).await;
        refused.map_err(|error| error.to_string()).map(drop)
    };
    let stack = json!({"name": "shop", "uid": "1"});
    let whole = || json!({"stackRef": stack, "from": {"id": POINT}});
    assert_eq!(make(whole()).await, Ok(()));
    let with = |field: &str, value: Value| {
        let mut spec = whole();
        spec[field] = value;
        spec
    };
    let moment = |field: &str, value: Value| {
        let mut spec = with(field, value);
        spec["from"] = json!({"pointInTime": "2026-11-29T14:02:59.123456+01:00"});
        spec
    };
    assert_eq!(make(moment("scope", json!(["Database"]))).await, Ok(()));
    let into = json!({"name": "s", "key": "URL"});
    let mut emptied = with("intoSecretRef", into.clone());
    emptied["scope"] = json!(["Bucket"]);
    let mut objects_alone = with("target", json!("Stack"));
    objects_alone["scope"] = json!(["Bucket"]);
    let mut filling = with("intoSecretRef", into);
    filling["target"] = json!("Stack");
    for (spec, words) in [
        (with("stackRef", json!({"name": "shop"})), "target InPlace needs stackRef.uid"),
        (with("from", json!({})), "set exactly one of backupRef, id, pointInTime and location"),
        (with("from", json!({"id": POINT, "location": "s3://b/k"})), "set exactly one of backupRef"),
        (with("from", json!({"id": "../other"})), "spec.from.id"),
        (with("from", json!({"id": "--help"})), "spec.from.id"),
        (with("from", json!({"location": "s3://b/backups/n/shop/"})), "spec.from.location"),
        (with("from", json!({"location": "https://b/k"})), "spec.from.location"),
        (with("from", json!({"pointInTime": "2026-11-29 14:03"})), "spec.from.pointInTime"),
        (with("scope", json!([])), "spec.scope"),
        (objects_alone, "target Stack fills a database"),
        (emptied, "leave Bucket out of scope"),
        (filling, "intoSecretRef is for target InPlace"),
        (moment("scope", json!(["Database", "Bucket"])), "from.pointInTime restores the database"),
        (moment("scope", json!(["Bucket"])), "from.pointInTime restores the database"),
        (moment("target", json!("Stack")), "from.pointInTime restores the database"),
        (moment("intoSecretRef", json!({"name": "s", "key": "URL"})), "from.pointInTime restores the database"),
    ] {
        let refused = make(spec.clone()).await.expect_err(&format!("{spec} is accepted"));
        assert!(refused.contains(words), "{spec}: {refused}");
    }
    ask(env, namespace, "r", "1").await;
    let patch = Patch::Merge(json!({"spec": {"from": {"id": "20250101T000000Z-aaaaa"}}}));
    let refused = api.patch("r", &PatchParams::default(), &patch).await.expect_err("its spec changes").to_string();
    assert!(refused.contains("spec cannot change, since a RorunRestore runs once"), "{refused}");
}
