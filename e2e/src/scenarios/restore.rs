//! Rows that somebody deleted come back from a recovery point: restored beside the live database, which serves on, and switched
//! over; what was live before is kept until its name is said. By the commands of the runbook.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kit::{App, Bucket, Observed, Stack, TestContext, lost_with};
use crate::engine::progress;

const READY_WITHIN: Duration = Duration::from_mins(3);
/// Eight Jobs, one after the other, and the pods of the application that end and start, on a busy machine.
const RESTORED_WITHIN: Duration = Duration::from_mins(5);
/// No schedule may interfere.
pub(super) const NEVER: &str = "0 0 29 2 *";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let little = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
    let backup = json!({"schedule": NEVER, "includeBucket": true, "resources": little});
    let stack = test.apply_example("development.yaml", |stack| stack["spec"]["backup"] = backup).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    let kept = [test.first_receipt(&app, "one").await?, app.send("two").await?];
    // One that was refused half-way has left its row.
    let rows = app.list().await?.len();
    let id = point(test, &test.namespace, &stack).await?;

    // A statement without its WHERE, and a receipt that comes after the point.
    let late = app.send("three").await?;
    psql(test, &stack, "rorun", "DELETE FROM receipts WHERE seq < (SELECT max(seq) FROM receipts)").await?;
    ensure!(app.list().await?.len() == 1, "nothing was deleted");

    let before = restore_in_place(test, &stack, &app, (&id, rows)).await?;
    for receipt in &kept {
        app.check(receipt).await?;
    }
    ensure!(app.list().await?.len() == rows, "a row of after the recovery point is live: {:?}", app.list().await?);
    let count = psql(test, &stack, &before, "SELECT count(*) FROM receipts").await?;
    ensure!(count.trim() == "1", "{before} has {count} receipts, not the one that was live: {}", late.id);

    not_repeated(test, &stack, &app).await?;
    overwritten(test, &stack, &id).await?;
    for receipt in &kept {
        app.check(receipt).await?;
    }
    discarded(test, &stack, &before).await
}

/// Makes a recovery point; gives its identifier.
pub(super) async fn point(test: &TestContext, namespace: &str, stack: &Stack) -> Result<String> {
    let spec = json!({"stackRef": {"name": stack.name}});
    create(test, namespace, "RorunBackup", "before", &spec).await?;
    let backup = complete(test, namespace, "rorunbackup", "before").await?;
    Ok(backup["status"]["id"].as_str().context("the point has no identifier")?.to_owned())
}

/// The runbook restores the point under the eyes of a client; gives the database that was live before.
async fn restore_in_place(test: &TestContext, stack: &Stack, app: &App, (id, rows): (&str, usize)) -> Result<String> {
    let variables = [("STACK", stack.name.as_str()), ("POINT", id)];
    lost_with("deleted-rows.md", id)?;
    let runbook = test.runbook("deleted-rows.md", &test.namespace, &variables);
    let beside = async {
        test.wait("the copy to be verified", RESTORED_WITHIN, async || {
            let restores = restores(test).await?;
            let verified = restores.iter().any(|restore| is(restore, "Verified", "True"));
            Ok(Observed::when(verified, restores.iter().map(told).collect::<String>()))
        })
        .await
    };
    // Nothing of it touches what serves.
    let ((printed, _), ((), asked)) = futures::try_join!(runbook, app.asked_while(beside))?;
    asked.without_failure()?;
    let restore = restores(test).await?.pop().context("the RorunRestore is gone")?;
    ensure!(printed.contains(&format!("{rows} rows in")), "the page prints {printed}");
    let status = &restore["status"];
    for step in ["Checked", "Copied", "Verified", "Saved", "Stopped", "Switched", "Started", "Tested"] {
        ensure!(is(&restore, step, "True"), "{step} is not told: {}", told(&restore));
    }
    stack.wait_ready(READY_WITHIN).await?;
    progress::note(&format!(
        "a restore took {} s; {} requests were answered beside it before the switch",
        status["durationSeconds"],
        asked.count()
    ));
    ensure!(status["saved"].is_string() && status["rows"].as_i64() >= Some(2), "{status}");
    let before = status["kept"].as_str().context("nothing is kept")?.to_owned();
    let listed = |status: &super::kit::Status| status.json["restore"]["kept"][0]["name"] == before.as_str();
    stack.wait_status("the kept database", READY_WITHIN, listed).await?;
    Ok(before)
}

/// The same manifest, deleted and applied again as a tool would, changes nothing.
async fn not_repeated(test: &TestContext, stack: &Stack, app: &App) -> Result<()> {
    let newest = app.send("four").await?;
    let done = restores(test).await?.pop().context("the RorunRestore is gone")?;
    let name = done["metadata"]["name"].as_str().context("an object has a name")?;
    test.kubectl(&["delete", "rorunrestore", name, "--namespace", &test.namespace]).await?;
    create(test, &test.namespace, "RorunRestore", name, &done["spec"]).await?;
    test.wait("the restore to be refused", READY_WITHIN, async || {
        let restore = test.get(&test.namespace, "rorunrestore", name).await?;
        let refused = is(&restore, "Failed", "True") && told(&restore).contains("create one with another name");
        Ok(Observed::when(refused, told(&restore)))
    })
    .await?;
    app.check(&newest).await?;
    stack.wait_ready(READY_WITHIN).await.map(drop)
}

/// Objects that somebody overwrote become those of the point again, by versions that are added.
async fn overwritten(test: &TestContext, stack: &Stack, id: &str) -> Result<()> {
    let bucket = Bucket::of(test, stack).await?;
    let keys: Vec<String> = bucket.keys("").await?.into_iter().filter(|key| !key.starts_with("backups/")).collect();
    ensure!(!keys.is_empty(), "the bucket has no objects");
    for key in &keys {
        bucket.put(key, "overwritten").await?;
    }
    let uid = stack.resource().await?["metadata"]["uid"].clone();
    let spec = json!({"stackRef": {"name": stack.name, "uid": uid}, "from": {"id": id}, "scope": ["Bucket"]});
    create(test, &test.namespace, "RorunRestore", "objects", &spec).await?;
    let restore = complete(test, &test.namespace, "rorunrestore", "objects").await?;
    ensure!(is(&restore, "ObjectsRestored", "True"), "{}", told(&restore));
    progress::note(&format!(
        "{} of {} objects were put back in {} s",
        restore["status"]["objects"],
        keys.len(),
        restore["status"]["durationSeconds"]
    ));
    stack.wait_ready(READY_WITHIN).await.map(drop)
}

/// The kept database goes when its name is said, and the live one stays.
async fn discarded(test: &TestContext, stack: &Stack, before: &str) -> Result<()> {
    stack.patch(json!({"metadata": {"annotations": {"rorun.app/discard": before}}})).await?;
    let gone = |status: &super::kit::Status| status.json["restore"]["kept"].as_array().is_none_or(Vec::is_empty);
    stack.wait_status("the kept database to go", READY_WITHIN, gone).await?;
    let databases = psql(test, stack, "rorun", "SELECT datname FROM pg_database WHERE NOT datistemplate").await?;
    let mut databases: Vec<&str> = databases.lines().collect();
    databases.sort_unstable();
    ensure!(databases == ["postgres", "rorun"], "{databases:?}");
    Ok(())
}

/// The RorunRestores of the test.
async fn restores(test: &TestContext) -> Result<Vec<Value>> {
    test.list(&test.namespace, "rorunrestores", "").await
}

pub(super) async fn create(test: &TestContext, namespace: &str, kind: &str, name: &str, spec: &Value) -> Result<()> {
    let metadata = json!({"name": name, "namespace": namespace});
    let object = json!({"apiVersion": "rorun.app/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    test.apply_objects(&object).await
}

/// Waits until a RorunBackup or RorunRestore is complete; one that failed is not waited for.
pub(super) async fn complete(test: &TestContext, namespace: &str, kind: &str, name: &str) -> Result<Value> {
    let what = format!("{kind}/{name} to be complete");
    let ended = test.wait(&what, RESTORED_WITHIN, async || {
        let object = test.get(namespace, kind, name).await?;
        let over = is(&object, "Complete", "True") || is(&object, "Failed", "True");
        Ok(if over { Observed::Met(object) } else { Observed::NotYet(told(&object)) })
    });
    let object = ended.await?;
    ensure!(is(&object, "Complete", "True"), "{kind}/{name} failed: {}", told(&object));
    Ok(object)
}

fn is(object: &Value, kind: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == kind && condition["status"] == status)
}

fn told(object: &Value) -> String {
    object["status"].to_string()
}

/// What a statement gives, without headings.
async fn psql(test: &TestContext, stack: &Stack, database: &str, statement: &str) -> Result<String> {
    let pod = stack.pod("database").await?;
    let dbname = format!("--dbname={database}");
    let psql = ["psql", "--username=rorun", &dbname, "--tuples-only", "--no-align", "--command", statement];
    test.exec(&test.namespace, &pod, &psql).await
}
