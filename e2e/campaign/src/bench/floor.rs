//! The floors: what the same API server gives a client that does nothing but write, or read. Whatever is measured is divided
//! by these, so that a slow machine cancels out.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::AsyncReadExt;
use http::Request;
use kube::Client;
use serde_json::Value;

use super::load;
use super::stats::float;
use super::template::{StackName, Template, rank};

/// What a client without a controller reaches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    /// W: objects made in a second, 32 at once.
    pub(super) creates: f64,
    /// The same objects by server-side apply.
    pub(super) applies: f64,
    /// Bytes listed in a second, one list after the other.
    pub(super) list_bytes: f64,
}

impl Floor {
    /// Makes what so many stacks would need, twice, lists it, and removes it. The operator does not look for any of it.
    pub(super) async fn measure(client: &Client, template: &Template, stacks: usize) -> Result<Floor> {
        let (by_create, by_apply) = (names('r', stacks), names('p', stacks));
        for of in by_create.iter().chain(&by_apply) {
            load::make_namespace(client, &of.namespace).await?;
        }
        let objects =
            |names: &[StackName]| names.iter().flat_map(|of| template.foreign_objects(of)).collect::<Vec<_>>();
        let (ones, others) = (objects(&by_create), objects(&by_apply));
        let took = load::each(&ones, |object| load::create(client, object)).await?;
        let creates = float(ones.len()) / took.as_secs_f64();
        let took = load::each(&others, |object| load::apply(client, object, "floor")).await?;
        let applies = float(others.len()) / took.as_secs_f64();
        let list_bytes = list_rate(client).await?;
        let like = template.foreign_objects(&by_create[0]);
        load::collect(client, &like, &by_create).await?;
        load::collect(client, &like, &by_apply).await?;
        Ok(Floor { creates, applies, list_bytes })
    }

    /// Objects per second, as text.
    pub(super) fn reported(&self) -> Vec<(&'static str, String)> {
        vec![
            ("W, objects created per second, 32 at once", format!("{:.0}", self.creates)),
            ("the same by server-side apply", format!("{:.0}", self.applies)),
            ("bytes listed per second", format!("{:.1} MiB", self.list_bytes / 1_048_576.0)),
        ]
    }
}

/// Stacks of a group.
pub(super) fn names(group: char, count: usize) -> Vec<StackName> {
    (0..count).map(|number| StackName::new(group, number)).collect()
}

/// The time that a client takes that writes the objects of one stack: those of a rank at once, one rank after the other.
pub(super) async fn one_stack(client: &Client, objects: &[Value]) -> Result<Duration> {
    let started = Instant::now();
    for wanted in 0..=2 {
        load::each(objects.iter().filter(|object| rank(object) == wanted), |object| load::create(client, object))
            .await?;
    }
    Ok(started.elapsed())
}

/// Lists Deployments and Secrets of everybody until it took long enough to tell.
async fn list_rate(client: &Client) -> Result<f64> {
    let (mut bytes, started) = (0, Instant::now());
    while started.elapsed() < Duration::from_secs(1) {
        bytes += list(client, "/apis/apps/v1/deployments").await? + list(client, "/api/v1/secrets").await?;
    }
    Ok(float(bytes) / started.elapsed().as_secs_f64())
}

/// Reads a list to its end; gives its size.
pub(super) async fn list(client: &Client, path: &str) -> Result<usize> {
    let request = Request::get(path).body(Vec::new())?;
    let mut body = client.request_stream(request).await.with_context(|| format!("failed to list {path}"))?;
    let mut bytes = Vec::new();
    let mut body = std::pin::pin!(&mut body);
    body.read_to_end(&mut bytes).await?;
    Ok(bytes.len())
}
