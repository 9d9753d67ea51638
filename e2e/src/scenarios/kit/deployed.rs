//! An operator of another project, as its own manifest installs it.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::{Observed, TestContext, until};

const INSTALLED_WITHIN: Duration = Duration::from_mins(3);

/// A manifest with one Deployment that matters.
#[derive(Debug)]
pub(super) struct Deployed<'a> {
    pub(super) test: &'a TestContext,
    pub(super) manifest: Value,
    pub(super) namespace: &'static str,
    /// `deployment/<name>`.
    pub(super) deployment: &'static str,
}

impl Deployed<'_> {
    /// Installs it; waits until it is ready.
    pub(super) async fn install(&self) -> Result<()> {
        let Deployed { test, namespace, deployment, .. } = self;
        test.apply_objects(&self.manifest).await?;
        let status = ["rollout", "status", "--namespace", namespace, deployment, "--timeout=1s"];
        until(test, namespace, &format!("{deployment} to be ready"), INSTALLED_WITHIN, async || {
            Ok(Observed::Met(test.kubectl(&status).await.map(drop)?))
        })
        .await
    }

    /// Removes it, with all that is in its manifest.
    pub(super) async fn remove(&self) -> Result<()> {
        let delete = ["delete", "--ignore-not-found", "--filename=-"];
        self.test.kubectl_with(&delete, self.manifest.to_string()).await.map(drop)
    }

    /// What it says, for the reader of a failure.
    pub(super) async fn told(&self) -> String {
        let logs = ["logs", "--namespace", self.namespace, self.deployment, "--tail=40"];
        let said = self.test.kubectl(&logs).await.unwrap_or_else(|error| format!("{error:#}"));
        format!("{} says:\n{said}", self.deployment)
    }
}
