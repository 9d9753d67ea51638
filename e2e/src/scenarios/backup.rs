//! The schedule fires for real, the dump that it wrote is fetched and restored into an empty PostgreSQL, row for row, and
//! old dumps go as the retention says, but never too many.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::kit::{App, BackupRecord, Bucket, Observed, Stack, TestContext, manifest_object, ready};
use crate::engine::image::data::POSTGRES;

const READY_WITHIN: Duration = Duration::from_mins(3);
/// The schedule fires each minute, and the CronJob controller syncs every ten seconds.
const FIRES_WITHIN: Duration = Duration::from_secs(90);

/// How many good dumps the retention spares whatever their age.
const MINIMUM_KEPT: usize = 3;
/// A dump of release 0.1.0, which wrote no owner: no stack may remove it.
const NOBODYS: &str = "20190101T000000Z-bcdfg";
/// Dumps of years ago, oldest first.
const OLD: [&str; 3] = ["20200101T000000Z-bcdfg", "20210101T000000Z-bcdfg", "20220101T000000Z-bcdfg"];

/// Every row with every column, in one order.
const ROWS: &str = "COPY (SELECT * FROM receipts ORDER BY seq) TO STDOUT";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test.apply_example("development.yaml", |_| ()).await?;
    stack.wait_ready(READY_WITHIN).await?;
    let rows = fill(test, &test.app(&stack).await?).await?;
    let bucket = Bucket::of(test, &stack).await?;
    let prefix = format!("backups/{}/{}/", test.namespace, stack.name);
    let uid = test.kubectl(&["get", "namespace", &test.namespace, "--output=jsonpath={.metadata.uid}"]).await?;
    let owner = format!("{}/{}", uid.trim(), stack.name);
    for (id, owner) in OLD.map(|id| (id, Some(owner.as_str()))).into_iter().chain([(NOBODYS, None)]) {
        put(&bucket, &prefix, id, owner).await?;
    }

    let retention = json!({"days": 1, "minimumKept": MINIMUM_KEPT});
    let little = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
    stack.patch_spec(json!({"backup": {"schedule": "* * * * *", "retention": retention, "resources": little}})).await?;
    let scheduled = fired(&stack).await?;
    stack.finished(&scheduled).await?;
    let record = stack.new_backup(None).await?;
    // From here on no schedule may interfere.
    stack.patch_spec(json!({"backup": {"schedule": "0 0 29 2 *"}})).await?;

    let dump = fetch(&bucket, &record).await?;
    restore(test, &dump).await?;
    let original = rows_of(test, &stack.pod("database").await?).await?;
    let restored = rows_of(test, RESTORED).await?;
    ensure!(original.lines().count() == rows, "the database has other rows than were stored:\n{original}");
    ensure!(restored == original, "the restored rows differ:\n{restored}\ninstead of\n{original}");

    retention_holds(test, &stack, &bucket, &prefix).await?;
    let ready = stack.wait_ready(READY_WITHIN).await?;
    let healthy = ready.condition("BackupHealthy").context("no condition BackupHealthy")?;
    ensure!(healthy.status == "True", "{}", ready.line("BackupHealthy"));
    Ok(())
}

/// Puts a backup into the bucket, as the agent of an owner left it.
async fn put(bucket: &Bucket, prefix: &str, id: &str, owner: Option<&str>) -> Result<()> {
    let (dump, key) = ("an old dump", format!("{prefix}{id}/database.dump"));
    let mut manifest = json!({
        "apiVersion": "backup.rorun.app/v1", "id": id, "startedAt": "2020-01-01T00:00:00Z",
        "createdAt": "2020-01-01T00:00:00Z", "tool": "rorun-operator 0.1.0", "pgDumpVersion": "17", "serverVersion": "17",
        "database": "rorun", "format": "pg_dump custom", "objects": [{"key": key, "size": dump.len(), "sha256": ""}],
    });
    if let Some(owner) = owner {
        manifest["owner"] = json!(owner);
    }
    bucket.put(&key, dump).await?;
    bucket.put(&format!("{prefix}{id}/manifest.json"), manifest.to_string()).await
}

/// Stores receipts with texts that a dump could get wrong; returns the number of rows.
async fn fill(test: &TestContext, app: &App) -> Result<usize> {
    test.first_receipt(app, "plain").await?;
    for text in ["tab\there", "two\nlines", r"back\slash and 'quotes'", "₦1500 × 3 – ẹja", "\u{1f35b}"] {
        app.send(text).await?;
    }
    Ok(app.list().await?.len())
}

/// Waits for a Job that the schedule made.
async fn fired(stack: &Stack) -> Result<String> {
    stack
        .wait("the schedule to fire", FIRES_WITHIN, async || {
            let jobs = stack.scheduled_jobs().await?;
            Ok(jobs.into_iter().next().map_or_else(|| Observed::NotYet("no job".to_owned()), Observed::Met))
        })
        .await
}

/// The dump, after its manifest has vouched for it.
async fn fetch(bucket: &Bucket, record: &BackupRecord) -> Result<Vec<u8>> {
    let (_, key) = record.location.trim_start_matches("s3://").split_once('/').context("a location has a key")?;
    let manifest: Value = serde_json::from_slice(&bucket.get(key).await?)?;
    ensure!(manifest["id"] == record.id.as_str(), "the manifest of {} is {manifest}", record.id);
    let entry = manifest_object(&manifest, "/database.dump")?;
    let dump = bucket.get(entry["key"].as_str().context("an object has a key")?).await?;
    let sha256 = Sha256::digest(&dump).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    ensure!(entry["sha256"] == sha256.as_str(), "the dump has SHA-256 {sha256}, its manifest says {entry}");
    ensure!(i64::try_from(dump.len())? == record.size_bytes, "the dump has {} bytes: {record:?}", dump.len());
    Ok(dump)
}

/// The pod with the empty PostgreSQL.
const RESTORED: &str = "restored";

async fn restore(test: &TestContext, dump: &[u8]) -> Result<()> {
    test.apply_objects(&empty_database(&test.namespace)).await?;
    test.wait("the empty PostgreSQL to run", READY_WITHIN, async || {
        let pod = test.api(&test.namespace).get(RESTORED).await?;
        Ok(Observed::when(ready(&pod), "its pod is not ready"))
    })
    .await?;
    let into = ["exec", "--stdin", "--namespace", &test.namespace, RESTORED, "--"];
    let command = ["pg_restore", "--exit-on-error", "--no-owner", "--username=rorun", "--dbname=rorun"];
    test.kubectl_with(&[&into[..], &command].concat(), dump).await.context("the dump cannot be restored")?;
    Ok(())
}

async fn rows_of(test: &TestContext, pod: &str) -> Result<String> {
    test.exec(&test.namespace, pod, &["psql", "--username=rorun", "--dbname=rorun", "--command", ROWS]).await
}

/// With one more dump there are more good ones than must be kept: the oldest are gone, as many as that allows.
async fn retention_holds(test: &TestContext, stack: &Stack, bucket: &Bucket, prefix: &str) -> Result<()> {
    test.run_backup(stack, "one-more").await?;
    let mut good: Vec<String> = bucket
        .keys(prefix)
        .await?
        .iter()
        .filter_map(|key| key.strip_prefix(prefix)?.strip_suffix("/manifest.json").map(str::to_owned))
        .collect();
    good.sort();
    ensure!(good.first().is_some_and(|id| id == NOBODYS), "a backup without an owner was removed: {good:?}");
    good.remove(0);
    let (old, new): (Vec<_>, Vec<_>) = good.iter().map(String::as_str).partition(|id| OLD.contains(id));
    let kept = OLD.len() - MINIMUM_KEPT.saturating_sub(new.len());
    ensure!(new.len() >= 2 && old == OLD[kept..], "of {MINIMUM_KEPT} at least, these are kept: {old:?} and {new:?}");
    Ok(())
}

fn empty_database(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": RESTORED, "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 999,
                "fsGroup": 999,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "postgres",
                "image": POSTGRES,
                "imagePullPolicy": "IfNotPresent",
                "env": [
                    {"name": "POSTGRES_USER", "value": "rorun"},
                    {"name": "POSTGRES_PASSWORD", "value": "for the time of a test"},
                    {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
                ],
                "readinessProbe": {
                    "exec": {"command": ["pg_isready", "--quiet", "--host=127.0.0.1", "--username=rorun"]},
                    "periodSeconds": 1,
                },
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}
