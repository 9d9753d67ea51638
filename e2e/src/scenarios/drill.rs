//! A recovery point is restored for a trial, by the annotation and by the schedule, in a pod that knows nothing of the live
//! database; one that somebody changed in the bucket is found.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kit::{App, Bucket, Stack, Status, TestContext};

const READY_WITHIN: Duration = Duration::from_mins(3);
/// A volume, two containers, and a server that is made anew, on a busy machine.
const DRILLED_WITHIN: Duration = Duration::from_mins(5);
/// No schedule may interfere.
const NEVER: &str = "0 0 29 2 *";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test.apply_example("development.yaml", |_| ()).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    test.first_receipt(&app, "one").await?;
    app.send("two").await?;
    app.unnoticed("drills beside the application", Box::pin(drills(test, &stack, &app))).await
}

async fn drills(test: &TestContext, stack: &Stack, app: &App) -> Result<()> {
    let little = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
    let check = |expect: &str| json!([{"name": "receipts", "sql": "SELECT count(*) FROM receipts", "expect": expect}]);
    // One that was refused half-way has left its row.
    let receipts = app.list().await?.len();
    let checks = check(&receipts.to_string());
    let verify = json!({"schedule": NEVER, "storage": {"size": "1Gi"}, "resources": little, "checks": checks});
    let backup = json!({"schedule": NEVER, "includeBucket": true, "resources": little, "verify": verify});
    stack.patch_spec(json!({"backup": backup})).await?;
    stack.wait_status("the drills", READY_WITHIN, |status| status.condition("RestoreVerified").is_some()).await?;
    let point = test.run_backup(stack, "before-the-drill").await?;

    let verified = verify_now(stack, "1", |verified| verified["id"] == point.id.as_str()).await?;
    ensure!(verified["checks"] == 1 && verified["rows"].as_i64().is_some_and(|rows| rows >= 2), "{verified}");
    ensure!(verified["objects"].is_i64(), "no object of the bucket was compared: {verified}");
    println!("a drill took {} s in its pod", verified["durationSeconds"]);
    let status = stack.status().await?;
    ensure!(is(&status, "True", "Ready"), "{}", status.line("RestoreVerified"));
    secrets_of_the_drill(test, stack).await?;

    // The schedule makes the same of a newer point.
    let newer = test.run_backup(stack, "newer").await?;
    stack.patch_spec(json!({"backup": {"verify": {"schedule": "* * * * *"}}})).await?;
    let scheduled = |status: &Status| status.json["backup"]["lastVerified"]["id"] == newer.id.as_str();
    stack.wait_status("a drill by the schedule", DRILLED_WITHIN, scheduled).await?;
    stack.patch_spec(json!({"backup": {"verify": {"schedule": NEVER}}})).await?;

    let bucket = Bucket::of(test, stack).await?;
    let key = format!("backups/{}/{}/{}/database.dump", test.namespace, stack.name, newer.id);
    let mut dump = bucket.get(&key).await?;
    *dump.last_mut().context("a dump has bytes")? ^= 1;
    bucket.put(&key, dump).await?;
    stack.patch(json!({"metadata": {"annotations": {"rorun.app/verify": "2"}}})).await?;
    let found = |status: &Status| is(status, "False", "BackupCorrupt");
    let status = stack.wait_status("the corrupt point to be found", DRILLED_WITHIN, found).await?;
    let line = status.line("RestoreVerified");
    ensure!(line.contains(&newer.id), "the condition does not name the point: {line}");
    let ready = status.condition("Ready").context("no condition Ready")?;
    ensure!(ready.status == "True", "a drill made the stack unready: {}", status.line("Ready"));
    ensure!(status.json["backup"]["lastVerified"]["id"] == newer.id.as_str(), "the last good drill is forgotten");

    let (printed, _) = test.runbook("corrupt-backup.md", &test.namespace, &[("STACK", &stack.name)]).await?;
    let verified = stack.status().await?.json["backup"]["lastVerified"]["id"].clone();
    let id = verified.as_str().context("nothing is verified")?;
    ensure!(id > newer.id.as_str() && printed.contains(&format!("verified: {id}")), "{id}: {printed}");
    Ok(())
}

fn is(status: &Status, wanted: &str, reason: &str) -> bool {
    status.condition("RestoreVerified").is_some_and(|found| found.status == wanted && found.reason == reason)
}

/// Asks for a drill, and waits until the status tells of it.
async fn verify_now(stack: &Stack, value: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    stack.patch(json!({"metadata": {"annotations": {"rorun.app/verify": value}}})).await?;
    let told = |status: &Status| is_it(&status.json["backup"]["lastVerified"]);
    let status = stack.wait_status("a drill in the status", DRILLED_WITHIN, told).await?;
    Ok(status.json["backup"]["lastVerified"].clone())
}

/// The pod of a drill can reach the bucket, and does not know how to reach the live database.
async fn secrets_of_the_drill(test: &TestContext, stack: &Stack) -> Result<()> {
    let name = stack.child("drill");
    let keys =
        test.kubectl(&["get", "secret", "--namespace", &test.namespace, &name, "--output=jsonpath={.data}"]).await?;
    let keys: Value = serde_json::from_str(&keys)?;
    let keys: Vec<&String> = keys.as_object().context("a Secret has data")?.keys().collect();
    ensure!(keys.iter().any(|key| *key == "S3_BUCKET"), "{keys:?}");
    ensure!(
        !keys.iter().any(|key| key.contains("URL") || key.starts_with("PG")),
        "a drill knows the database: {keys:?}"
    );
    Ok(())
}
