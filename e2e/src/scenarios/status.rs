//! A status that is true: while a stack is made its reason goes forward only, what an autoscaler or a node does turns nothing,
//! pods that are refused are told in the words of the server, and no pods are told as no pods.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::kit::{Scene, Seen, Stack};

const TOLD_WITHIN: Duration = Duration::from_mins(1);
const READY_WITHIN: Duration = Duration::from_mins(3);

pub(super) async fn run(scene: &Scene) -> Result<()> {
    let stack = scene
        .apply_example("development.yaml", |stack| {
            let spec = &mut stack["spec"];
            spec["backup"] = json!({});
            spec["api"]["autoscaling"] = json!({"minReplicas": 1, "maxReplicas": 3});
        })
        .await?;
    the_reason_goes_forward(&stack).await?;
    pods_beyond_the_fewest_turn_nothing(scene, &stack).await?;
    no_pods_are_told(scene, &stack).await?;
    refused_pods_are_told(scene, &stack).await
}

async fn the_reason_goes_forward(stack: &Stack) -> Result<()> {
    let mut told: Vec<String> = Vec::new();
    stack
        .wait("the stack to be Ready", READY_WITHIN, async || {
            let status = stack.status().await?;
            let Some(ready) = status.condition("Ready") else { return Ok(Seen::NotYet("no status".to_owned())) };
            let now = format!("{} {}", ready.status, ready.reason);
            if told.last() != Some(&now) {
                told.push(now);
            }
            Ok(Seen::when(ready.status == "True", status.line("Ready")))
        })
        .await?;
    told.retain(|one| one != "Unknown Progressing");
    ensure!(told == ["False Progressing", "True Ready"], "the reasons went to and fro: {told:?}");
    Ok(())
}

/// As an autoscaler adds pods, and as a node that is drained moves one.
async fn pods_beyond_the_fewest_turn_nothing(scene: &Scene, stack: &Stack) -> Result<()> {
    let before = times(stack).await?;
    scale(scene, stack, 3).await?;
    api_has(scene, stack, 3).await?;
    let pods = stack.pods(Some("api")).await?;
    let pod = pods.first().and_then(|pod| pod.metadata.name.clone()).context("a pod")?;
    scene.kubectl(&["delete", "pod", &pod, "--namespace", &scene.namespace]).await?;
    api_has(scene, stack, 3).await?;
    ensure!(times(stack).await? == before, "a condition turned: {before}, then {}", times(stack).await?);
    Ok(())
}

/// When each condition turned last.
async fn times(stack: &Stack) -> Result<Value> {
    let status = stack.status().await?;
    let of = |kind: &str| status.condition(kind).map(|condition| (condition.status, condition.last_transition_time));
    Ok(json!([of("Available"), of("Ready"), of("ApiReady"), of("Reconciling"), of("Stalled")]))
}

async fn no_pods_are_told(scene: &Scene, stack: &Stack) -> Result<()> {
    scale(scene, stack, 0).await?;
    for kind in ["Available", "Ready"] {
        stack.wait_condition(kind, "False", "ScaledToZero", TOLD_WITHIN).await?;
    }
    scale(scene, stack, 1).await?;
    stack.wait_ready(READY_WITHIN).await?;
    stack.patch_spec(json!({"api": {"autoscaling": null, "replicas": 0}})).await?;
    stack.wait_condition("Ready", "True", "ScaledToZero", TOLD_WITHIN).await?;
    stack.wait_condition("Available", "False", "ScaledToZero", TOLD_WITHIN).await?;
    // An autoscaler would leave it without pods for ever.
    stack.patch_spec(json!({"api": {"autoscaling": {"minReplicas": 2, "maxReplicas": 3}, "replicas": null}})).await?;
    stack.wait_ready(READY_WITHIN).await?;
    stack.wait_condition("Available", "True", "Ready", TOLD_WITHIN).await.map(drop)
}

/// Of a Deployment, a StatefulSet and a Job alike, while what runs goes on serving.
async fn refused_pods_are_told(scene: &Scene, stack: &Stack) -> Result<()> {
    let app = scene.app(stack).await?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": scene.namespace},
        "spec": {"hard": {"limits.memory": "1Mi"}}});
    scene.apply_objects(&quota).await?;
    stack.patch_spec(json!({"api": {"env": [{"name": "LOG_LEVEL", "value": "debug"}]}})).await?;
    let condition = stack.wait_condition("ApiReady", "False", "PodsRefused", TOLD_WITHIN).await?;
    ensure!(condition.message.contains("small"), "the quota is not named: {}", condition.message);
    stack.wait_condition("Stalled", "True", "PodsRefused", TOLD_WITHIN).await?;
    stack.wait_condition("Available", "True", "Ready", TOLD_WITHIN).await?;
    app.version().await?;

    let job = [&format!("--from=cronjob/{}", stack.child("backup")), "refused", "--namespace", &scene.namespace];
    scene.kubectl(&[&["create", "job"][..], &job].concat()).await?;
    let condition = stack.wait_condition("BackupHealthy", "False", "BackupFailed", TOLD_WITHIN).await?;
    ensure!(condition.message.contains("job/refused are refused"), "{}", condition.message);

    let pod = stack.pod("redis").await?;
    scene.kubectl(&["delete", "pod", &pod, "--namespace", &scene.namespace]).await?;
    let condition = stack.wait_condition("RedisReady", "False", "PodsRefused", TOLD_WITHIN).await?;
    ensure!(condition.message.contains("statefulset/"), "{}", condition.message);

    scene.kubectl(&["delete", "resourcequota", "small", "--namespace", &scene.namespace]).await?;
    stack.wait_ready(READY_WITHIN).await?;
    ensure!(stack.status().await?.condition("Stalled").is_none(), "the stack is still Stalled");
    Ok(())
}

async fn scale(scene: &Scene, stack: &Stack, count: i32) -> Result<()> {
    let (of, count) = (format!("deployment/{}", stack.child("api")), format!("--replicas={count}"));
    scene.kubectl(&["scale", &of, &count, "--namespace", &scene.namespace]).await.map(drop)
}

/// Waits until so many pods of the API serve, and no other is left.
async fn api_has(scene: &Scene, stack: &Stack, count: i32) -> Result<()> {
    let deployments = scene.api::<Deployment>(&scene.namespace);
    scene
        .wait(&format!("{count} pods of the API"), READY_WITHIN, async || {
            let status = deployments.get(&stack.child("api")).await?.status.unwrap_or_default();
            let pods = stack.pods(Some("api")).await?;
            let going = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
            let there = status.ready_replicas == Some(count) && going == 0;
            Ok(Seen::when(there, format!("{:?} ready, {going} that go", status.ready_replicas)))
        })
        .await
}
