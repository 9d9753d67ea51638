//! What the cluster comes with beyond what kind gives it, and the wait until all of it is there.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Cluster, config};
use crate::engine::docker::Docker;
use crate::engine::image::{Source, control_plane};
use crate::engine::{tools, wait};

const METRICS_SERVER: &str = include_str!("../../../addons/metrics-server.yaml");
const TRAEFIK: &str = include_str!("../../../addons/traefik.yaml");

/// Namespace and name of what must be rolled out.
const DEPLOYMENTS: &[(&str, &str)] = &[
    ("kube-system", "coredns"),
    ("kube-system", "metrics-server"),
    ("local-path-storage", "local-path-provisioner"),
    ("traefik", "traefik"),
];

/// The images of the control plane, as the node's kubeadm names them.
pub(super) fn kubeadm_images(cluster: &Cluster) -> Result<String> {
    let version = tools::KUBEADM.version()?;
    let list = ["kubeadm", "config", "images", "list", "--kubernetes-version", &version];
    cluster.docker().exec(&cluster.node(), &list)
}

/// Creates the add-ons. They start when the node has its network.
pub(super) fn apply(cluster: &Cluster, source: Source) -> Result<()> {
    if source == Source::Built || matches!(cluster.docker(), Docker::Own(_)) {
        forget_outside_names(cluster)?;
    }
    // One is enough on one node, and is ready sooner.
    cluster.kubectl(["--namespace=kube-system", "scale", "deployment", "coredns", "--replicas=1"])?;
    let metrics_server = control_plane::metrics_server(&kubeadm_images(cluster)?)?;
    cluster.apply(&METRICS_SERVER.replace("METRICS_SERVER_IMAGE", &metrics_server.name))?;
    cluster.apply(&TRAEFIK.replace("TRAEFIK_IMAGE", &control_plane::traefik().name))?;
    Ok(())
}

/// Gives the node its network, last of all: a pod that dials the API's service address before kube-proxy has written
/// its rules has that wrong route remembered by the kernel for 30 s.
pub(super) fn install_network(cluster: &Cluster) -> Result<()> {
    let node = cluster.node();
    wait::until_true("kube-proxy writes the rules of the API's service", Duration::from_mins(2), || {
        let rules = cluster.docker().exec(&node, &["iptables-save", "-t", "nat"]);
        Ok(rules.is_ok_and(|rules| rules.contains("default/kubernetes:https")))
    })?;
    let copy = ["exec", "--interactive", &node, "cp", "/dev/stdin", "/etc/cni/net.d/10-bridge.conflist"];
    cluster.docker().command(copy).input(config::bridge_network().to_string()).output()?;
    Ok(())
}

/// Waits until the node, DNS, storage, metrics and the Ingress controller are ready.
pub(super) fn wait_until_ready(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(["wait", "--for=condition=Ready", "node", "--all", "--timeout=120s"])?;
    for (namespace, name) in DEPLOYMENTS {
        let namespace = format!("--namespace={namespace}");
        let status = ["rollout", "status", &namespace, &format!("deployment/{name}"), "--timeout=180s"];
        cluster.kubectl(status).with_context(|| format!("{name} does not become ready\n{}", what_is_wrong(cluster)))?;
    }
    let metrics = ["wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=60s"];
    cluster.kubectl(metrics)?;
    Ok(())
}

/// What a person would look at next; the cluster is gone by the time the error is read.
fn what_is_wrong(cluster: &Cluster) -> String {
    let pods = cluster.kubectl(["get", "pods", "--all-namespaces", "--output=wide"]);
    let events = cluster.kubectl(["events", "--all-namespaces", "--types=Warning"]);
    format!("{}\n{}", pods.unwrap_or_default(), events.unwrap_or_default())
}

fn forget_outside_names(cluster: &Cluster) -> Result<()> {
    let get = ["--namespace=kube-system", "get", "configmap", "coredns", "--output=json"];
    let found: Value = serde_json::from_str(&cluster.kubectl(get)?)?;
    let corefile = found["data"]["Corefile"].as_str().context("the DNS server has no Corefile")?;
    let patch = json!({"data": {"Corefile": config::without_forward(corefile)}}).to_string();
    cluster.kubectl(["--namespace=kube-system", "patch", "configmap", "coredns", "--patch", &patch])?;
    Ok(())
}
