//! The smallest stack with an Ingress, as the example has it: from `kubectl apply` to a receipt that went through
//! PostgreSQL, the bucket, Redis and the OCR service, each of them asked without the application.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::kit::prelude::*;

const TEXT: &str = "2 bags of rice, 1500 each";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let started = Instant::now();
    let stack = test.apply(&test.example("development.yaml")?).await?;
    let timeline = stack.ready_timeline(started, Duration::from_mins(3)).await?;
    progress::note(&format!("development.yaml: {timeline}"));

    let app = test.app(&stack).await?;
    let receipt = test.first_receipt(&app, TEXT).await?;
    ensure!(receipt.ocr.as_deref() == Some(&*TEXT.to_uppercase()), "the OCR service read {:?}", receipt.ocr);
    app.check(&receipt).await?;

    let namespace = &test.namespace;
    let query = format!("SELECT sha256 || ' ' || ocr FROM receipts WHERE id = '{}'", receipt.id);
    let psql = ["psql", "--username=rorun", "--dbname=rorun", "--no-align", "--tuples-only", "--command", &query];
    let row = test.exec(namespace, &stack.pod("database").await?, &psql).await?;
    ensure!(row.trim() == format!("{} {}", receipt.sha256, TEXT.to_uppercase()), "PostgreSQL has the row {row}");

    let bucket = Bucket::of(test, &stack).await?;
    let object = bucket.get(&format!("receipts/{}", receipt.id)).await?;
    ensure!(object == TEXT.as_bytes(), "the bucket has {:?}", String::from_utf8_lossy(&object));

    let queued = ask_redis(test, &stack, "LRANGE receipts 0 -1").await?;
    ensure!(queued.lines().any(|id| id == receipt.id), "Redis has the queue {queued}");
    // The user of the application can neither stop nor change the server, and nobody else may enter.
    for refused in ["SHUTDOWN NOSAVE", "CONFIG SET appendonly no", "ACL LIST"] {
        let answer = ask_redis(test, &stack, refused).await?;
        ensure!(answer.contains("NOPERM"), "{refused}: {answer}");
    }
    let policy = ask_redis(test, &stack, "CONFIG GET maxmemory-policy").await?;
    ensure!(policy.contains("noeviction"), "{policy}");
    let stranger = ["sh", "-c", "redis-cli LRANGE receipts 0 -1 2>&1"];
    let answer = test.exec(namespace, &stack.pod("redis").await?, &stranger).await?;
    ensure!(answer.contains("WRONGPASS") || answer.contains("NOAUTH"), "the user default may read: {answer}");

    let endpoint = stack.status().await?.json["endpoints"]["api"].as_str().context("no endpoint")?.to_owned();
    ensure!(endpoint == format!("http://{}", app.host), "the status names the endpoint {endpoint}");
    ensure!(stack.restarts().await?.values().all(|&count| count == 0), "pods restarted: {:?}", stack.restarts().await?);
    Ok(())
}

/// As the user of the application, in the pod of Redis.
async fn ask_redis(test: &TestContext, stack: &Stack, command: &str) -> Result<String> {
    let script = format!("redis-cli --user \"$REDIS_USERNAME\" {command} 2>&1 || true");
    test.exec(&test.namespace, &stack.pod("redis").await?, &["sh", "-c", &script]).await
}
