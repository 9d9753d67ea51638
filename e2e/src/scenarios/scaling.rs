//! The autoscaler scales the API by real load and back, and the operator has no part in it: the number of replicas is
//! not its own, so it neither sets it nor answers to a change of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::kit::prelude::*;

const MOST: i32 = 3;
/// Metrics come every 15 seconds, and a mean needs two of them.
const UP_WITHIN: Duration = Duration::from_mins(2);
/// The same, after the time for which the autoscaler trusts no fall.
const DOWN_WITHIN: Duration = Duration::from_mins(3);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test
        .apply_example("development.yaml", |stack| {
            let spec = &mut stack["spec"];
            // The OCR service has no part in it.
            spec.as_object_mut().map(|spec| spec.remove("ocr"));
            spec["api"]["resources"] = json!({"requests": {"cpu": "50m", "memory": "32Mi"}});
            spec["api"]["autoscaling"] = json!({"minReplicas": 1, "maxReplicas": MOST, "targetCPUUtilization": 50});
        })
        .await?;
    stack.wait_ready(Duration::from_mins(3)).await?;
    let app = test.app(&stack).await?;
    replicas_come_to(test, &stack, 1, DOWN_WITHIN).await?;

    let mark = test.mark().await?;
    let started = std::time::Instant::now();
    tokio::select! {
        scaled = replicas_come_to(test, &stack, MOST, UP_WITHIN) => scaled?,
        never = load(&app) => never.context("the load ended")?,
    }
    let up = started.elapsed();
    // Under load requests may take long; pods that go one after the other are to be missed by nobody.
    app.unnoticed("an autoscaler that takes pods away", replicas_come_to(test, &stack, 1, DOWN_WITHIN)).await?;
    stack.wait_ready(Duration::from_mins(1)).await?;
    let down = started.elapsed().saturating_sub(up);
    progress::note(&format!(
        "{MOST} pods after {:.0} s of load, 1 pod {:.0} s later",
        up.as_secs_f64(),
        down.as_secs_f64()
    ));

    let writes = test.operator_writes_since(mark, &test.namespace).await?.to_children();
    ensure!(writes.0.is_empty(), "the operator wrote while the autoscaler scaled: {:?}", writes.lines());
    let deployment = test.api::<Deployment>(&test.namespace).get(&stack.child("api")).await?;
    let fields = deployment.metadata.managed_fields.unwrap_or_default();
    let ours = fields.iter().find(|entry| entry.manager.as_deref() == Some("rorun-operator"));
    let ours = ours.context("the operator manages no field of the Deployment")?;
    let ours = serde_json::to_value(&ours.fields_v1)?;
    ensure!(ours["f:spec"]["f:template"].is_object(), "the operator does not manage the template: {ours}");
    ensure!(ours["f:spec"].get("f:replicas").is_none(), "the operator manages the number of replicas");
    app.version().await?;
    Ok(())
}

/// Occupies about half a processor, which is many times the request of the pod.
async fn load(app: &App) -> Result<()> {
    loop {
        // One that a new pod refuses does not end the load.
        let _ = app.get("/burn?ms=100").await;
        let _ = app.version().await;
    }
}

/// Waits until the Deployment asks for so many pods, and has them.
async fn replicas_come_to(test: &TestContext, stack: &Stack, count: i32, limit: Duration) -> Result<()> {
    let deployments = test.api::<Deployment>(&test.namespace);
    test.wait(&format!("{count} pods of the API"), limit, async || {
        let deployment = deployments.get(&stack.child("api")).await?;
        let wanted = deployment.spec.and_then(|spec| spec.replicas);
        let status = deployment.status.unwrap_or_default();
        let holds = wanted == Some(count) && status.ready_replicas == Some(count);
        Ok(Observed::when(holds, format!("{wanted:?} wanted, {:?} ready", status.ready_replicas)))
    })
    .await
}
