//! The operator, as its chart installs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::stack::restarts;
use super::{OPERATOR, TestCluster, ready};
use crate::engine::cluster::OPERATOR_NAMESPACE;

/// The name of the Helm release.
pub const RELEASE: &str = "rorun-operator";
/// The folder of the chart, below the project's.
pub const CHART: &str = "charts/rorun-operator";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CHART)
}

/// Installs the chart, or brings an installed one up to date, with two replicas; waits until both are ready.
pub async fn install(test_cluster: &TestCluster) -> Result<()> {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": OPERATOR_NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    });
    let apply = PatchParams::apply("rorun-e2e").force();
    Api::<Namespace>::all(test_cluster.client.clone())
        .patch(OPERATOR_NAMESPACE, &apply, &Patch::Apply(namespace))
        .await?;
    // An image of the same name may be another one than that of the last time.
    let built = test_cluster.image_id(OPERATOR).await?;
    let annotation = format!("podAnnotations.image-id={built}");
    test_cluster.upgrade_operator(&chart(), &["--set-string", &annotation]).await
}

impl TestCluster {
    /// Installs a chart as the operator's release, with these arguments for helm, and waits until it is ready.
    pub async fn upgrade_operator(&self, chart: &Path, arguments: &[&str]) -> Result<()> {
        let (chart, tag) = (chart.display().to_string(), OPERATOR.rsplit(':').next().unwrap_or_default());
        let tag = format!("image.tag={tag}");
        let upgrade = [
            "upgrade",
            "--install",
            RELEASE,
            &chart,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--set-string",
            &tag,
            "--set",
            "replicas=2",
            "--wait",
            "--timeout=120s",
        ];
        self.helm(&[&upgrade[..], arguments].concat()).await.context("failed to install the operator")?;
        Ok(())
    }

    /// The pods of the operator.
    pub async fn operator_pods(&self) -> Result<Vec<Pod>> {
        let labels = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
        Ok(self.api::<Pod>(OPERATOR_NAMESPACE).list(&labels).await?.items)
    }

    /// The operator's pods that are ready, by name.
    pub async fn ready_operators(&self) -> Result<Vec<String>> {
        let pods = self.operator_pods().await?;
        Ok(pods.iter().filter(|pod| ready(pod)).filter_map(|pod| pod.metadata.name.clone()).collect())
    }

    /// How often each of the operator's pods was started again, by its name.
    pub async fn operator_restarts(&self) -> Result<BTreeMap<String, i32>> {
        Ok(restarts(&self.operator_pods().await?))
    }

    /// The pod that holds the operator's Lease.
    pub async fn leader(&self) -> Result<String> {
        let lease = self.get(OPERATOR_NAMESPACE, "lease", RELEASE).await?;
        let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
        Ok(holder.context("nobody holds the operator's Lease")?.to_owned())
    }

    /// Kills the process of every operator pod, as the kernel would: no signal that it could answer.
    pub async fn kill_operators(&self) -> Result<()> {
        for pod in self.operator_pods().await? {
            let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
            let ids = statuses.into_iter().filter_map(|status| status.container_id);
            for id in ids {
                let id = id.rsplit('/').next().unwrap_or_default().to_owned();
                let inspect = ["crictl", "inspect", "--output=go-template", "--template={{.info.pid}}", &id];
                // One that has ended since it was listed has nothing left to kill.
                let Ok(pid) = self.on_node(&inspect).await else { continue };
                let _ = self.on_node(&["sh", "-c", &format!("kill -9 {}", pid.trim())]).await;
            }
        }
        Ok(())
    }

    /// The metrics of an operator pod, in Prometheus' text format.
    pub async fn operator_metrics(&self, pod: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}:8080/proxy/metrics");
        self.kubectl(&["get", "--raw", &path]).await
    }
}
