//! The API server, the operator as a child process, and what the tests read of both.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use rorun_e2e::engine::{
    ports,
    test_server::{AuditCall, Mark, TestServer},
};
use rorun_operator::{
    api::v1alpha1::{RorunBackup, RorunStack},
    apply::api_resource,
    objects::{KINDS, ObjectKind, Role},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long nothing must happen before it counts as settled: longer than the longest debounce and the first retries.
const QUIET: Duration = Duration::from_millis(1500);
/// How often a condition is checked.
const TICK: Duration = Duration::from_millis(25);

/// An API server with the CRD, and a client.
pub struct TestEnv {
    pub client: Client,
    server: TestServer,
    folder: tempfile::TempDir,
}

/// The operator as a child process: killed when it is dropped.
pub struct Operator {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- the operator's log\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Operator {
    /// Ends at once, as by the out-of-memory killer.
    pub fn kill(self) {
        drop(self);
    }

    /// Whether the log of the operator contains these words.
    pub fn said(&self, words: &str) -> bool {
        std::fs::read_to_string(&self.log).unwrap_or_default().contains(words)
    }

    /// How many reconciles have ended, by its metrics.
    pub async fn reconciles(&self) -> u64 {
        let text = get(self.port, "/metrics").await.unwrap_or_default();
        let counts = text.lines().filter(|line| line.starts_with("controller_runtime_reconcile_total"));
        counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }

    /// Its metrics.
    pub async fn metrics(&self) -> String {
        get(self.port, "/metrics").await.unwrap_or_default()
    }

    /// The most memory that it had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
    }
}

/// The answer of an endpoint, with its head; nothing while no server listens.
async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

impl TestEnv {
    pub async fn open() -> Self {
        let server = tokio::task::spawn_blocking(TestServer::start).await.expect("a thread").expect("a server");
        let kubeconfig = Kubeconfig::read_from(&server.kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
        let client = Client::try_from(config).expect("a client");
        let env = Self { client, server, folder: tempfile::tempdir().expect("a folder") };
        let api: Api<DynamicObject> = Api::all_with(
            env.client.clone(),
            &kube::api::ApiResource::erase::<
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
            >(&()),
        );
        for (name, yaml) in rorun_operator::cli::crd::definitions().expect("the definitions") {
            let definition: Value = serde_saphyr::from_str(&yaml).expect("YAML");
            let apply = Patch::Apply(&definition);
            api.patch(name, &PatchParams::apply("test").force(), &apply).await.expect("the definition");
        }
        let all = ListParams::default();
        env.until("they are served", async || {
            env.stacks("default").list(&all).await.is_ok() && env.backups("default").list(&all).await.is_ok()
        })
        .await;
        env
    }

    /// Starts the operator and waits until it leads.
    pub async fn operator(&self) -> Operator {
        self.operator_with(&[]).await
    }

    /// Starts it with further arguments.
    pub async fn operator_with(&self, arguments: &[&str]) -> Operator {
        let alone = ["--leader-elect", "false"];
        self.process(&[&alone, arguments].concat()).await
    }

    /// Starts one of several replicas without a name, as a user would by hand.
    pub async fn candidate(&self) -> Operator {
        self.process(&["--leader-elect", "true"]).await
    }

    /// Starts it as a user of the cluster, with the rights that this user has.
    pub async fn operator_as(&self, user: &str, arguments: &[&str]) -> Operator {
        let text = std::fs::read_to_string(&self.server.kubeconfig).expect("a kubeconfig");
        let mut kubeconfig: Value = serde_saphyr::from_str(&text).expect("YAML");
        kubeconfig["users"][0]["user"]["as"] = json!(user);
        let path = self.folder.path().join(format!("{}.kubeconfig", user.replace(':', "-")));
        std::fs::write(&path, kubeconfig.to_string()).expect("a kubeconfig");
        self.start(&[&["--leader-elect", "false"], arguments].concat(), &path).await
    }

    async fn process(&self, arguments: &[&str]) -> Operator {
        self.start(arguments, &self.server.kubeconfig).await
    }

    async fn start(&self, arguments: &[&str], kubeconfig: &Path) -> Operator {
        let [port] = ports::free().expect("a port");
        let log = self.folder.path().join(format!("operator-{port}.log"));
        let output = File::create(&log).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_rorun-operator"))
            .args(["run", "--log-format", "text"])
            .args(["--http-address", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env_remove("POD_NAME")
            .env_remove("POD_NAMESPACE")
            .stdin(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("the operator starts");
        let operator = Operator { child, port, log };
        self.until("the operator is ready", async || {
            get(port, "/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await;
        operator
    }

    /// Kills the API server, and waits until it is back.
    pub fn restart_apiserver(&self) {
        tokio::task::block_in_place(|| self.server.restart_apiserver()).expect("it is back");
    }

    /// Makes a namespace.
    pub async fn namespace(&self, name: &str) {
        let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let body = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        api.create(&PostParams::default(), &body).await.expect("the namespace is made");
    }

    pub fn stacks(&self, namespace: &str) -> Api<RorunStack> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn backups(&self, namespace: &str) -> Api<RorunBackup> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn objects(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let kind = KINDS.iter().find(|entry| entry.kind == kind).expect("a kind");
        Api::namespaced_with(self.client.clone(), namespace, &api_resource(kind))
    }

    /// Applies a stack named `shop` as a user would, and waits until the operator has settled.
    pub async fn apply(&self, namespace: &str, spec: Value) {
        self.submit(namespace, spec).await;
        self.settled(namespace).await;
    }

    /// Applies a stack named `shop` as a user would.
    pub async fn submit(&self, namespace: &str, spec: Value) {
        let stack = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop"}, "spec": spec});
        let params = PatchParams::apply("user").force();
        self.stacks(namespace).patch("shop", &params, &Patch::Apply(&stack)).await.expect("the stack is applied");
    }

    /// Waits until the status speaks of the newest spec, and nothing was written for a while.
    pub async fn settled(&self, namespace: &str) {
        self.until("the status speaks of the spec", async || {
            let stack = self.stacks(namespace).get("shop").await.expect("the stack");
            stack.status.as_ref().and_then(|status| status.observed_generation) == stack.metadata.generation
        })
        .await;
        let mut last = (self.versions(namespace).await, Instant::now());
        self.until("nothing is written any more", async || {
            let now = self.versions(namespace).await;
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() >= QUIET
        })
        .await;
    }

    /// The version of every child and of the stack.
    pub async fn versions(&self, namespace: &str) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for object in self.children(namespace).await {
            let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
            versions.insert(format!("{kind}/{}", object.name_any()), object.resource_version().unwrap_or_default());
        }
        if let Ok(stack) = self.stacks(namespace).get("shop").await {
            versions.insert("stack".to_owned(), stack.resource_version().unwrap_or_default());
        }
        versions
    }

    /// Every child in a namespace.
    pub async fn children(&self, namespace: &str) -> Vec<DynamicObject> {
        let mut all = Vec::new();
        for kind in KINDS.iter().filter(|kind| kind.role == Role::Child) {
            let ours = ListParams::default().labels("app.kubernetes.io/managed-by=rorun-operator");
            let list = match self.objects(kind.kind, namespace).list(&ours).await {
                // The cluster may lack the kinds of other projects.
                Err(kube::Error::Api(status)) if status.code == 404 && !kind.is_core() => continue,
                list => list.expect("a list"),
            };
            all.extend(list.items.into_iter().map(|mut object| {
                object.types = Some(types(kind));
                object
            }));
        }
        all
    }

    pub fn mark(&self) -> Mark {
        self.server.mark().expect("a mark")
    }

    /// The calls of the operator in a namespace since a mark, without watches and leases.
    pub fn calls(&self, namespace: &str, mark: Mark) -> Vec<AuditCall> {
        let calls = self.server.calls_since(mark).expect("the audit log");
        let ours = |call: &AuditCall| call.user_agent.starts_with("rorun-operator/") && call.namespace == namespace;
        calls.into_iter().filter(|call| ours(call) && call.verb != "watch" && call.resource != "leases").collect()
    }

    /// The calls of the operator since a mark, in whatever namespace and about none, without watches and leases.
    pub fn all_calls(&self, mark: Mark) -> Vec<AuditCall> {
        let calls = self.server.calls_since(mark).expect("the audit log");
        let ours = |call: &AuditCall| call.user_agent.starts_with("rorun-operator/") && call.resource != "leases";
        calls.into_iter().filter(|call| ours(call) && call.verb != "watch").collect()
    }

    /// Applies objects of any kind, as `kubectl apply` does, and waits for none of them.
    pub async fn apply_yaml(&self, yaml: &str) {
        for object in serde_saphyr::from_multiple::<Value>(yaml).expect("YAML") {
            let object: DynamicObject = serde_json::from_value(object).expect("an object");
            let (api, name) = (self.api_of(&object), object.name_any());
            api.patch(&name, &PatchParams::apply("user").force(), &Patch::Apply(&object)).await.expect("it is applied");
        }
    }

    /// Deletes them.
    pub async fn delete_yaml(&self, yaml: &str) {
        for object in serde_saphyr::from_multiple::<Value>(yaml).expect("YAML") {
            let object: DynamicObject = serde_json::from_value(object).expect("an object");
            let api = self.api_of(&object);
            api.delete(&object.name_any(), &DeleteParams::default()).await.expect("it is deleted");
        }
    }

    fn api_of(&self, object: &DynamicObject) -> Api<DynamicObject> {
        let types = object.types.clone().expect("a kind");
        let kind = kube::core::GroupVersionKind::try_from(types).expect("a kind");
        let resource = kube::api::ApiResource::from_gvk(&kind);
        match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// The writes among them that the API server carried out, without statuses and events, and without the records of releases, which each change of
    /// a workload makes.
    pub fn writes(&self, namespace: &str, mark: Mark) -> Vec<String> {
        let calls = self.calls(namespace, mark);
        let done = calls.into_iter().filter(|call| {
            call.is_write()
                && call.code < 300
                && call.subresource != "status"
                && !["events", "controllerrevisions"].contains(&call.resource.as_str())
        });
        done.map(|call| format!("{} {}/{}", call.verb, call.resource, call.name)).collect()
    }

    /// What an edit of a spec with backups writes beside the Secret that tells dumps the spec, which is written once.
    pub fn edited(&self, namespace: &str, mark: Mark) -> Vec<String> {
        let (told, others): (Vec<_>, Vec<_>) =
            self.writes(namespace, mark).into_iter().partition(|write| write == "patch secrets/shop-backup");
        assert_eq!(told.len(), 1, "{others:?}");
        others
    }

    /// A condition of the stack: status, reason and message.
    pub async fn condition(&self, namespace: &str, kind: &str) -> (String, String, String) {
        let stack = self.stacks(namespace).get("shop").await.expect("the stack");
        let conditions = stack.status.map(|status| status.conditions).unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map(|condition| (condition.status, condition.reason, condition.message)).unwrap_or_default()
    }

    pub async fn until_reason(&self, namespace: &str, kind: &str, reason: &str) -> String {
        self.until(&format!("{kind} has the reason {reason}"), async || {
            self.condition(namespace, kind).await.1 == reason
        })
        .await;
        self.condition(namespace, kind).await.2
    }

    /// Long enough for a write that should not happen.
    pub async fn pause(&self) {
        tokio::time::sleep(QUIET / 4).await;
    }

    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.objects(kind, namespace).delete(name, &DeleteParams::default()).await.expect("it is deleted");
    }

    pub async fn until(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        self.until_or(what, condition, async || String::new()).await;
    }

    /// Likewise, of what the operator itself does no sooner than this.
    pub async fn until_after(&self, pause: Duration, what: &str, condition: impl AsyncFnMut() -> bool) {
        wait(pause + TIME_LIMIT, what, condition, async || String::new()).await;
    }

    /// Waits; in vain, it tells how things are.
    pub async fn until_or(&self, what: &str, condition: impl AsyncFnMut() -> bool, told: impl AsyncFn() -> String) {
        wait(TIME_LIMIT, what, condition, told).await;
    }
}

async fn wait(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool, told: impl AsyncFn() -> String) {
    let started = Instant::now();
    while !condition().await {
        let waited = started.elapsed();
        let told = if waited < limit { String::new() } else { told().await };
        assert!(waited < limit, "waited {} s in vain until {what}{told}", limit.as_secs());
        tokio::time::sleep(TICK).await;
    }
}

fn types(kind: &ObjectKind) -> kube::core::TypeMeta {
    kube::core::TypeMeta { api_version: kind.api_version(), kind: kind.kind.to_owned() }
}

/// A stack with everything embedded, of which only the data services come up where no pods run.
pub fn development() -> Value {
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1"},
        "ocr": {"image": "rorun-ai-service:1"},
        "admin": {"image": "rorun-admin:1"},
        "ingress": {"host": "api.example.com", "adminHost": "admin.example.com"},
        "backup": {},
    })
}

pub fn plural(kind: &str) -> &'static str {
    KINDS.iter().find(|entry| entry.kind == kind).map_or("", |entry| entry.plural)
}
