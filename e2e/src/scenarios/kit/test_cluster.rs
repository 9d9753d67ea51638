//! The cluster that all scenarios share, and the clients that they reach it by.

use std::ffi::OsString;
use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, Config, Resource};
use tokio::task::spawn_blocking;

use super::Ingress;
use crate::engine::process::Run;
use crate::engine::{Cluster, tools};

/// A cluster with the operator in it.
pub struct TestCluster {
    /// The cluster.
    pub cluster: Cluster,
    /// A client of its API server, for an administrator.
    pub client: Client,
    /// The Ingress, through which the mobile app comes in.
    pub ingress: Ingress,
    kubectl: PathBuf,
    helm: PathBuf,
}

impl fmt::Debug for TestCluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestCluster").field("cluster", &self.cluster.name).finish_non_exhaustive()
    }
}

impl TestCluster {
    /// Connects to a cluster that runs.
    pub async fn connect(cluster: &Cluster) -> Result<TestCluster> {
        // Two libraries of the process use rustls, and rustls wants one default provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(&cluster.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let programs = {
            let cache = cluster.cache().clone();
            blocking(move || Ok((tools::KUBECTL.path(&cache)?, tools::HELM.path(&cache)?))).await?
        };
        Ok(TestCluster {
            cluster: cluster.clone(),
            client: Client::try_from(config)?,
            ingress: Ingress::new(cluster.http_port, cluster.https_port),
            kubectl: programs.0,
            helm: programs.1,
        })
    }

    /// The objects of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The stacks in a namespace, as plain JSON: scenarios do not use the types of the operator.
    pub fn stacks(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("rorun.app", "v1alpha1", "RorunStack");
        let resource = ApiResource::from_gvk_with_plural(&kind, "rorunstacks");
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Runs `kubectl` and returns its output.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run(&self.kubectl, arguments, None).await
    }

    /// Runs `kubectl` with this on its standard input.
    pub async fn kubectl_with(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Result<String> {
        self.run(&self.kubectl, arguments, Some(input.into())).await
    }

    /// Runs `helm` and returns its output.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.run(&self.helm, arguments, None).await
    }

    /// Runs a program on the node, beside the kubelet.
    pub async fn on_node(&self, command: &[&str]) -> Result<String> {
        let cluster = self.cluster.clone();
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        blocking(move || {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            cluster.docker().exec(&cluster.node(), &words)
        })
        .await
    }

    /// The id of an image in Docker.
    pub async fn image_id(&self, image: &str) -> Result<String> {
        let (cluster, image) = (self.cluster.clone(), image.to_owned());
        let inspect = move || cluster.docker().output(["image", "inspect", "--format={{.Id}}", &image]);
        Ok(blocking(inspect).await?.trim().trim_start_matches("sha256:").to_owned())
    }

    /// Runs a program in a pod's container: `pod` may be `pod`, `deployment/name` or any other that kubectl knows.
    pub async fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        let to = ["exec", "--namespace", namespace, pod, "--"];
        self.kubectl(&[&to[..], command].concat()).await
    }

    pub(super) fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    async fn run(&self, program: &Path, arguments: &[&str], input: Option<Vec<u8>>) -> Result<String> {
        let (program, kubeconfig) = (program.to_owned(), self.cluster.kubeconfig.clone());
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        blocking(move || {
            let run = Run::new(program, arguments).env("KUBECONFIG", kubeconfig);
            match input {
                Some(input) => run.input(input).output(),
                None => run.output(),
            }
        })
        .await
    }
}

/// Runs blocking work on a thread of its own.
pub(super) async fn blocking<T: Debug + Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.context("a blocking piece of work panicked")?
}
