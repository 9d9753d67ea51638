//! The memory of an operator, as a process of its own beside an API server, with the binary that its image has.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::json;

use crate::engine::{Bed, Cache, wait};
use crate::scenarios::kit::{operator_binary, project};

const SETTLED_WITHIN: Duration = Duration::from_mins(2);

/// An API server, and an operator beside it.
pub(super) struct Operator {
    pid: u32,
    client: Client,
    runtime: tokio::runtime::Runtime,
    // The operator ends with it.
    _bed: Bed,
}

impl Operator {
    pub(super) fn start(cache: &Cache) -> Result<Operator> {
        let runtime = tokio::runtime::Runtime::new()?;
        let mut bed = Bed::start_with(cache)?;
        let client = runtime.block_on(connect(&bed))?;
        runtime.block_on(define(&client))?;
        let kubeconfig = format!("KUBECONFIG={}", bed.kubeconfig.display());
        let binary = operator_binary()?.display().to_string();
        let run = [&kubeconfig, &binary, "run", "--http-address=127.0.0.1:0"].map(str::to_owned);
        let pid = bed.run_beside("rorun-operator", "env".as_ref(), run)?;
        Ok(Operator { pid, client, runtime, _bed: bed })
    }

    /// Bytes that are resident once it has made what that many stacks need, and at most until then.
    pub(super) fn memory_with(&self, stacks: usize) -> Result<(u64, u64)> {
        for number in 0..stacks {
            self.runtime.block_on(self.create(number))?;
        }
        wait::until_true("every stack has a status", SETTLED_WITHIN, || {
            self.runtime.block_on(async {
                let found = self.stacks().list(&ListParams::default()).await?;
                let told = |stack: &DynamicObject| stack.data["status"]["observedGeneration"].as_i64() == Some(1);
                Ok(found.items.len() >= stacks && found.items.iter().all(told))
            })
        })?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).context("the operator ended")?;
        Ok((bytes(&status, "VmRSS:")?, bytes(&status, "VmHWM:")?))
    }

    async fn create(&self, number: usize) -> Result<()> {
        let name = format!("stack-{number}");
        if self.stacks().get_opt(&name).await?.is_some() {
            return Ok(());
        }
        let stack = serde_json::from_value(json!({
            "apiVersion": "rorun.app/v1alpha1",
            "kind": "RorunStack",
            "metadata": {"name": name},
            "spec": {
                "environment": "Development",
                "api": {"image": "ghcr.io/rorun/rorun-api:1.8.0", "autoscaling": {}},
                "ocr": {"image": "ghcr.io/rorun/rorun-ai-service:1.8.0"},
                "ingress": {"className": "traefik", "host": format!("{name}.localhost")},
                "backup": {"schedule": "0 3 * * *"},
            },
        }))?;
        self.stacks().create(&PostParams::default(), &stack).await.context("failed to create a stack")?;
        Ok(())
    }

    fn stacks(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("rorun.app", "v1alpha1", "RorunStack");
        let resource = ApiResource::from_gvk_with_plural(&kind, "rorunstacks");
        Api::namespaced_with(self.client.clone(), "default", &resource)
    }
}

async fn connect(bed: &Bed) -> Result<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(&bed.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Makes the definition of the resource, and waits until it is served.
async fn define(client: &Client) -> Result<()> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let text = fs::read_to_string(project().join("crds/rorunstacks.rorun.app.yaml"))?;
    let definition: CustomResourceDefinition = serde_saphyr::from_str(&text)?;
    let definitions = Api::all(client.clone());
    definitions.create(&PostParams::default(), &definition).await?;
    let established = kube::runtime::conditions::is_crd_established();
    let wait = kube::runtime::wait::await_condition(definitions, "rorunstacks.rorun.app", established);
    tokio::time::timeout(SETTLED_WITHIN, wait).await.context("the definition is not served")??;
    Ok(())
}

/// A line of `/proc/PID/status`, which counts in kibibytes.
fn bytes(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
