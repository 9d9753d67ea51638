//! CloudNativePG, as its own manifest installs it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::test_cluster::blocking;
use super::{Observed, TestContext, until};
use crate::engine::image::{cloudnative_pg, data};
use crate::engine::{Cache, tools};

const NAMESPACE: &str = "cnpg-system";
const DEPLOYMENT: &str = "deployment/cnpg-controller-manager";
const INSTALLED_WITHIN: Duration = Duration::from_mins(3);

/// A CloudNativePG that runs, one in a cluster.
#[derive(Debug)]
pub struct CloudNativePg<'a> {
    test: &'a TestContext,
    manifest: Value,
}

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
        Ok(CloudNativePg { test, manifest: list(&manifest)? })
    }

    /// Installs it; waits until it is ready.
    pub async fn install(&self) -> Result<()> {
        self.test.apply_objects(&self.manifest).await?;
        let status = ["rollout", "status", "--namespace", NAMESPACE, DEPLOYMENT, "--timeout=1s"];
        until(self.test, NAMESPACE, "CloudNativePG to be ready", INSTALLED_WITHIN, async || {
            Ok(Observed::Met(self.test.kubectl(&status).await.map(drop)?))
        })
        .await
    }

    /// Removes it, with every Cluster.
    pub async fn remove(&self) -> Result<()> {
        let delete = ["delete", "--ignore-not-found", "--filename=-"];
        self.test.kubectl_with(&delete, self.manifest.to_string()).await.map(drop)
    }

    /// What it says, for the reader of a failure.
    pub async fn told(&self) -> String {
        let logs = ["logs", "--namespace", NAMESPACE, DEPLOYMENT, "--tail=40"];
        let said = self.test.kubectl(&logs).await.unwrap_or_else(|error| format!("{error:#}"));
        let all = ["get", "clusters,poolers,pods,pvc", "--all-namespaces", "--output=wide"];
        let all = self.test.kubectl(&all).await.unwrap_or_else(|error| format!("{error:#}"));
        format!("{DEPLOYMENT} says:\n{said}\n{all}")
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
