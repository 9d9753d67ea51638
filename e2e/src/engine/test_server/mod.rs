//! The test server: etcd and a real API server that start in seconds, and no other client writes. Tests of the API, the fault
//! campaign and the benchmarks start many of them and count every call.
//!
//! There is no controller-manager unless [`TestServer::with_controller_manager`] starts one: no garbage collection, no
//! rollouts, no default service accounts, so nothing happens that the test did not do. Pods, which need a service
//! account, can be created once the test has created that account. Pod Security admission is on, as it is by default.

pub(in crate::engine) mod audit;
mod https;
mod log;
mod pki;
mod restore;
mod server;
mod sweep;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

pub use audit::{AuditCall, parse_line};
pub use log::Mark;
pub use restore::Backup;
pub use sweep::{abandoned, sweep};

use self::https::Endpoint;
use self::pki::Authority;
use self::server::Server;
use super::cache::Cache;
use super::{cleanup, ports, tools, wait};

const UP_WITHIN: Duration = Duration::from_mins(1);
const SERVICE_IPS: &str = "10.96.0.0/16";
const FIRST_SERVICE_IP: &str = "10.96.0.1";
const SERVED_AS: &[&str] =
    &["localhost", "127.0.0.1", FIRST_SERVICE_IP, "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
const OURSELVES: &str = "rorun-e2e-test-server";

/// An API server and its etcd. Both are killed, and all they wrote is removed, when this is dropped.
#[derive(Debug)]
pub struct TestServer {
    /// For a cluster administrator.
    pub kubeconfig: PathBuf,
    /// Where the API server writes each call it has answered.
    pub audit_log: PathBuf,
    url: String,
    etcd_url: String,
    endpoint: Endpoint,
    marks: AtomicU64,
    _interrupted: cleanup::Registration,
    // In the order in which they are to end.
    beside: Vec<Server>,
    controller_manager: Option<Server>,
    apiserver: Mutex<Server>,
    etcd: Mutex<Server>,
    /// What the servers were started with, to start them again.
    program: PathBuf,
    arguments: Vec<String>,
    etcd_program: PathBuf,
    etcd_arguments: Vec<String>,
    cache: Cache,
    folder: TempDir,
}

impl TestServer {
    /// Starts a test server, and builds the two programs first if they are not in the cache. Test servers can run side by side.
    pub fn start() -> Result<TestServer> {
        TestServer::start_with(&Cache::from_env()?)
    }

    /// Starts a test server with the programs of that cache.
    pub fn start_with(cache: &Cache) -> Result<TestServer> {
        TestServer::start_logging(cache, audit::POLICY)
    }

    /// Starts a test server whose audit log omits request bodies, so that logging costs next to nothing: for measurements.
    pub fn start_lean(cache: &Cache) -> Result<TestServer> {
        TestServer::start_logging(cache, audit::LEAN_POLICY)
    }

    fn start_logging(cache: &Cache, policy: &str) -> Result<TestServer> {
        sweep(cache)?;
        // A port that was free may be taken when the server comes to open it, though rarely.
        let first = TestServer::try_start(cache, policy);
        if first.as_ref().is_err_and(|error| format!("{error:#}").contains("address already in use")) {
            return TestServer::try_start(cache, policy);
        }
        first
    }

    /// Kills the API server and starts it again, at the same address and with the same etcd; waits until it answers.
    pub fn restart_apiserver(&self) -> Result<()> {
        self.kill_apiserver()?;
        self.start_apiserver()
    }

    /// Kills the API server. Until [`TestServer::start_apiserver`] nobody listens at its address.
    pub fn kill_apiserver(&self) -> Result<()> {
        lock(&self.apiserver).kill()?;
        // The line that it was writing when it was killed never gets its end.
        self.end_log_with_a_line()
    }

    /// Starts the API server that was killed; waits until it answers.
    pub fn start_apiserver(&self) -> Result<()> {
        *lock(&self.apiserver) =
            Server::start("kube-apiserver", &self.program, self.arguments.clone(), self.folder.path())?;
        self.wait_until_ready()
    }

    /// Stops etcd where it stands: the API server gets no answer any more.
    pub fn freeze_etcd(&self) -> Result<()> {
        lock(&self.etcd).process()?.pause()
    }

    /// Lets etcd go on after [`TestServer::freeze_etcd`].
    pub fn thaw_etcd(&self) -> Result<()> {
        lock(&self.etcd).process()?.go_on()
    }

    /// Adds a kube-controller-manager: garbage collection, rollouts, Jobs, default service accounts. It learns about a
    /// new custom resource within 30 s, so owner references from one take that long to be acted upon.
    pub fn with_controller_manager(mut self) -> Result<TestServer> {
        let program = tools::KUBE_CONTROLLER_MANAGER.path(&self.cache)?;
        let authority = self.folder.path().join("pki");
        let [port] = ports::free()?;
        let file = |name: &str| authority.join(name).display().to_string();
        let arguments = [
            format!("--kubeconfig={}", file("controller-manager.kubeconfig")),
            format!("--service-account-private-key-file={}", file("sa.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials".to_owned(),
            // Many namespaces are collected at once, and each is waited for.
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ];
        let mut server = Server::start("kube-controller-manager", &program, arguments, self.folder.path())?;
        wait::until_true("the controller-manager makes the default service account", UP_WITHIN, || {
            server.check()?;
            self.answers("/api/v1/namespaces/default/serviceaccounts/default")
        })?;
        self.controller_manager = Some(server);
        Ok(self)
    }

    /// Starts a program that ends with the test server; returns its pid. It logs to `<name>.log` in [`TestServer::folder`].
    pub fn run_beside(
        &mut self,
        name: &'static str,
        program: &Path,
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<u32> {
        let server = Server::start(name, program, arguments, self.folder.path())?;
        let pid = server.pid();
        self.beside.push(server);
        Ok(pid)
    }

    /// The address of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of etcd, for looking at what is really stored.
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }

    /// The folder with the logs of the servers, which is removed with the test server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The pids of the servers, for tests that prove that none is left.
    pub fn pids(&self) -> Vec<u32> {
        let first = [&self.etcd, &self.apiserver].map(|server| lock(server).pid());
        first.into_iter().chain(self.controller_manager.as_ref().map(Server::pid)).collect()
    }

    fn answers(&self, path: &str) -> Result<bool> {
        Ok(self.endpoint.status(path, OURSELVES)? == Some(200))
    }

    fn try_start(cache: &Cache, policy: &str) -> Result<TestServer> {
        let (etcd, program) = (tools::ETCD.path(cache)?, tools::KUBE_APISERVER.path(cache)?);
        let folder = sweep::own_folder(cache)?;
        let [client_port, peer_port, port] = ports::free()?;
        let (url, etcd_url) = (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{client_port}"));

        let authority = Authority::create(&folder.path().join("pki"))?;
        authority.server("apiserver", SERVED_AS)?;
        let kubeconfig = authority.client("admin", "admin", Some("system:masters"), &url)?;
        authority.client("controller-manager", "system:kube-controller-manager", None, &url)?;

        let etcd_program = etcd;
        let etcd_arguments = etcd_arguments(folder.path(), &etcd_url, peer_port);
        let etcd = Server::start("etcd", &etcd_program, etcd_arguments.clone(), folder.path())?;
        fs::write(folder.path().join("audit-policy.yaml"), policy)?;
        let arguments = apiserver_arguments(folder.path(), &authority, &etcd_url, port);
        let apiserver = Server::start("kube-apiserver", &program, arguments.clone(), folder.path())?;
        let server = TestServer {
            kubeconfig,
            audit_log: folder.path().join("audit.log"),
            url,
            etcd_url,
            endpoint: Endpoint::new(port, &folder.path().join("pki"), "admin")?,
            marks: AtomicU64::new(0),
            _interrupted: sweep::on_interrupt(folder.path()),
            beside: Vec::new(),
            controller_manager: None,
            apiserver: Mutex::new(apiserver),
            etcd: Mutex::new(etcd),
            program,
            arguments,
            etcd_program,
            etcd_arguments,
            cache: cache.clone(),
            folder,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&self) -> Result<()> {
        // The namespace comes last: the server makes it in the background, after it says that it is ready.
        for path in ["/readyz", "/api/v1/namespaces/default"] {
            wait::until_true(&format!("the API server answers {path}"), UP_WITHIN, || {
                lock(&self.etcd).check()?;
                lock(&self.apiserver).check()?;
                self.answers(path)
            })?;
        }
        Ok(())
    }
}

fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

fn etcd_arguments(folder: &Path, url: &str, peer_port: u16) -> Vec<String> {
    let peer_url = format!("http://127.0.0.1:{peer_port}");
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--initial-cluster=default={peer_url}"),
        "--log-level=warn".to_owned(),
        // No data outlive the test server.
        "--unsafe-no-fsync".to_owned(),
        // Thousands of stacks, with the versions that they had until a compaction.
        "--quota-backend-bytes=8589934592".to_owned(),
    ]
}

fn apiserver_arguments(folder: &Path, authority: &Authority, etcd_url: &str, port: u16) -> Vec<String> {
    let file = |name: &str| authority.file(name).display().to_string();
    vec![
        format!("--etcd-servers={etcd_url}"),
        "--bind-address=127.0.0.1".to_owned(),
        // Said, not found out: a machine without a route to anywhere has no other address.
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-cluster-ip-range={SERVICE_IPS}"),
        "--authorization-mode=RBAC".to_owned(),
        // The endpoints of the service `kubernetes` may not be on loopback, and nobody needs them here.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--audit-policy-file={}", folder.join("audit-policy.yaml").display()),
        format!("--audit-log-path={}", folder.join("audit.log").display()),
        // An answer waits for its line, and no line moves to another file: see `calls_since`.
        "--audit-log-mode=blocking".to_owned(),
        "--audit-log-maxsize=100000".to_owned(),
    ]
}
