//! Lost credentials: the operator says so and makes none up, since only the lost ones open the volume.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::kit::{Observed, Receipt, Stack, TestContext};
use crate::engine::progress;

const REPORTED_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test.apply_example("development.yaml", |_| {}).await?;
    stack.wait_ready(Duration::from_mins(3)).await?;
    let receipt = test.first_receipt(&test.app(&stack).await?, "1 bar of soap, 450").await?;
    let (name, pods) = (stack.child("database-credentials"), stack.pod_uids(None).await?);
    let copy = test.get(&test.namespace, "secret", &name).await?;
    let operators = test.operator_restarts().await?;

    let mark = test.mark().await?;
    test.kubectl(&["delete", "--namespace", &test.namespace, "secret", &name]).await?;
    lost(&stack).await?;
    // Each of these causes a reconcile.
    stack.patch(json!({"metadata": {"labels": {"team": "shop"}}})).await?;
    stack.patch_spec(json!({"deletionPolicy": "Retain"})).await?;
    lost(&stack).await?;
    still_repaired(test, &stack).await?;
    served(test, &stack, &receipt).await?;
    let gone = test.get(&test.namespace, "secret", &name).await?;
    ensure!(gone.is_null(), "the credentials were made up again");
    let writes = test.operator_writes_since(mark, &test.namespace).await?;
    let made_up = writes.0.iter().any(|call| call.resource == "secrets" && call.name == name);
    ensure!(!made_up, "the operator wrote the Secret: {:?}", writes.lines());
    ensure!(stack.pod_uids(None).await? == pods, "pods were replaced");

    let started = std::time::Instant::now();
    put_back(test, &copy).await?;
    stack.wait_ready(Duration::from_mins(1)).await?;
    progress::note(&format!("Ready {:.1} s after the Secret was put back", started.elapsed().as_secs_f64()));
    let again = test.get(&test.namespace, "secret", &name).await?;
    ensure!(again["data"] == copy["data"], "the Secret has other values than were put back");
    ensure!(stack.status().await?.condition("Stalled").is_none(), "the stack is still Stalled");
    ensure!(stack.pod_uids(None).await? == pods, "pods were replaced");
    ensure!(test.operator_restarts().await? == operators, "the operator was restarted");

    // Nobody has a copy.
    test.kubectl(&["delete", "--namespace", &test.namespace, "secret", &name]).await?;
    lost(&stack).await?;
    test.runbook("lost-credentials.md", &test.namespace, &[("STACK", &stack.name)]).await?;
    let again = test.get(&test.namespace, "secret", &name).await?;
    ensure!(again["data"] == copy["data"], "the runbook made other values");
    ensure!(stack.pod_uids(None).await? == pods, "pods were replaced");
    served(test, &stack, &receipt).await
}

/// The conditions that the user reads, and the way out that they name.
async fn lost(stack: &Stack) -> Result<()> {
    let reported = stack.wait_condition("DatabaseReady", "False", "CredentialsLost", REPORTED_WITHIN).await?;
    let (secret, claim) = (stack.child("database-credentials"), stack.child("database"));
    for part in [&*format!("secret/{secret}"), &format!("persistentvolumeclaim/{claim}"), "put the Secret back"] {
        ensure!(reported.message.contains(part), "the message does not say {part}: {}", reported.message);
    }
    stack.wait_condition("Stalled", "True", "CredentialsLost", REPORTED_WITHIN).await?;
    stack.wait_condition("Ready", "False", "CredentialsLost", REPORTED_WITHIN).await?;
    Ok(())
}

/// The operator reconciles the rest of the stack as before.
async fn still_repaired(test: &TestContext, stack: &Stack) -> Result<()> {
    let account = stack.child("redis");
    test.kubectl(&["delete", "--namespace", &test.namespace, "serviceaccount", &account]).await?;
    let what = format!("the ServiceAccount {account} to be made again");
    test.wait(&what, REPORTED_WITHIN, async || {
        let found = test.get(&test.namespace, "serviceaccount", &account).await?;
        Ok(Observed::when(!found.is_null(), "it is not there"))
    })
    .await
}

async fn served(test: &TestContext, stack: &Stack, receipt: &Receipt) -> Result<()> {
    let app = test.app(stack).await?;
    app.check(receipt).await?;
    app.check(&app.send("2 yams, 1200 each").await?).await
}

/// The Secret as a backup of the cluster has it, without the fields that the API server sets.
async fn put_back(test: &TestContext, copy: &Value) -> Result<()> {
    let metadata = &copy["metadata"];
    test.apply_objects(&json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": metadata["labels"],
            "annotations": metadata["annotations"],
        },
        "data": copy["data"],
    }))
    .await
}
