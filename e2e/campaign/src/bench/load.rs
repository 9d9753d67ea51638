//! Writes in bulk, as fast as a client without a controller can.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::services::Services;
use super::template::{StackName, api_of};
use super::watch::stack_resource;

/// How many requests are on their way at once.
pub(super) const WIDE: usize = 32;
/// Requests in which all objects of a kind in a namespace are deleted, at most.
const COLLECTED_IN: usize = 8;

/// Does something with each of many, so many at once; gives the time that it took.
pub(super) async fn each<T, F>(things: impl IntoIterator<Item = T>, work: impl FnMut(T) -> F) -> Result<Duration>
where
    F: Future<Output = Result<()>>,
{
    let started = Instant::now();
    stream::iter(things).map(work).buffer_unordered(WIDE).try_collect::<()>().await?;
    Ok(started.elapsed())
}

/// Makes an object.
pub(super) async fn create(client: &Client, object: &Value) -> Result<()> {
    let body: DynamicObject = serde_json::from_value(object.clone())?;
    api_of(client, object).create(&PostParams::default(), &body).await.with_context(|| name_of(object))?;
    Ok(())
}

/// Applies an object as whoever is named.
pub(super) async fn apply(client: &Client, object: &Value, manager: &str) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let params = PatchParams::apply(manager).force();
    api_of(client, object)
        .patch_metadata(name, &params, &Patch::Apply(object))
        .await
        .with_context(|| name_of(object))?;
    Ok(())
}

fn name_of(object: &Value) -> String {
    format!("failed to write {} {}", object["kind"], object["metadata"]["name"])
}

/// The stacks of a namespace.
pub(super) fn stacks(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &stack_resource())
}

/// Makes the namespaces of stacks, with the Secrets that lead to their services.
pub(super) async fn prepare(client: &Client, services: &Services, names: &[StackName]) -> Result<()> {
    let mut namespaces: Vec<&str> = names.iter().map(|of| of.namespace.as_str()).collect();
    namespaces.dedup();
    for namespace in namespaces {
        make_namespace(client, namespace).await?;
        for (name, values) in services.secrets() {
            let secret = json!({"metadata": {"name": name}, "stringData": values});
            let api = Api::<Secret>::namespaced(client.clone(), namespace);
            ignore_existing(api.create(&PostParams::default(), &serde_json::from_value(secret)?).await)?;
        }
    }
    Ok(())
}

/// Makes a namespace, if it is not there.
pub(super) async fn make_namespace(client: &Client, name: &str) -> Result<()> {
    let body = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    ignore_existing(Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &body).await)
}

fn ignore_existing<T>(made: kube::Result<T>) -> Result<()> {
    match made {
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// Changes a stack; gives its new generation and when the answer came.
pub(super) async fn change(client: &Client, of: &StackName, change: &Value) -> Result<(i64, Instant)> {
    let api = stacks(client, &of.namespace);
    let changed = api.patch(&of.name, &PatchParams::default(), &Patch::Merge(change)).await;
    let changed = changed.with_context(|| format!("failed to change {of:?}"))?;
    Ok((changed.metadata.generation.unwrap_or_default(), Instant::now()))
}

/// Deletes what stacks leave behind where nothing collects garbage: every object like one of these, in their namespaces.
pub(super) async fn collect(client: &Client, like: &[Value], names: &[StackName]) -> Result<()> {
    let mut namespaces: Vec<&str> = names.iter().map(|of| of.namespace.as_str()).collect();
    namespaces.dedup();
    let mut places: Vec<(String, Value)> = Vec::new();
    for namespace in namespaces {
        for object in like {
            let mut place = object.clone();
            place["metadata"]["namespace"] = json!(namespace);
            if !places.iter().any(|(known, of)| known == namespace && of["kind"] == place["kind"]) {
                places.push((namespace.to_owned(), place));
            }
        }
    }
    let everything = ListParams::default().labels("app.kubernetes.io/managed-by");
    each(places, |(_, place)| {
        let (api, everything) = (api_of(client, &place), everything.clone());
        async move {
            // Of tens of thousands a request takes longer than the API server grants: cut off, it has deleted some of them.
            for _ in 1..COLLECTED_IN {
                if api.delete_collection(&DeleteParams::default(), &everything).await.is_ok() {
                    return Ok(());
                }
            }
            api.delete_collection(&DeleteParams::default(), &everything).await?;
            Ok(())
        }
    })
    .await?;
    Ok(())
}
