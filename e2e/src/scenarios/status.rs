//! A status that is true: while a stack is made its reason goes forward only, an autoscaler or a node changes no condition,
//! refused pods are reported in the words of the server, and the absence of pods as such.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::kit::{Observed, Stack, TestContext};

const REPORTED_WITHIN: Duration = Duration::from_mins(1);
const READY_WITHIN: Duration = Duration::from_mins(3);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let stack = test
        .apply_example("development.yaml", |stack| {
            let spec = &mut stack["spec"];
            spec["backup"] = json!({});
            // Else the autoscaler takes the pods away again that this adds by hand.
            let behavior = json!({"scaleDown": {"selectPolicy": "Disabled"}});
            spec["api"]["autoscaling"] = json!({"minReplicas": 1, "maxReplicas": 3, "behavior": behavior});
        })
        .await?;
    the_reason_goes_forward(&stack).await?;
    pods_beyond_the_fewest_turn_nothing(test, &stack).await?;
    no_pods_are_told(test, &stack).await?;
    refused_pods_are_told(test, &stack).await
}

async fn the_reason_goes_forward(stack: &Stack) -> Result<()> {
    let mut reported: Vec<String> = Vec::new();
    stack
        .wait("the stack to be Ready", READY_WITHIN, async || {
            let status = stack.status().await?;
            let Some(ready) = status.condition("Ready") else { return Ok(Observed::NotYet("no status".to_owned())) };
            let now = format!("{} {}", ready.status, ready.reason);
            if reported.last() != Some(&now) {
                reported.push(now);
            }
            Ok(Observed::when(ready.status == "True", status.line("Ready")))
        })
        .await?;
    reported.retain(|one| one != "Unknown Progressing");
    ensure!(reported == ["False Progressing", "True Ready"], "the reasons went to and fro: {reported:?}");
    Ok(())
}

/// As an autoscaler adds pods, and as a node that is drained moves one.
async fn pods_beyond_the_fewest_turn_nothing(test: &TestContext, stack: &Stack) -> Result<()> {
    let before = times(stack).await?;
    scale(test, stack, 3).await?;
    api_has(test, stack, 3).await?;
    let pods = stack.pods(Some("api")).await?;
    let pod = pods.first().and_then(|pod| pod.metadata.name.clone()).context("a pod")?;
    test.kubectl(&["delete", "pod", &pod, "--namespace", &test.namespace]).await?;
    api_has(test, stack, 3).await?;
    ensure!(times(stack).await? == before, "a condition turned: {before}, then {}", times(stack).await?);
    Ok(())
}

/// When each condition turned last.
async fn times(stack: &Stack) -> Result<Value> {
    let status = stack.status().await?;
    let of = |kind: &str| status.condition(kind).map(|condition| (condition.status, condition.last_transition_time));
    Ok(json!([of("Available"), of("Ready"), of("ApiReady"), of("Reconciling"), of("Stalled")]))
}

async fn no_pods_are_told(test: &TestContext, stack: &Stack) -> Result<()> {
    scale(test, stack, 0).await?;
    for kind in ["Available", "Ready"] {
        stack.wait_condition(kind, "False", "ScaledToZero", REPORTED_WITHIN).await?;
    }
    scale(test, stack, 1).await?;
    stack.wait_ready(READY_WITHIN).await?;
    stack.patch_spec(json!({"api": {"autoscaling": null, "replicas": 0}})).await?;
    stack.wait_condition("Ready", "True", "ScaledToZero", REPORTED_WITHIN).await?;
    stack.wait_condition("Available", "False", "ScaledToZero", REPORTED_WITHIN).await?;
    // An autoscaler would leave it without pods for ever.
    stack.patch_spec(json!({"api": {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}, "replicas": null}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    stack.wait_condition("Available", "True", "Ready", REPORTED_WITHIN).await.map(drop)
}

/// Of a Deployment, a StatefulSet and a Job alike, while what runs goes on serving.
async fn refused_pods_are_told(test: &TestContext, stack: &Stack) -> Result<()> {
    let app = test.app(stack).await?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": test.namespace},
        "spec": {"hard": {"limits.memory": "1Mi"}}});
    test.apply_objects(&quota).await?;
    stack.patch_spec(json!({"api": {"env": [{"name": "LOG_LEVEL", "value": "debug"}]}})).await?;
    let condition = stack.wait_condition("ApiReady", "False", "PodsRefused", REPORTED_WITHIN).await?;
    ensure!(condition.message.contains("small"), "the quota is not named: {}", condition.message);
    stack.wait_condition("Stalled", "True", "PodsRefused", REPORTED_WITHIN).await?;
    stack.wait_condition("Available", "True", "Ready", REPORTED_WITHIN).await?;
    app.version().await?;

    let job = [&format!("--from=cronjob/{}", stack.child("backup")), "refused", "--namespace", &test.namespace];
    test.kubectl(&[&["create", "job"][..], &job].concat()).await?;
    let condition = stack.wait_condition("BackupHealthy", "False", "BackupFailed", REPORTED_WITHIN).await?;
    ensure!(condition.message.contains("job/refused are refused"), "{}", condition.message);

    let pod = stack.pod("redis").await?;
    test.kubectl(&["delete", "pod", &pod, "--namespace", &test.namespace]).await?;
    let condition = stack.wait_condition("RedisReady", "False", "PodsRefused", REPORTED_WITHIN).await?;
    ensure!(condition.message.contains("statefulset/"), "{}", condition.message);

    test.kubectl(&["delete", "resourcequota", "small", "--namespace", &test.namespace]).await?;
    stack.wait_ready(READY_WITHIN).await?;
    ensure!(stack.status().await?.condition("Stalled").is_none(), "the stack is still Stalled");
    Ok(())
}

async fn scale(test: &TestContext, stack: &Stack, count: i32) -> Result<()> {
    let (of, count) = (format!("deployment/{}", stack.child("api")), format!("--replicas={count}"));
    test.kubectl(&["scale", &of, &count, "--namespace", &test.namespace]).await.map(drop)
}

/// Waits until so many pods of the API serve, and no other is left.
async fn api_has(test: &TestContext, stack: &Stack, count: i32) -> Result<()> {
    let deployments = test.api::<Deployment>(&test.namespace);
    test.wait(&format!("{count} pods of the API"), READY_WITHIN, async || {
        let status = deployments.get(&stack.child("api")).await?.status.unwrap_or_default();
        let pods = stack.pods(Some("api")).await?;
        let going = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
        let there = status.ready_replicas == Some(count) && going == 0;
        Ok(Observed::when(there, format!("{:?} ready, {going} that go", status.ready_replicas)))
    })
    .await
}
