//! The memory of an operator, as a process of its own beside an API server, with the binary that its image has.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use serde_json::json;

use crate::campaign::Arena;
use crate::engine::{Cache, wait};
use crate::scenarios::kit::operator_binary;

const SETTLED_WITHIN: Duration = Duration::from_mins(2);

/// An API server, and an operator beside it.
pub(super) struct Operator {
    pid: u32,
    runtime: tokio::runtime::Runtime,
    // The operator ends with it.
    arena: Arena,
}

impl Operator {
    pub(super) fn start(cache: &Cache) -> Result<Operator> {
        let runtime = tokio::runtime::Runtime::new()?;
        let mut arena = runtime.block_on(Arena::open(cache))?;
        let kubeconfig = format!("KUBECONFIG={}", arena.bed.kubeconfig.display());
        let binary = operator_binary()?.display().to_string();
        let run = [&kubeconfig, &binary, "run", "--http-address=127.0.0.1:0"].map(str::to_owned);
        let pid = arena.bed.run_beside("rorun-operator", "env".as_ref(), run)?;
        Ok(Operator { pid, runtime, arena })
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
        self.arena.stacks("default")
    }
}

/// A line of `/proc/PID/status`, which counts in kibibytes.
fn bytes(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
