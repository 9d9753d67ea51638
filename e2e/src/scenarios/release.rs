//! Releases: nothing of one serves before somebody approved it and its migration succeeded, a migration that runs is never ended
//! half-way, a failed one and a release that never becomes ready leave the last good one serving, and a client that polls all the
//! while notices nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::hibernation::ready_since;
use super::kit::{API, API_NEXT, API_TESTED, App, Observed, Stack, Status, TestContext};
use crate::engine::progress;

const READY_WITHIN: Duration = Duration::from_mins(3);
const DECIDED_WITHIN: Duration = Duration::from_mins(2);
/// How long a release may take until it is given up, in seconds.
const DEADLINE: i64 = 20;
/// What a release of so many pods may take beyond the time of its migration and the start of its pods, in seconds.
const OWN_PART: i64 = 5;
const PODS: usize = 3;
/// How long after its deadline a rollout may be given up, in seconds.
const DECISION: i64 = 2;
/// How many times as long both may take here: scenarios run side by side, and the moments are whole seconds.
const BUSY: i64 = 4;

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test
        .apply_example("development.yaml", |stack| {
            let spec = &mut stack["spec"];
            spec["release"] = json!({"approval": "Required"});
            spec["api"]["migrations"] = migrations("ok");
            spec["api"]["progressDeadlineSeconds"] = json!(DEADLINE);
            spec["backup"] = json!({"schedule": "0 0 29 2 *"});
        })
        .await?;
    approve(test, &stack).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    ensure!(app.version().await? == "1.8.0", "{} answers", app.version().await?);
    test.first_receipt(&app, "2 crates of palm wine, 4000").await?;
    stack.patch_spec(json!({"release": {"approval": "Automatic"}})).await?;
    stack.wait_ready(READY_WITHIN).await?;

    app.unnoticed("a spec that goes back while a migration runs", Box::pin(withdraws(test, &stack))).await?;
    app.unnoticed("a migration that fails, and one that succeeds", Box::pin(migrates(&stack, &app))).await?;
    app.unnoticed("a release that is rolled back, and one that is mended", Box::pin(rolls_back(&stack, &app))).await?;
    tests_candidates(&stack, &app).await?;
    Box::pin(tests_what_serves(&stack, &app)).await?;
    app.unnoticed("going back", Box::pin(goes_back(&stack, &app))).await
}

fn migrations(mode: &str) -> Value {
    json!({
        "command": ["/rorun-fixture", "migrate"],
        "timeoutSeconds": 60,
        "env": [{"name": "MIGRATE_MODE", "value": mode}],
    })
}

fn release_of(status: &Value) -> (&str, &Value) {
    (status["release"]["state"].as_str().unwrap_or_default(), &status["release"])
}

/// The first release waits without a pod, until the annotation is its hash.
async fn approve(test: &TestContext, stack: &Stack) -> Result<()> {
    let waiting = stack.wait_condition("Ready", "False", "AwaitingApproval", READY_WITHIN).await?;
    let status = stack.status().await?;
    ensure!(status.condition("Stalled").is_none(), "waiting for approval is no stall: {}", status.json);
    let (state, release) = release_of(&status.json);
    let hash = release["target"]["hash"].as_str().context("a target with a hash")?;
    ensure!(state == "AwaitingApproval" && waiting.message.contains(hash), "{state}: {}", waiting.message);
    let pods = stack.pods(Some("api")).await?.len() + stack.pods(Some("migration")).await?.len();
    ensure!(pods == 0, "{pods} pods before the approval");
    // The policy of the chart takes no other name than that of the user who approves.
    let who = test.kubectl(&["auth", "whoami", "--output=jsonpath={.status.userInfo.username}"]).await?;
    let annotations = json!({"rorun.app/approve": hash, "rorun.app/approved-by": who.trim()});
    stack.patch(json!({"metadata": {"annotations": annotations}})).await
}

/// The names of the Jobs of migrations.
async fn jobs(stack: &Stack) -> Result<Vec<String>> {
    let jobs = stack.list("jobs").await?.into_iter();
    let names = jobs.filter_map(|job| Some(job["metadata"]["name"].as_str()?.to_owned()));
    Ok(names.filter(|name| name.contains("-migration-")).collect())
}

async fn wait_state(stack: &Stack, state: &str) -> Result<Value> {
    let what = format!("the release to be {state}");
    let status =
        stack.wait_status(&what, DECIDED_WITHIN, |status| status.is_current() && release_of(&status.json).0 == state);
    Ok(status.await?.json)
}

/// A spec that goes back ends no migration half-way, none starts beside it, and no dump begins.
async fn withdraws(test: &TestContext, stack: &Stack) -> Result<()> {
    stack.patch_spec(json!({"api": {"image": API_NEXT, "migrations": migrations("hang")}})).await?;
    let runs = stack.wait("the migration to run", DECIDED_WITHIN, async || {
        let logs = match stack.pod("migration").await {
            Ok(pod) => log_of(test, stack, &pod).await.unwrap_or_else(|error| format!("{error:#}")),
            Err(error) => format!("{error:#}"),
        };
        Ok(Observed::when(logs.contains("keeps the lock"), logs))
    });
    runs.await?;
    let (pods, job) = (stack.pod_uids(Some("migration")).await?, jobs(stack).await?);
    stack.patch_spec(json!({"api": {"image": API}})).await?;
    wait_state(stack, "Serving").await?;
    stack.patch(json!({"metadata": {"annotations": {"rorun.app/retry": "0"}}})).await?;
    stack.patch_spec(json!({"api": {"image": API_NEXT}})).await?;
    wait_state(stack, "Migrating").await?;
    let waiting = stack.wait_condition("Ready", "False", "Migrating", DECIDED_WITHIN).await?;
    let words = format!("waits for the migration of job/{} to end", job[0]);
    ensure!(waiting.message.contains(&words), "{}", waiting.message);
    ensure!(suspended(stack).await?, "a backup may begin while the migration runs");
    stack.patch_spec(json!({"api": {"image": API}})).await?;
    wait_state(stack, "Serving").await?;
    ensure!(jobs(stack).await? == job, "{:?} instead of {job:?}", jobs(stack).await?);
    ensure!(stack.pod_uids(Some("migration")).await? == pods, "the migration was ended half-way");
    ensure!(log_of(test, stack, &stack.pod("migration").await?).await?.contains("keeps the lock"), "it runs no more");

    // A user ends it, and nothing makes it again.
    test.kubectl(&["--namespace", &stack.namespace, "delete", "job", &job[0]]).await?;
    stack
        .wait("nothing of the migration to be left", DECIDED_WITHIN, async || {
            let children = stack.list("jobs,secrets,serviceaccounts,pods").await?;
            let names: Vec<_> = children.iter().filter_map(|child| child["metadata"]["name"].as_str()).collect();
            let left: Vec<_> = names.into_iter().filter(|name| name.contains("-migration")).collect();
            let done = left.is_empty() && !suspended(stack).await?;
            Ok(Observed::when(done, format!("{left:?}, backups suspended: {}", suspended(stack).await?)))
        })
        .await
}

async fn log_of(test: &TestContext, stack: &Stack, pod: &str) -> Result<String> {
    test.kubectl(&["--namespace", &stack.namespace, "logs", pod, "--container=migrate"]).await
}

/// Whether the CronJob of the backups is suspended.
async fn suspended(stack: &Stack) -> Result<bool> {
    let cron_jobs = stack.list("cronjobs").await?;
    cron_jobs.first().and_then(|job| job["spec"]["suspend"].as_bool()).context("no CronJob")
}

async fn migrates(stack: &Stack, app: &App) -> Result<()> {
    // Several pods are spread over the nodes, which is another template than that of one.
    stack.patch_spec(json!({"api": {"replicas": PODS}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    stack
        .wait("no pod of the template of before to be left", READY_WITHIN, async || {
            let pods = stack.pods(Some("api")).await?;
            let going = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
            Ok(Observed::when(pods.len() == PODS && going == 0, format!("{} pods, {going} that go", pods.len())))
        })
        .await?;
    let pods = stack.pod_uids(Some("api")).await?;
    stack.patch_spec(json!({"api": {"image": API_NEXT, "migrations": migrations("fail")}})).await?;
    let status = wait_state(stack, "MigrationFailed").await?;
    let failed = stack.wait_condition("Ready", "False", "MigrationFailed", DECIDED_WITHIN).await?;
    ensure!(failed.message.contains("0003_tax"), "the migration is not named: {}", failed.message);
    ensure!(stack.status().await?.condition("Stalled").is_some(), "not stalled: {status}");
    ensure!(stack.pod_uids(Some("api")).await? == pods, "pods were replaced before the migration succeeded");
    ensure!(app.version().await? == "1.8.0", "{} answers", app.version().await?);

    stack.patch_spec(json!({"api": {"migrations": migrations("ok")}})).await?;
    let asked = json!(now().to_string());
    stack.patch(json!({"metadata": {"annotations": {"rorun.app/retry": "1"}}})).await?;
    stack.wait_replaced("api", &pods, READY_WITHIN).await?;
    stack.wait_ready(READY_WITHIN).await?;
    ensure!(app.version().await? == "1.9.0", "{} answers", app.version().await?);
    let status = wait_state(stack, "Serving").await?;
    let (current, previous) = (&status["release"]["current"]["api"], &status["release"]["previous"]["api"]);
    ensure!(current == API_NEXT && previous != current, "{}", status["release"]);
    own_part(stack, &asked, &status["release"]["current"]).await?;
    ensure!(jobs(stack).await?.len() == 1, "not the one Job of the release that serves: {:?}", jobs(stack).await?);
    stack.patch_spec(json!({"api": {"replicas": Value::Null}})).await?;
    stack.wait_ready(READY_WITHIN).await.map(drop)
}

#[expect(clippy::disallowed_methods, reason = "the operator tells moments by the time of this machine")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The time that is neither that of the migration nor that of the pods.
async fn own_part(stack: &Stack, asked: &Value, served: &Value) -> Result<()> {
    let pods = stack.pods(Some("api")).await?;
    let ready = pods.iter().filter_map(ready_since).max().context("no pod is ready")?;
    let parts = [
        seconds(asked, &served["migrationStartedAt"])?,
        seconds(&served["migratedAt"], &served["startedAt"])?,
        seconds(&json!(ready.to_string()), &served["servedAt"])?,
    ];
    let [begins, until_rollout, until_served] = parts;
    let own: i64 = parts.iter().sum();
    progress::note(&format!(
        "the operator's own part of a release of {} pods: {own} s ({begins} until the migration, {until_rollout} until the rollout, {until_served} \
         from ready pods to Serving); the bar is {OWN_PART} s, and {BUSY} times that here",
        pods.len()
    ));
    ensure!(pods.len() == PODS, "{} pods", pods.len());
    ensure!(own <= OWN_PART * BUSY, "the operator's own part took {own} s: {parts:?}");
    Ok(())
}

/// The whole seconds between two moments of a status.
fn seconds(from: &Value, to: &Value) -> Result<i64> {
    let moment = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let (from, to) = moment(from).zip(moment(to)).with_context(|| format!("no moments: {from}, {to}"))?;
    Ok(to.duration_since(from).as_secs())
}

/// A release whose candidate does not answer as the smoke test wants it meets no user; one that does rolls out.
async fn tests_candidates(stack: &Stack, app: &App) -> Result<()> {
    let test = |version: &str| json!([{"component": "api", "path": "/version", "contains": version}]);
    let ((), asked) = app
        .asked_while(async {
            let spec =
                json!({"release": {"smokeTests": test("2.0.0")}, "api": {"candidate": true, "image": API_TESTED}});
            stack.patch_spec(spec).await?;
            wait_state(stack, "SmokeTestFailed").await?;
            let failed = stack.wait_condition("Ready", "False", "SmokeTestFailed", DECIDED_WITHIN).await?;
            let words = "-api-candidate.";
            ensure!(failed.message.contains(words) && failed.message.contains("2.0.0"), "{}", failed.message);
            stack.wait_condition("SmokeTestsPassed", "False", "SmokeTestFailed", DECIDED_WITHIN).await?;
            no_candidate(stack).await
        })
        .await?;
    asked.without_failure()?;
    ensure!(asked.answered.keys().all(|version| version == "1.9.0"), "a client met {:?}", asked.answered);
    progress::note(&format!(
        "a release that fails its smoke test: {} requests, 0 failed, none answered by it",
        asked.count()
    ));
    Ok(())
}

/// A release that fails the smoke test which comes by the Ingress, once it serves, is rolled back; one that passes stays.
async fn tests_what_serves(stack: &Stack, app: &App) -> Result<()> {
    let test = |version: &str| json!([{"component": "api", "path": "/version", "contains": version, "via": "Ingress"}]);
    let fails = Box::pin(async {
        stack.patch_spec(json!({"release": {"smokeTests": test("2.0.0")}, "api": {"candidate": false}})).await?;
        wait_state(stack, "RolledBack").await?;
        let failed = stack.wait_condition("Ready", "False", "RolledBack", DECIDED_WITHIN).await?;
        let words = ["GET http://", "/version at traefik.", "2.0.0"];
        ensure!(words.iter().all(|word| failed.message.contains(word)), "{}", failed.message);
        // The last good release rolls out as any other does.
        answers_alone(stack, app, "1.9.0").await
    });
    app.unnoticed("a release that fails its smoke test by the Ingress", fails).await?;
    app.unnoticed("a release that passes its smoke tests", async {
        let retry = json!({"annotations": {"rorun.app/retry": "ingress"}});
        let spec = json!({"release": {"smokeTests": test("1.10.0")}, "api": {"candidate": true}});
        stack.patch(json!({"metadata": retry, "spec": spec})).await?;
        let status = wait_state(stack, "Serving").await?;
        ensure!(status["release"]["current"]["testedAt"].is_string(), "{}", status["release"]);
        stack.wait_ready(READY_WITHIN).await?;
        no_candidate(stack).await
    })
    .await?;
    answers_alone(stack, app, "1.10.0").await
}

/// Waits until one pod is left and answers with the version. A Deployment counts no pod that ends, and the Ingress asks such a pod
/// until its controller has noticed.
async fn answers_alone(stack: &Stack, app: &App, version: &str) -> Result<()> {
    stack
        .wait(&format!("{version} to answer alone"), READY_WITHIN, async || {
            let pods = stack.pods(Some("api")).await?.len();
            let answers = app.version().await?;
            Ok(Observed::when(pods == 1 && answers == version, format!("{answers} answers, of {pods} pods")))
        })
        .await
}

/// Waits until nothing of a candidate is left.
async fn no_candidate(stack: &Stack) -> Result<()> {
    stack
        .wait("the candidate to be gone", DECIDED_WITHIN, async || {
            let left = stack.list("deployments,services").await?.into_iter();
            let left: Vec<_> =
                left.filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned())).collect();
            Ok(Observed::when(left.iter().all(|name| !name.ends_with("-candidate")), format!("{left:?}")))
        })
        .await
}

async fn rolls_back(stack: &Stack, app: &App) -> Result<()> {
    let before = jobs(stack).await?;
    stack.patch_spec(json!({"api": {"health": {"path": "/nothing-here"}}})).await?;
    wait_state(stack, "RollingOut").await?;
    let status = wait_state(stack, "RolledBack").await?;
    let target = &status["release"]["target"];
    let late = seconds(&target["startedAt"], &target["rolledBackAt"])? - DEADLINE;
    progress::note(&format!(
        "a rollout was given up {late} s after its deadline; the bar is {DECISION} s, and {BUSY} times that here"
    ));
    ensure!((0..=DECISION * BUSY).contains(&late), "given up {late} s after its deadline: {target}");
    let given_up = stack.wait_condition("Ready", "False", "RolledBack", DECIDED_WITHIN).await?;
    ensure!(given_up.message.contains(&format!("within {DEADLINE} s")), "{}", given_up.message);
    let available = stack.wait_condition("Available", "True", "Ready", DECIDED_WITHIN).await?;
    ensure!(app.version().await? == "1.9.0", "{available:?}");
    ensure!(jobs(stack).await? == before, "a roll-back ran a migration");
    stack.patch_spec(json!({"api": {"health": {"path": "/health"}}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    wait_state(stack, "Serving").await.map(drop)
}

/// To images that served: no approval, no migration.
async fn goes_back(stack: &Stack, app: &App) -> Result<()> {
    let status = stack.status().await?.json;
    let history = status["release"]["history"].as_array().context("a history")?;
    ensure!(history.iter().any(|release| release["api"] == API), "{}", status["release"]);
    stack.patch_spec(json!({"release": {"approval": "Required"}, "api": {"image": API}})).await?;
    let serves = |status: &Status| {
        let (state, release) = release_of(&status.json);
        status.is_current() && state == "Serving" && release["current"]["api"] == API
    };
    stack.wait_status(&format!("{API} to serve"), READY_WITHIN, serves).await?;
    stack.wait_ready(READY_WITHIN).await?;
    answers_alone(stack, app, "1.8.0").await
}
