//! The barman-cloud plugin of CloudNativePG, as its own manifest installs it. The manifest asks cert-manager for two certificates; here
//! they are made without it.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::deployed::Deployed;
use super::test_cluster::blocking;
use super::{Certificate, TestContext};
use crate::engine::image::barman_cloud;
use crate::engine::{Cache, tools};

const NAMESPACE: &str = "cnpg-system";
const DEPLOYMENT: &str = "deployment/barman-cloud";
/// By which name CloudNativePG reaches it.
const SERVICE: &str = "barman-cloud";
/// The key in the Secret that names the image beside each server.
const SIDECAR_IMAGE: &str = "SIDECAR_IMAGE";

/// A plugin that runs, in the namespace of CloudNativePG.
#[derive(Debug)]
pub struct BarmanCloud<'a>(Deployed<'a>);

impl<'a> BarmanCloud<'a> {
    /// The key of the duration of its build, and how many seconds it takes on two idle processors.
    pub const BUILD: (&'static str, u32) = ("build barman-cloud", 118);

    /// Whether the cache has it.
    pub fn is_there(cache: &Cache) -> Result<bool> {
        tools::BARMAN_CLOUD.is_built(cache)
    }

    /// Builds it unless it is in the cache.
    pub fn build(cache: &Cache) -> Result<()> {
        tools::BARMAN_CLOUD.path(cache).map(drop)
    }

    /// Brings its images to the cluster.
    pub async fn of(test: &'a TestContext) -> Result<BarmanCloud<'a>> {
        let cluster = test.cluster.clone();
        let manifest = blocking(move || {
            for image in barman_cloud::images()? {
                image.ensure(cluster.cache(), cluster.docker())?;
                cluster.load(&image.name)?;
            }
            Ok(fs::read_to_string(tools::BARMAN_CLOUD.sources()?.join("manifest.yaml"))?)
        })
        .await?;
        let manifest = list(&manifest)?;
        Ok(BarmanCloud(Deployed { test, manifest, namespace: NAMESPACE, deployment: DEPLOYMENT }))
    }

    /// Installs it; waits until it is ready.
    pub async fn install(&self) -> Result<()> {
        self.0.install().await
    }

    /// Removes it.
    pub async fn remove(&self) -> Result<()> {
        self.0.remove().await
    }

    /// What it says, for the reader of a failure.
    pub async fn told(&self) -> String {
        self.0.told().await
    }
}

/// The objects of the manifest, with the images of the release, whose place it leaves to those of the main branch, and with
/// certificates instead of what asks for them: each side trusts exactly that of the other.
fn list(manifest: &str) -> Result<Value> {
    let [plugin, sidecar] = barman_cloud::names()?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifest)?;
    let asks = |object: &Value| object["apiVersion"].as_str().is_some_and(|of| of.starts_with("cert-manager.io/"));
    let mut objects: Vec<Value> = objects.into_iter().filter(|object| !asks(object)).collect();
    ensure!(objects.len() > 10, "the manifest has {} objects", objects.len());
    let deployment = objects.iter_mut().find(|object| object["kind"] == "Deployment").context("no Deployment")?;
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(plugin);
    let settings = objects.iter_mut().find(|object| object["data"][SIDECAR_IMAGE].is_string());
    let settings = settings.context("no Secret names the image beside each server")?;
    settings["data"] = Value::Null;
    settings["stringData"] = json!({SIDECAR_IMAGE: sidecar});
    for side in ["server", "client"] {
        let Certificate { certificate, key } = Certificate::of_its_own(SERVICE)?;
        let metadata = json!({"name": format!("barman-cloud-{side}-tls"), "namespace": NAMESPACE});
        objects.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate, "tls.key": key}}));
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": objects}))
}
