//! A stack that hibernates has no pods and keeps its data. What is asked of it meanwhile waits, and it wakes in the order in which
//! one part needs the other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::kit::{API_NEXT, Condition, Observed, Stack, TestContext};
use crate::engine::progress;

const READY_WITHIN: Duration = Duration::from_mins(3);
/// What the documentation promises, also of an application that is broken.
const ASLEEP_WITHIN: Duration = Duration::from_mins(1);
/// A day that no run comes by.
const NEVER: &str = "0 0 29 2 *";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test
        .apply_example("development.yaml", |stack| {
            stack["spec"]["backup"] = json!({"schedule": NEVER});
            stack["spec"]["api"]["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 3});
        })
        .await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    let receipt = test.first_receipt(&app, "3 bags of rice, 90000").await?;

    stack.patch_spec(json!({"hibernate": true})).await?;
    asleep(test, &stack, "a stack that serves", "True").await?;
    ensure!(names(&stack, "horizontalpodautoscalers,poddisruptionbudgets").await?.is_empty(), "an autoscaler is left");
    ensure!(names(&stack, "persistentvolumeclaims").await?.len() == 3, "a volume is gone");

    // What is asked meanwhile waits.
    stack.patch_spec(json!({"api": {"image": API_NEXT}})).await?;
    stack.patch(json!({"metadata": {"annotations": {"rorun.app/backup": "1"}}})).await?;
    let waits = |status: &super::kit::Status| {
        let ready = status.condition("Ready");
        let waits = |ready: &Condition| ready.status == "False" && ready.message.contains("goes on when it wakes");
        status.is_current() && ready.as_ref().is_some_and(waits)
    };
    let status = stack.wait_status("the release to wait", READY_WITHIN, waits).await?;
    ensure!(status.json["release"]["state"] == "Hibernating", "{}", status.json["release"]);
    ensure!(running(&stack).await?.is_empty() && jobs(&stack).await?.is_empty(), "something runs");

    stack.patch_spec(json!({"hibernate": false})).await?;
    wakes(&stack).await?;
    test.wait_served(&app, &receipt).await?;
    ensure!(app.version().await? == "1.9.0", "{} answers", app.version().await?);
    app.check(&receipt).await?;

    // By a schedule whose last moment of waking is long ago, and with an application that never starts.
    let broken = async {
        stack.patch_spec(json!({"api": {"image": "ghcr.io/rorun/rorun-api:0.0.0"}})).await?;
        stack.wait_condition("ApiReady", "False", "ImagePullFailed", READY_WITHIN).await
    };
    app.unnoticed("an image that does not exist", broken).await?;
    stack.patch_spec(json!({"hibernation": {"from": "* * * * *", "until": NEVER}, "expiresAfter": "1h"})).await?;
    // Its release waits, so the stack is not what the spec asks for.
    asleep(test, &stack, "one whose application is broken", "False").await?;
    expires(&stack).await?;
    let mark = test.mark().await?;
    stack.patch(json!({"metadata": {"labels": {"team": "one"}}})).await?;
    stack.patch_spec(json!({"hibernation": Value::Null, "api": {"image": API_NEXT}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    test.wait_served(&app, &receipt).await?;
    let writes = test.operator_writes_since(mark, &test.namespace).await?.to_children();
    progress::note(&format!("a stack of five services wakes by {} writes", writes.0.len()));
    Ok(())
}

/// Waits until all is as the spec asks for: one part after the other, and the dump that was asked for meanwhile last.
async fn wakes(stack: &Stack) -> Result<()> {
    in_order(stack).await?;
    stack.wait_ready(READY_WITHIN).await?;
    stack
        .wait("the dump that was asked for meanwhile", READY_WITHIN, async || {
            let jobs = jobs(stack).await?;
            Ok(Observed::when(jobs.len() == 1, format!("{jobs:?}")))
        })
        .await?;
    stack
        .wait("the CronJob to go on", READY_WITHIN, async || {
            let jobs = stack.list("cronjobs").await?;
            let suspended = jobs.first().and_then(|job| job["spec"]["suspend"].as_bool());
            Ok(Observed::when(suspended == Some(false), format!("{suspended:?}")))
        })
        .await?;
    let awake = |status: &super::kit::Status| {
        status.condition("Hibernated").is_none() && status.json.get("hibernatedSince").is_none()
    };
    stack.wait_status("no trace of the hibernation", READY_WITHIN, awake).await?;
    stack.wait_condition("BackupHealthy", "True", "Ready", READY_WITHIN).await.map(drop)
}

/// Waits until no pod of the stack runs, and its status says that it hibernates.
async fn asleep(test: &TestContext, stack: &Stack, what: &str, ready: &str) -> Result<()> {
    let began = std::time::Instant::now();
    let hibernated = stack.wait_condition("Hibernated", "True", "Hibernated", ASLEEP_WITHIN).await?;
    stack.wait_condition("Ready", ready, "Hibernated", ASLEEP_WITHIN).await?;
    stack.wait_condition("Available", "False", "Hibernated", ASLEEP_WITHIN).await?;
    stack
        .wait("no pods", ASLEEP_WITHIN, async || {
            let pods = running(stack).await?;
            Ok(Observed::when(pods.is_empty(), format!("{pods:?}")))
        })
        .await?;
    let took = began.elapsed();
    progress::note(&format!("{what} hibernates after {:.0} s: {}", took.as_secs_f64(), hibernated.message));
    ensure!(took <= ASLEEP_WITHIN, "{took:?}");
    let status = stack.status().await?;
    ensure!(status.json["hibernatedSince"].is_string(), "{}", status.json);
    let suspended = stack.list("cronjobs").await?.iter().all(|job| job["spec"]["suspend"] == true);
    ensure!(suspended, "the CronJob goes on");
    // Nothing is left to be written.
    let mark = test.mark().await?;
    stack.patch(json!({"metadata": {"annotations": {"example.com/look": what}}})).await?;
    stack.wait_condition("Hibernated", "True", "Hibernated", ASLEEP_WITHIN).await?;
    let writes = test.operator_writes_since(mark, &test.namespace).await?.to_children();
    ensure!(writes.0.is_empty(), "a stack that hibernates is written to: {:?}", writes.lines());
    Ok(())
}

/// The pods that have not ended: those of Jobs are kept for reading.
async fn running(stack: &Stack) -> Result<Vec<String>> {
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let pods = stack.pods(None).await?.into_iter().filter(|pod| !ended(pod));
    Ok(pods.filter_map(|pod| pod.metadata.name).collect())
}

/// The data services served before the API had a pod. A service that is slow later begins to be ready anew, so this looks at the
/// first pod as soon as it is there.
async fn in_order(stack: &Stack) -> Result<()> {
    let created = stack
        .wait("a pod of the API", READY_WITHIN, async || {
            let api = stack.pods(Some("api")).await?;
            let created = api.iter().filter_map(|pod| Some(pod.metadata.creation_timestamp.as_ref()?.0)).min();
            Ok(created.map_or_else(|| Observed::NotYet("none".to_owned()), Observed::Met))
        })
        .await?;
    for service in ["database", "redis", "bucket"] {
        let ready = stack.pods(Some(service)).await?.first().and_then(ready_since).context("it does not serve")?;
        ensure!(ready <= created, "{service} was ready at {ready}, and the API started at {created}");
    }
    Ok(())
}

/// Since when a pod is ready.
pub(super) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

/// The stack is told when it expires: not at once, though it may be older than `expiresAfter`.
async fn expires(stack: &Stack) -> Result<()> {
    let resource = stack.resource().await?;
    let moment = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let created = moment(&resource["metadata"]["creationTimestamp"]).context("no creation")?;
    let at = moment(&resource["status"]["expiresAt"]).with_context(|| format!("no moment: {}", resource["status"]))?;
    let after = at.as_second() - created.as_second();
    ensure!((3600..3600 + 900).contains(&after), "it expires {after} s after its creation");
    stack.wait_event("ExpiresSoon", READY_WITHIN).await
}

async fn names(stack: &Stack, kinds: &str) -> Result<Vec<String>> {
    let found = stack.list(kinds).await?.into_iter();
    Ok(found.filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned())).collect())
}

/// The Jobs of dumps.
async fn jobs(stack: &Stack) -> Result<Vec<String>> {
    Ok(names(stack, "jobs").await?.into_iter().filter(|name| name.contains("-backup-")).collect())
}
