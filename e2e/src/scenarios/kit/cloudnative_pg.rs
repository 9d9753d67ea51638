//! CloudNativePG, as its own manifest installs it.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::TestContext;
use super::deployed::Deployed;
use super::test_cluster::blocking;
use crate::engine::image::{cloudnative_pg, data};
use crate::engine::{Cache, tools};

const NAMESPACE: &str = "cnpg-system";
const DEPLOYMENT: &str = "deployment/cnpg-controller-manager";

/// A CloudNativePG that runs, one in a cluster.
#[derive(Debug)]
pub struct CloudNativePg<'a>(Deployed<'a>);

impl<'a> CloudNativePg<'a> {
    /// The key of the duration of its build, and how many seconds it takes on two idle processors.
    pub const BUILD: (&'static str, u32) = ("build cloudnative-pg", 134);
    /// Another image of PostgreSQL of the same major version: the same programs by another tag.
    pub const NEXT_MINOR: &'static str = data::POSTGRES_NEXT;

    /// Whether the cache has it.
    pub fn is_there(cache: &Cache) -> Result<bool> {
        tools::CLOUD_NATIVE_PG.is_built(cache)
    }

    /// Builds it unless it is in the cache.
    pub fn build(cache: &Cache) -> Result<()> {
        tools::CLOUD_NATIVE_PG.path(cache).map(drop)
    }

    /// Brings its images to the cluster, and those that a scenario needs beside them.
    pub async fn of(test: &'a TestContext) -> Result<CloudNativePg<'a>> {
        let cluster = test.cluster.clone();
        let manifest = blocking(move || {
            for image in cloudnative_pg::images()?.into_iter().chain([data::next_postgres()]) {
                image.ensure(cluster.cache(), cluster.docker())?;
                cluster.load(&image.name)?;
            }
            let version = tools::CLOUD_NATIVE_PG.version()?;
            let file = format!("releases/cnpg-{}.yaml", version.trim_start_matches('v'));
            Ok(fs::read_to_string(tools::CLOUD_NATIVE_PG.sources()?.join(file))?)
        })
        .await?;
        let manifest = list(&manifest)?;
        Ok(CloudNativePg(Deployed { test, manifest, namespace: NAMESPACE, deployment: DEPLOYMENT }))
    }

    /// Installs it; waits until it is ready.
    pub async fn install(&self) -> Result<()> {
        self.0.install().await
    }

    /// Removes it, with every Cluster.
    pub async fn remove(&self) -> Result<()> {
        self.0.remove().await
    }

    /// What it says, for the reader of a failure.
    pub async fn told(&self) -> String {
        let all = ["get", "clusters,poolers,pods,pvc", "--all-namespaces", "--output=wide"];
        let all = self.0.test.kubectl(&all).await.unwrap_or_else(|error| format!("{error:#}"));
        format!("{}\n{all}", self.0.told().await)
    }
}

/// The objects of the manifest, whose images are pulled from nowhere.
fn list(manifest: &str) -> Result<Value> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(manifest)?;
    ensure!(objects.len() > 10, "the manifest has {} objects", objects.len());
    let deployment = objects.iter_mut().find(|object| object["kind"] == "Deployment").context("no Deployment")?;
    for container in
        deployment.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut).into_iter().flatten()
    {
        container["imagePullPolicy"] = json!("IfNotPresent");
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": objects}))
}
