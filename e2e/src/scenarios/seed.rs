//! A developer's stack begins with the rows of another environment, with some of its objects and without its addresses: a point is
//! sanitized beside the stack that it is of, and fills a new one before that starts. The point that is not sanitized is refused.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kit::{Stack, Status, TestContext};
use super::restore::{complete, create};
use crate::engine::progress;

const READY_WITHIN: Duration = Duration::from_mins(3);
/// A volume, two containers, and a server that is made anew, on a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_mins(3);
/// No schedule may interfere.
const NEVER: &str = "0 0 29 2 *";
const PEOPLE: u32 = 500;
const ADDRESSES: &str = "SELECT count(*) FROM people WHERE email LIKE '%@example.com'";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = origin(test).await?;
    let app = test.app(&stack).await?;
    let receipt = test.first_receipt(&app, "one").await?;
    let own = json!({"stackRef": {"name": stack.name}});
    create(test, &test.namespace, "RorunBackup", "raw", &own).await?;
    let raw = location(&complete(test, &test.namespace, "rorunbackup", "raw").await?)?;
    let (keys, external) = bucket(&stack).await?;
    test.secret("safe", keys.clone()).await?;
    let safe = sanitized(test, &stack, &external).await?;
    ensure!(safe.contains("/sanitized/") && raw.contains("/backups/"), "{raw} and {safe}");
    let left = psql(test, (&test.namespace, &stack), ADDRESSES).await?;
    ensure!(left.trim() == PEOPLE.to_string(), "of the stack itself {left} addresses are left");

    let (namespace, preview) = preview(test, (&raw, &external, keys)).await?;
    let refused = |status: &Status| {
        status.condition("Ready").is_some_and(|ready| ready.status == "False" && ready.reason == "SeedRefused")
    };
    let status = preview.wait_status("the raw point to be refused", REFUSED_WITHIN, refused).await?;
    let line = status.line("Ready");
    ensure!(line.contains("PointNotSanitized"), "{line}");
    ensure!(preview.pods(Some("api")).await?.is_empty(), "the application starts without its data");
    preview.patch_spec(json!({"seedFrom": {"location": safe}})).await?;
    let status = preview.wait_ready(READY_WITHIN).await?;
    let line = status.line("Seeded");
    ensure!(status.condition("Seeded").is_some_and(|seeded| seeded.status == "True"), "{line}");
    let there = "SELECT count(*) FROM people WHERE email LIKE 'person%@invalid'";
    let there = psql(test, (&namespace, &preview), there).await?;
    ensure!(there.trim() == PEOPLE.to_string(), "of {PEOPLE} people {there} are there");
    let leaked = psql(test, (&namespace, &preview), ADDRESSES).await?;
    ensure!(leaked.trim() == "0", "{leaked} addresses left the environment");
    ensure!(line.contains("and the bucket with "), "{line}");
    let app = test.app(&preview).await?;
    let rows = app.list().await?;
    ensure!(rows.iter().any(|row| row["id"] == receipt.id.as_str()), "the receipt is not there: {rows:?}");
    let found = app.find(&receipt.id).await?;
    ensure!(found["objectSha256"] == receipt.sha256.as_str(), "the object of the receipt is not there: {found}");
    Ok(())
}

/// A stack with addresses. Production runs nothing embedded, so it is played by another environment.
async fn origin(test: &TestContext) -> Result<Stack> {
    let little = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
    let verify = json!({"schedule": NEVER, "suspend": true, "storage": {"size": "1Gi"}, "resources": little});
    let backup = json!({"schedule": NEVER, "includeBucket": true, "resources": little, "verify": verify});
    let stack = test.apply_example("development.yaml", |stack| {
        let spec = &mut stack["spec"];
        spec["environment"] = json!("Staging");
        for service in ["database", "redis", "bucket"] {
            if spec[service].is_null() {
                spec[service] = json!({"embedded": {}});
            }
        }
        for workload in ["api", "ocr"] {
            spec[workload]["replicas"] = json!(1);
        }
        spec["backup"] = backup;
    });
    let stack = stack.await?;
    stack.wait_ready(READY_WITHIN).await?;
    let fill = format!(
        "CREATE TABLE people (id int PRIMARY KEY, email text); \
         INSERT INTO people SELECT n, 'ada' || n || '@example.com' FROM generate_series(1, {PEOPLE}) n"
    );
    psql(test, (&test.namespace, &stack), &fill).await?;
    Ok(stack)
}

/// Makes a sanitized point by a program, and two that fail; gives the location of the first.
async fn sanitized(test: &TestContext, stack: &Stack, external: &Value) -> Result<String> {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "statements", "namespace": test.namespace},
        "data": {"wrong.sql": "UPDATE person SET email = ''"}});
    test.apply_objects(&map).await?;
    let spec = |sanitize: Value| json!({"stackRef": {"name": stack.name}, "sanitize": sanitize, "destination": {"external": external}});
    // Any image with a shell does.
    let program = |script: &str| json!({"image": "docker.io/library/postgres:17", "command": ["sh", "-c", script]});
    let statements = "echo \"UPDATE people SET email = 'person' || id || '@invalid';\"";
    let wrong = json!({"sqlConfigMapRef": {"name": "statements", "key": "wrong.sql"}});
    let safe = json!({"command": program(statements), "objectPrefixes": ["receipts/"]});
    let broken = json!({"command": program("echo 'no such table' >&2; exit 3")});
    for (name, sanitize) in [("wrong", wrong), ("safe", safe), ("broken", broken)] {
        create(test, &test.namespace, "RorunBackup", name, &spec(sanitize)).await?;
    }
    let safe = complete(test, &test.namespace, "rorunbackup", "safe").await?;
    progress::note(&format!("a sanitized point took {} s", safe["status"]["durationSeconds"]));
    let safe = location(&safe)?;
    let wrong = complete(test, &test.namespace, "rorunbackup", "wrong").await;
    let failed = wrong.err().context("a statement that fails makes a point")?.to_string();
    ensure!(failed.contains("does not exist"), "{failed}");
    let broken = complete(test, &test.namespace, "rorunbackup", "broken").await;
    let failed = broken.err().context("a program that fails makes a point")?.to_string();
    ensure!(failed.contains("exit status: 3: no such table"), "{failed}");
    Ok(safe)
}

/// A stack in a namespace of its own that begins with a point, in the reach of the keys.
async fn preview(test: &TestContext, (point, external, keys): (&str, &Value, Value)) -> Result<(String, Stack)> {
    let namespace = test.namespace_called("preview").await?;
    let metadata = json!({"name": "reader", "namespace": namespace});
    test.apply_objects(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys}))
        .await?;
    let mut documents = test.small_example("development.yaml")?;
    documents.edit_stack(|stack| {
        stack["metadata"]["name"] = json!("preview");
        stack["spec"]["ingress"]["host"] = json!(test.host("preview"));
        stack["spec"]["seedFrom"] = json!({"location": point, "endpoint": external["endpoint"],
            "credentialsSecretRef": {"name": "reader"}});
    })?;
    let (manifest, name) = documents.in_namespace(&namespace)?;
    test.apply_objects(&manifest).await?;
    let stack = test.stack_in(&namespace, &name);
    Ok((namespace, stack))
}

/// The keys of the bucket of a stack, and the block of a spec that names it.
async fn bucket(stack: &Stack) -> Result<(Value, Value)> {
    let connection = stack.connection().await?;
    let value = |key: &str| connection.get(key).with_context(|| format!("no {key}"));
    let keys = json!({"AWS_ACCESS_KEY_ID": value("AWS_ACCESS_KEY_ID")?, "AWS_SECRET_ACCESS_KEY": value("AWS_SECRET_ACCESS_KEY")?});
    let external = json!({"name": value("S3_BUCKET")?, "endpoint": value("S3_ENDPOINT")?, "forcePathStyle": true,
        "credentialsSecretRef": {"name": "safe"}});
    Ok((keys, external))
}

fn location(backup: &Value) -> Result<String> {
    Ok(backup["status"]["location"].as_str().context("the point has no location")?.to_owned())
}

/// What a statement gives in the database of a stack, without headings.
async fn psql(test: &TestContext, (namespace, stack): (&str, &Stack), statement: &str) -> Result<String> {
    let pod = stack.pod("database").await?;
    let psql = ["psql", "--username=rorun", "--dbname=rorun", "--tuples-only", "--no-align", "--command", statement];
    test.exec(namespace, &pod, &psql).await
}
