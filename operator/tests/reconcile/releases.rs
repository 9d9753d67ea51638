//! What a release with a migration calls. Deployments and Jobs are played.

use std::collections::BTreeMap;

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use rorun_e2e::engine::test_server::Mark;
use serde_json::{Value, json};

use super::{
    conditions::{released, roll_out},
    env::TestEnv,
    requests::{end, jobs},
};

const NAMESPACE: &str = "release-calls";

/// The states of a release with a migration that are told: `Migrating`, `RollingOut` and `Serving`.
const STATES: usize = 3;

async fn release(env: &TestEnv) -> Value {
    let stack = env.stacks(NAMESPACE).get("shop").await.expect("the stack");
    serde_json::to_value(stack.status.and_then(|status| status.release)).expect("JSON")
}

async fn until_state(env: &TestEnv, state: &str, image: &str) {
    let told = async || format!("; it is {}", release(env).await);
    let what = format!("the release of {image} is {state}");
    env.until_or(
        &what,
        async || {
            let release = release(env).await;
            let of = if state == "Serving" { &release["current"]["api"] } else { &release["target"]["api"] };
            release["state"] == state && of == image
        },
        told,
    )
    .await;
    env.settled(NAMESPACE).await;
}

/// The migration succeeds, and the pods are replaced.
async fn serves(env: &TestEnv, image: &str) {
    let told = async || format!("; it is {}", release(env).await);
    let migrates = async || {
        roll_out(env, NAMESPACE).await;
        release(env).await["state"] == "Migrating"
    };
    env.until_or("the migration runs", migrates, told).await;
    until_state(env, "Migrating", image).await;
    let all = jobs(env, NAMESPACE).await;
    let job = all.iter().find(|job| job.data.pointer("/status/conditions").is_none()).expect("a migration");
    end(env, NAMESPACE, &job.name_any(), &json!("done"), true).await;
    until_state(env, "RollingOut", image).await;
    let replaced = async || {
        roll_out(env, NAMESPACE).await;
        release(env).await["current"]["api"] == image
    };
    env.until_or("the pods are replaced", replaced, async || {
        let stack = env.stacks(NAMESPACE).get("shop").await.expect("the stack");
        let conditions = stack.status.map(|status| status.conditions).unwrap_or_default();
        let told = conditions.iter().map(|of| format!("{}={} {}: {}", of.type_, of.status, of.reason, of.message));
        told.collect::<Vec<_>>().join("\n")
    })
    .await;
    until_state(env, "Serving", image).await;
}

/// Statuses, and the calls that are none, each with how often it was made.
fn told(env: &TestEnv, mark: Mark) -> (usize, BTreeMap<String, u32>) {
    let calls = env.calls(NAMESPACE, mark);
    let statuses = calls.iter().filter(|call| call.subresource == "status").count();
    let mut others = BTreeMap::new();
    for call in calls.iter().filter(|call| call.subresource != "status" && call.resource != "events") {
        *others.entry(format!("{} {}", call.verb, call.resource)).or_default() += 1;
    }
    (statuses, others)
}

pub async fn a_release_costs_what_it_makes_and_changes(env: &TestEnv) {
    env.namespace(NAMESPACE).await;
    env.submit(NAMESPACE, released(env, NAMESPACE, "rorun-api:1").await).await;
    serves(env, "rorun-api:1").await;

    let mark = env.mark();
    let image = Patch::Merge(json!({"spec": {"api": {"image": "rorun-api:2"}}}));
    env.stacks(NAMESPACE).patch("shop", &PatchParams::default(), &image).await.expect("the image line");
    serves(env, "rorun-api:2").await;
    let (statuses, others) = told(env, mark);
    println!("a release: {statuses} statuses, {others:?}");
    // The record of the release is written when it is new, when its rollout begins and when it serves; no dump begins while the
    // migration runs, and the stack is not deleted under it, which the finalizer is for; the Job of the release before goes. Dumps are
    // told the spec, and what serves: their Secret is written once for each, and the CronJob for none.
    let expected = [
        ("delete jobs", 1),
        ("patch controllerrevisions", 3),
        ("patch cronjobs", 2),
        ("patch deployments", 1),
        ("patch jobs", 1),
        ("patch rorunstacks", 2),
        ("patch secrets", 2),
    ];
    assert_eq!(others, expected.map(|(call, count)| (call.to_owned(), count)).into());
    // One more says that nothing of the old release is left.
    assert!(statuses <= STATES + 1, "{statuses} statuses for {STATES} states");

    let mark = env.mark();
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}));
    env.stacks(NAMESPACE).patch("shop", &PatchParams::default(), &label).await.expect("the label is set");
    env.settled(NAMESPACE).await;
    assert_eq!(told(env, mark), (0, BTreeMap::new()), "a release that serves costs nothing");
    a_record_without_its_labels_stops_nothing(env).await;
}

/// No cache shows it any more, and the stack goes on.
async fn a_record_without_its_labels_stops_nothing(env: &TestEnv) {
    let name = release(env).await["current"]["revision"].as_str().expect("a revision").to_owned();
    let records = env.objects("ControllerRevision", NAMESPACE);
    let without = Patch::Merge(json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}));
    records.patch(&name, &PatchParams::default(), &without).await.expect("the label is taken away");
    let image = Patch::Merge(json!({"spec": {"admin": {"image": "rorun-admin:2"}}}));
    env.stacks(NAMESPACE).patch("shop", &PatchParams::default(), &image).await.expect("the image line");
    let admin = async || {
        roll_out(env, NAMESPACE).await;
        release(env).await["current"]["admin"] == "rorun-admin:2"
    };
    env.until("the next release serves", admin).await;
}
