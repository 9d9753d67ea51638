//! The environment of the suites: an API server without pods, and operators beside it.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use rorun_e2e::engine::cleanup::{Registration, on_interrupt};
use rorun_e2e::engine::record::ProcessRecord;
use rorun_e2e::engine::schemas::Schema;
use rorun_e2e::engine::{Cache, TestServer};
use rorun_e2e::scenarios::kit::{operator_binary, project};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::proxy::FaultProxy;
use super::sync::lock;
use super::test_context::within;

/// The name of every stack of the campaign; each is alone in its namespace.
pub(super) const STACK: &str = "shop";
const SERVED_WITHIN: Duration = Duration::from_mins(1);

/// An API server with the definition of stacks.
pub struct TestEnvironment {
    /// The server.
    pub server: TestServer,
    /// A client of it, for an administrator.
    pub client: Client,
    operator: Mutex<PathBuf>,
    cases: AtomicUsize,
}

impl fmt::Debug for TestEnvironment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestEnvironment").field("server", &self.server).finish_non_exhaustive()
    }
}

/// An operator that runs, and is killed when this is dropped.
pub(super) struct Operator {
    pub(super) child: Child,
    pub(super) record: ProcessRecord,
    _interrupted: Registration,
}

impl TestEnvironment {
    /// Starts the server. The operator must have been built.
    pub async fn open(cache: &Cache) -> Result<TestEnvironment> {
        TestEnvironment::open_with(cache, Ok).await
    }

    /// As [`TestEnvironment::open`]; `more` starts what else is to be there, once stacks are defined.
    pub(super) async fn open_with(
        cache: &Cache,
        more: impl FnOnce(TestServer) -> Result<TestServer> + Send + 'static,
    ) -> Result<TestEnvironment> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = {
            let cache = cache.clone();
            tokio::task::spawn_blocking(move || TestServer::start_with(&cache))
                .await
                .context("the start of the API server panicked")??
        };
        let client = connect(&server.kubeconfig).await?;
        define(&client).await?;
        have_ingress_class(&client, "traefik").await?;
        let server =
            tokio::task::spawn_blocking(move || more(server)).await.context("the start of more servers panicked")??;
        Ok(TestEnvironment { server, client, operator: Mutex::new(operator_binary()?), cases: AtomicUsize::new(0) })
    }

    /// A new namespace. All names have the same length, so that what is cut at a length is cut at the same place.
    pub(super) async fn namespace(&self) -> Result<String> {
        let name = format!("case-{:05}", self.cases.fetch_add(1, Ordering::Relaxed));
        let body = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &body).await?;
        Ok(name)
    }

    /// Makes the published definition of another project's kind, and waits until it is served.
    pub(super) async fn define(&self, schema: &'static Schema) -> Result<()> {
        let text = tokio::task::spawn_blocking(|| schema.read()).await??;
        establish(&self.client, &text).await
    }

    /// Makes our own definition of a kind that asks something of stacks, and waits until it is served.
    pub(super) async fn define_request(&self, kind: &str) -> Result<()> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("rorun.app", "v1alpha1", kind));
        let file = project().join(format!("crds/{}.rorun.app.yaml", resource.plural));
        establish(&self.client, &std::fs::read_to_string(file)?).await?;
        served(&self.client, &resource).await
    }

    /// The stacks of a namespace.
    pub fn stacks(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &stacks_resource())
    }

    /// Makes a class that specs name; no controller serves it.
    pub(super) async fn have_ingress_class(&self, name: &str) -> Result<()> {
        have_ingress_class(&self.client, name).await
    }

    /// Applies the stack, as a user would.
    pub(super) async fn apply(&self, namespace: &str, spec: &Value) -> Result<()> {
        apply(&self.client, namespace, spec).await
    }

    /// Operators that are started from now on are this program.
    pub(super) fn use_operator(&self, program: PathBuf) {
        *lock(&self.operator) = program;
    }

    /// Starts an operator that sees the API server by way of the proxy. Without a namespace it watches all of them.
    pub(super) fn operator(&self, namespace: &str, proxy: &FaultProxy) -> Result<Operator> {
        self.operator_with(namespace, proxy, &["--watch-namespace", namespace])
    }

    /// As [`TestEnvironment::operator`], with a log of this name, and these arguments.
    pub(super) fn operator_with(&self, name: &str, proxy: &FaultProxy, arguments: &[&str]) -> Result<Operator> {
        let kubeconfig = self.server.folder().join(format!("{name}.kubeconfig"));
        proxy.write_kubeconfig(&kubeconfig)?;
        let arguments: Vec<_> = ["--leader-elect=false"].into_iter().chain(arguments.iter().copied()).collect();
        self.launch(name, &kubeconfig, &arguments)
    }

    /// Starts an operator with these arguments; its log is that of the name.
    pub(super) fn launch(&self, name: &str, kubeconfig: &Path, arguments: &[&str]) -> Result<Operator> {
        let log = File::options().create(true).append(true).open(self.log(name))?;
        let child = Command::new(lock(&self.operator).clone())
            .args(["run", "--http-address=127.0.0.1:0"])
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            // The services of the stacks are beside it.
            .env("PROBE_ALLOW_LOOPBACK", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the operator")?;
        let record = ProcessRecord::of(child.id().context("the operator ended at once")?)?;
        let interrupted = {
            let record = record.clone();
            on_interrupt(move || record.kill())
        };
        Ok(Operator { child, record, _interrupted: interrupted })
    }

    /// What the operators of a namespace have logged.
    pub(super) fn log(&self, namespace: &str) -> PathBuf {
        self.server.folder().join(format!("{namespace}.log"))
    }
}

/// A client that sees what the server said, and nothing that was tried again on its way.
pub(crate) async fn connect(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Applies the stack, as a user would.
pub(super) async fn apply(client: &Client, namespace: &str, spec: &Value) -> Result<()> {
    let stack =
        json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": STACK}, "spec": spec});
    let params = PatchParams::apply("user").force();
    let stacks = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &stacks_resource());
    stacks.patch(STACK, &params, &Patch::Apply(&stack)).await.context("failed to apply the stack")?;
    Ok(())
}

fn stacks_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("rorun.app", "v1alpha1", "RorunStack"), "rorunstacks")
}

async fn have_ingress_class(client: &Client, name: &str) -> Result<()> {
    let class = json!({"metadata": {"name": name}, "spec": {"controller": "example.com/nobody"}});
    let class: IngressClass = serde_json::from_value(class)?;
    Api::all(client.clone()).create(&PostParams::default(), &class).await.context("failed to make an IngressClass")?;
    Ok(())
}

/// Makes a definition, and waits until it is established.
pub(crate) async fn establish(client: &Client, text: &str) -> Result<()> {
    let definition: CustomResourceDefinition = serde_saphyr::from_str(text)?;
    let definitions = Api::all(client.clone());
    definitions.create(&PostParams::default(), &definition).await.context("failed to define a kind")?;
    let established = kube::runtime::conditions::is_crd_established();
    let name = definition.metadata.name.as_deref().unwrap_or_default();
    let wait = kube::runtime::wait::await_condition(definitions, name, established);
    tokio::time::timeout(SERVED_WITHIN, wait).await.with_context(|| format!("{name} is not served"))??;
    Ok(())
}

/// Makes the definition of stacks, and waits until it is served.
pub(crate) async fn define(client: &Client) -> Result<()> {
    let text = std::fs::read_to_string(project().join("crds/rorunstacks.rorun.app.yaml"))?;
    establish(client, &text).await?;
    served(client, &stacks_resource()).await
}

/// The API server says that a definition is established some time before it answers.
async fn served(client: &Client, resource: &ApiResource) -> Result<()> {
    let all = Api::<DynamicObject>::all_with(client.clone(), resource);
    let served = async || Ok(all.list(&ListParams::default()).await.is_ok());
    within(SERVED_WITHIN, served).await?.with_context(|| format!("{} are not served", resource.plural))?;
    Ok(())
}
