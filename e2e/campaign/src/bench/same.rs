//! The floor of B4: how many stacks a client makes in a second that writes just what the operator writes, by the same verbs,
//! while everything is watched as the operator watches it. A client that only creates objects asks the API server for less
//! than any controller can: it applies nothing, tells no status, and nobody is told of what it made.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::{AsyncReadExt, StreamExt, TryStreamExt, stream};
use http::Request;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::environment::{BenchEnvironment, create_stack, delete_stack};
use super::floor;
use super::load;
use super::stats::float;
use super::template::{StackName, Template, rank};

/// Stacks that are made at once, as the operator has it.
const AT_ONCE: usize = 8;
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Makes as many stacks as the run has, since the API server is slower beside many, and removes them. No operator may run.
pub(super) async fn stacks_per_second(bench: &BenchEnvironment) -> Result<f64> {
    let (client, template) = (&bench.client, &bench.template);
    let names = &floor::names('s', bench.options.stacks);
    load::prepare(client, &bench.services, names).await?;
    let mut watches = JoinSet::new();
    let everything = template.paths().into_iter().map(|path| (path, "application/json"));
    let metadata = ["/api/v1/secrets", "/api/v1/configmaps"].map(|path| (path.to_owned(), METADATA));
    for (path, accept) in everything.chain(metadata) {
        watches.spawn(drain(client.clone(), path, accept));
    }
    let started = Instant::now();
    stream::iter(names).map(|of| one(client, template, of)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let took = started.elapsed();
    drop(watches);
    load::each(names, |of| delete_stack(client, of)).await?;
    load::collect(client, &template.foreign_objects(&names[0]), names).await?;
    Ok(float(names.len()) / took.as_secs_f64())
}

async fn one(client: &Client, template: &Template, of: &StackName) -> Result<()> {
    create_stack(client, template, of).await?;
    tell(client, of, "Unknown").await?;
    let objects = template.foreign_objects(of);
    for wanted in 0..=2 {
        let now = objects.iter().filter(|object| rank(object) == wanted);
        load::each(now, |object| load::apply(client, object, "floor")).await?;
    }
    tell(client, of, "False").await
}

/// Applies a status as long as the operator's.
async fn tell(client: &Client, of: &StackName, ready: &str) -> Result<()> {
    const CONDITIONS: [&str; 10] = [
        "AdminReady",
        "ApiReady",
        "BackupHealthy",
        "BucketReady",
        "ConnectionReady",
        "DatabaseReady",
        "IngressReady",
        "OcrReady",
        "Ready",
        "RedisReady",
    ];
    let message = "deployment/stack-00000-api was changed just now (admin, ingress wait for it)";
    let condition = |kind: &&str| {
        json!({
            "type": kind, "status": ready, "reason": "Progressing", "message": message, "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let row = |name: &&str| json!({"name": name, "ready": false, "pods": "0/2", "replicas": 2, "message": message});
    let rows: Vec<Value> = ["api", "ocr", "admin", "database", "redis", "bucket", "ingress"].iter().map(row).collect();
    let status = json!({
        "observedGeneration": 1, "environment": "Development", "components": rows,
        "conditions": CONDITIONS.iter().map(condition).collect::<Vec<_>>(),
    });
    let body = json!({
        "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": of.name}, "status": status,
    });
    let params = PatchParams::apply("floor").force();
    load::stacks(client, &of.namespace).patch_status(&of.name, &params, &Patch::Apply(&body)).await?;
    Ok(())
}

/// Reads a watch, until it is aborted.
async fn drain(client: Client, path: String, accept: &str) -> Result<()> {
    let request = Request::get(format!("{path}?watch=true")).header("accept", accept).body(Vec::new())?;
    let events = client.request_stream(request).await.with_context(|| format!("failed to watch {path}"))?;
    let mut events = std::pin::pin!(events);
    let mut buffer = vec![0; 64 * 1024];
    while events.read(&mut buffer).await? > 0 {}
    Ok(())
}
