//! Rows that somebody deleted come back from a recovery point: restored beside the live database, which serves on, and switched
//! over; what was live before is kept until its name is said. A new stack is filled from the bucket of another one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kit::{App, Bucket, Observed, Receipt, Stack, TestContext};
use crate::engine::progress;

const READY_WITHIN: Duration = Duration::from_mins(3);
/// Eight Jobs, one after the other, and the pods of the application that end and start, on a busy machine.
const RESTORED_WITHIN: Duration = Duration::from_mins(5);
/// No schedule may interfere.
const NEVER: &str = "0 0 29 2 *";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let little = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
    let backup = json!({"schedule": NEVER, "includeBucket": true, "resources": little});
    let of_backup = backup.clone();
    let stack = test.apply_example("development.yaml", |stack| stack["spec"]["backup"] = of_backup).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    let kept = [test.first_receipt(&app, "one").await?, app.send("two").await?];
    let location = point(test, &stack).await?;

    // A statement without its WHERE, and a receipt that comes after the point.
    let late = app.send("three").await?;
    psql(test, &stack, "rorun", "DELETE FROM receipts WHERE seq < (SELECT max(seq) FROM receipts)").await?;
    ensure!(app.list().await?.len() == 1, "nothing was deleted");

    let before = restore_in_place(test, &stack, &app).await?;
    for receipt in &kept {
        app.check(receipt).await?;
    }
    ensure!(app.list().await?.len() == 2, "a row of after the recovery point is live: {:?}", app.list().await?);
    let count = psql(test, &stack, &before, "SELECT count(*) FROM receipts").await?;
    ensure!(count.trim() == "1", "{before} has {count} receipts, not the one that was live: {}", late.id);

    not_repeated(test, &stack, &app).await?;
    discarded(test, &stack, &before).await?;
    filled(test, &stack, &location, &kept, backup).await
}

/// Makes a recovery point; gives where it is.
async fn point(test: &TestContext, stack: &Stack) -> Result<String> {
    let spec = json!({"stackRef": {"name": stack.name}});
    create(test, "RorunBackup", "before", &spec).await?;
    let backup = complete(test, "rorunbackup", "before").await?;
    Ok(backup["status"]["location"].as_str().context("the point is nowhere")?.to_owned())
}

/// Restores the point under the eyes of a client; gives the database that was live before.
async fn restore_in_place(test: &TestContext, stack: &Stack, app: &App) -> Result<String> {
    let uid = stack.resource().await?["metadata"]["uid"].clone();
    let spec = json!({"stackRef": {"name": stack.name, "uid": uid}, "from": {"backupRef": {"name": "before"}}});
    create(test, "RorunRestore", "back", &spec).await?;
    let beside = async {
        test.wait("the copy to be verified", RESTORED_WITHIN, async || {
            let restore = test.get(&test.namespace, "rorunrestore", "back").await?;
            Ok(Observed::when(is(&restore, "Saved", "True"), told(&restore)))
        })
        .await
    };
    // Nothing of it touches what serves.
    let ((), asked) = app.asked_while(beside).await?;
    asked.without_failure()?;
    let restore = complete(test, "rorunrestore", "back").await?;
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
    let of = ["rorunrestore", "back", "--namespace", &test.namespace];
    let manifest = test.get(&test.namespace, "rorunrestore", "back").await?["spec"].clone();
    test.kubectl(&[&["delete"], &of[..]].concat()).await?;
    create(test, "RorunRestore", "back", &manifest).await?;
    test.wait("the restore to be refused", READY_WITHIN, async || {
        let restore = test.get(&test.namespace, "rorunrestore", "back").await?;
        let refused = is(&restore, "Failed", "True") && told(&restore).contains("create one with another name");
        Ok(Observed::when(refused, told(&restore)))
    })
    .await?;
    app.check(&newest).await?;
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

/// A new stack starts with the rows of the point, which it finds in the bucket of the other one.
async fn filled(test: &TestContext, stack: &Stack, location: &str, kept: &[Receipt], mut backup: Value) -> Result<()> {
    let connection = stack.connection().await?;
    let value = |key: &str| connection.get(key).with_context(|| format!("no {key}"));
    let keys = json!({
        "AWS_ACCESS_KEY_ID": value("AWS_ACCESS_KEY_ID")?,
        "AWS_SECRET_ACCESS_KEY": value("AWS_SECRET_ACCESS_KEY")?,
    });
    test.secret("other-bucket", keys).await?;
    let destination = json!({
        "name": value("S3_BUCKET")?, "endpoint": value("S3_ENDPOINT")?, "forcePathStyle": true,
        "credentialsSecretRef": {"name": "other-bucket"},
    });
    backup["destination"] = json!({"prefix": "copy/", "external": destination});
    let spec = json!({"stackRef": {"name": "again"}, "target": "Stack", "from": {"location": location}});
    create(test, "RorunRestore", "fill", &spec).await?;
    let again = test
        .apply_example("development.yaml", |stack| {
            stack["metadata"]["name"] = json!("again");
            stack["spec"]["ingress"]["host"] = json!(test.host("again"));
            stack["spec"]["backup"] = backup;
        })
        .await?;
    complete(test, "rorunrestore", "fill").await?;
    again.wait_ready(READY_WITHIN).await?;
    let rows = test.app(&again).await?.list().await?;
    let ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    let expected: Vec<&str> = kept.iter().map(|receipt| receipt.id.as_str()).collect();
    ensure!(ids == expected, "the new stack has {ids:?}, not {expected:?}");
    let points = Bucket::of(test, stack).await?.keys("backups/").await?;
    ensure!(points.iter().any(|key| location.ends_with(key.as_str())), "the point is gone: {points:?}");
    Ok(())
}

async fn create(test: &TestContext, kind: &str, name: &str, spec: &Value) -> Result<()> {
    let metadata = json!({"name": name, "namespace": test.namespace});
    let object = json!({"apiVersion": "rorun.app/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    test.apply_objects(&object).await
}

/// Waits until a RorunBackup or RorunRestore is complete; one that failed is not waited for.
async fn complete(test: &TestContext, kind: &str, name: &str) -> Result<Value> {
    let what = format!("{kind}/{name} to be complete");
    let ended = test.wait(&what, RESTORED_WITHIN, async || {
        let object = test.get(&test.namespace, kind, name).await?;
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
