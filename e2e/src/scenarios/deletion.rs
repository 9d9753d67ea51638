//! A stack that is deleted leaves its data, and one of the same name finds them again.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::kit::{Bucket, Documents, Observed, Receipt, Stack, TestContext};
use crate::engine::progress;

/// Objects that a stack owns, and that are deleted with it.
const OWNED: &str = "deployments,statefulsets,services,ingresses,serviceaccounts,pods";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let documents: Documents = test.example("development.yaml")?;
    let stack = test.apply(&documents).await?;
    stack.wait_ready(Duration::from_mins(3)).await?;
    let (receipts, rows) = sent(test, &stack).await?;
    let before = stack.data().await?;
    ensure!(before.len() == 6, "not three volumes and three Secrets: {:?}", before.keys());

    stack.delete(Duration::from_secs(30)).await?;
    let started = std::time::Instant::now();
    stack
        .wait("everything that the stack owns to be gone", Duration::from_mins(2), async || {
            let mut left: Vec<String> = stack.list(OWNED).await?.iter().map(name).collect();
            if !test.get(&test.namespace, "secret", &stack.child("connection")).await?.is_null() {
                left.push("Secret/connection".to_owned());
            }
            Ok(Observed::when(left.is_empty(), left.join(", ")))
        })
        .await?;
    progress::note(&format!("all that the stack owned was gone after {:.1} s", started.elapsed().as_secs_f64()));
    ensure!(stack.data().await? == before, "the data are not what they were: {:?}", stack.data().await?);

    test.apply(&documents).await?;
    let again = std::time::Instant::now();
    stack.wait_ready(Duration::from_mins(3)).await?;
    progress::note(&format!("the stack was Ready again after {:.1} s", again.elapsed().as_secs_f64()));
    ensure!(stack.data().await? == before, "the data are not those of before: {:?}", stack.data().await?);
    let app = test.app(&stack).await?;
    let bucket = Bucket::of(test, &stack).await?;
    for receipt in &receipts {
        app.check(receipt).await?;
        let object = bucket.get(&format!("receipts/{}", receipt.id)).await?;
        ensure!(
            receipt.ocr.as_deref() == Some(&*String::from_utf8(object)?.to_uppercase()),
            "another object: {receipt:?}"
        );
    }
    ensure!(app.list().await? == rows, "there are other rows");
    test.first_receipt(&app, "one more, after the return").await?;
    Ok(())
}

/// Sends receipts; gives them, and all rows that there are then.
async fn sent(test: &TestContext, stack: &Stack) -> Result<(Vec<Receipt>, Vec<Value>)> {
    let app = test.app(stack).await?;
    let mut receipts = vec![test.first_receipt(&app, "3 tins of milk, 900 each").await?];
    for index in 0..4 {
        receipts.push(app.send(&format!("receipt {index}: 2 bags of sugar, 1100 each")).await?);
    }
    let rows = app.list().await?;
    Ok((receipts, rows))
}

fn name(object: &Value) -> String {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", part(&object["kind"]), part(&object["metadata"]["name"]))
}
