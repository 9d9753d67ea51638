//! The API server with the definition, and requests as kubectl would send them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rorun_e2e::engine::{
    TestServer,
    schemas::{CLUSTERS, OBJECT_STORES, POOLERS, SCHEDULED_BACKUPS, SERVICE_MONITORS, Schema},
};
use rorun_operator::{
    cli,
    objects::{DesiredObject, KINDS, ObjectKind},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
/// The definitions that other projects publish, by which the objects of the examples are checked.
const OF_OTHER_PROJECTS: [Schema; 5] = [SERVICE_MONITORS, CLUSTERS, POOLERS, SCHEDULED_BACKUPS, OBJECT_STORES];
/// The definitions of AWS Controllers for Kubernetes, as they publish them.
const ACK: [&str; 4] = [
    include_str!("../schemas/ack/rds.services.k8s.aws_dbinstances.yaml"),
    include_str!("../schemas/ack/elasticache.services.k8s.aws_replicationgroups.yaml"),
    include_str!("../schemas/ack/elasticache.services.k8s.aws_serverlesscaches.yaml"),
    include_str!("../schemas/ack/s3.services.k8s.aws_buckets.yaml"),
];
const STACKS: (&str, &str) = ("rorun.app/v1alpha1", "rorunstacks");

/// The server, which ends with this value.
pub struct Server {
    client: Client,
    _process: TestServer,
    refusals: Mutex<BTreeSet<String>>,
}

/// Whether the server stores what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Yes,
    /// `--dry-run=server`
    No,
}

impl Server {
    /// Starts it and gives it the definition.
    pub async fn start() -> Self {
        let process = tokio::task::spawn_blocking(TestServer::start).await.expect("a thread").expect("a server");
        let kubeconfig = Kubeconfig::read_from(&process.kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
        let client = Client::try_from(config).expect("a client");
        let server = Self { client, _process: process, refusals: Mutex::default() };
        server
            .send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition())
            .await
            .expect("the definition is accepted");
        let published = OF_OTHER_PROJECTS.map(|schema| tokio::task::spawn_blocking(move || schema.read()));
        let mut definitions = ACK.map(str::to_owned).to_vec();
        for published in published {
            definitions.push(published.await.expect("a thread").expect("the published definition"));
        }
        for definition in definitions {
            let definition: Value = serde_saphyr::from_str(&definition).unwrap();
            server
                .send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition)
                .await
                .expect("the definition of another project is accepted");
        }
        let optional = KINDS.iter().filter(|kind| !kind.is_core());
        let paths = optional.map(|kind| format!("/apis/{}/{}", kind.api_version(), kind.plural));
        for path in paths.chain([format!("/apis/{}/{}", STACKS.0, STACKS.1)]) {
            server.until("its kind is served", async || server.get(&path).await.is_ok()).await;
        }
        server
    }

    /// A client of it, for requests that kubectl would not send.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Replaces the definition.
    pub async fn redefine(&self, definition: &Value) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rorunstacks.rorun.app";
        let mut wanted = definition.clone();
        let there = self.get(path).await.unwrap();
        wanted["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
        self.send("PUT", path, &wanted).await.expect("the definition is accepted");
    }

    /// Makes a namespace in which only restricted pods are admitted, and gives its name back.
    pub async fn namespace(&self, name: &str) -> String {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let body = json!({"metadata": {"name": name, "labels": labels}});
        self.send("POST", "/api/v1/namespaces", &body).await.unwrap();
        name.to_owned()
    }

    /// Creates a stack. The error is what a user reads.
    pub async fn create(&self, namespace: &str, stack: &Value, store: Store) -> Result<Value, String> {
        self.send("POST", &path(STACKS, namespace, None, store), stack).await
    }

    /// Replaces a stack.
    pub async fn replace(&self, namespace: &str, stack: &Value, store: Store) -> Result<Value, String> {
        let name = stack["metadata"]["name"].as_str();
        self.send("PUT", &path(STACKS, namespace, name, store), stack).await
    }

    /// Replaces the status of a stack.
    pub async fn replace_status(&self, namespace: &str, stack: &Value) -> Result<Value, String> {
        let name = format!("{}/status", stack["metadata"]["name"].as_str().unwrap());
        self.send("PUT", &path(STACKS, namespace, Some(&name), Store::Yes), stack).await
    }

    /// Creates an object of any kind.
    pub async fn create_object(
        &self,
        namespace: &str,
        kind: &ObjectKind,
        object: &Value,
        store: Store,
    ) -> Result<Value, String> {
        self.send("POST", &path((&kind.api_version(), kind.plural), namespace, None, store), object).await
    }

    /// Applies an object, as the operator does.
    pub async fn apply_object(&self, namespace: &str, object: &DesiredObject) -> Result<Value, String> {
        let kind = object.kind;
        let path = path((&kind.api_version(), kind.plural), namespace, Some(&object.name), Store::Yes);
        let request = http::Request::builder()
            .method("PATCH")
            .uri(format!("{path}&force=true&fieldManager=rorun-operator"))
            .header("Content-Type", "application/apply-patch+yaml")
            .body(object.body.to_string().into_bytes())
            .unwrap();
        self.client.request::<Value>(request).await.map_err(|error| error.to_string())
    }

    /// Reads a path.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        self.request("GET", path, Vec::new(), "application/json").await
    }

    /// Reads stacks as the table that `kubectl get` prints.
    pub async fn table(&self, namespace: &str) -> Value {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        self.request("GET", &path(STACKS, namespace, None, Store::Yes), Vec::new(), accept).await.unwrap()
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.request(method, path, body.to_string().into_bytes(), "application/json").await
    }

    async fn request(&self, method: &str, path: &str, body: Vec<u8>, accept: &str) -> Result<Value, String> {
        let request = http::Request::builder().method(method).uri(path).header("Accept", accept);
        let request = request.header("Content-Type", "application/json").body(body).unwrap();
        let answer = self.client.request::<Value>(request).await.map_err(|error| match error {
            kube::Error::Api(status) => status.message.clone(),
            error => panic!("{method} {path}: {error}"),
        });
        if let Err(message) = &answer {
            self.refusals.lock().unwrap_or_else(PoisonError::into_inner).insert(message.clone());
        }
        answer
    }

    /// Whether the server has refused something with these words.
    pub fn has_refused_with(&self, words: &str) -> bool {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().any(|message| message.contains(words))
    }

    /// Waits for something that comes by itself.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The definition as it is shipped.
pub fn definition() -> Value {
    serde_saphyr::from_str(&cli::crd::yaml().unwrap()).unwrap()
}

/// Unknown and doubled fields are refused, as kubectl asks for.
fn path((group_version, plural): (&str, &str), namespace: &str, name: Option<&str>, store: Store) -> String {
    let root = if group_version.contains('/') { "apis" } else { "api" };
    let name = name.map(|name| format!("/{name}")).unwrap_or_default();
    let dry_run = if store == Store::No { "&dryRun=All" } else { "" };
    format!("/{root}/{group_version}/namespaces/{namespace}/{plural}{name}?fieldValidation=Strict{dry_run}")
}
