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

    let queue = ["redis-cli", "LRANGE", "receipts", "0", "-1"];
    let queued = test.exec(namespace, &stack.pod("redis").await?, &queue).await?;
    ensure!(queued.lines().any(|id| id == receipt.id), "Redis has the queue {queued}");

    let endpoint = stack.status().await?.json["endpoints"]["api"].as_str().context("no endpoint")?.to_owned();
    ensure!(endpoint == format!("http://{}", app.host), "the status names the endpoint {endpoint}");
    ensure!(stack.restarts().await?.values().all(|&count| count == 0), "pods restarted: {:?}", stack.restarts().await?);
    Ok(())
}
