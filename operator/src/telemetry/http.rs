//! The server of the probes and the metrics: `/healthz`, `/readyz`, `/metrics`.
//!
//! Every connection carries one request and lives for a few seconds at most. No request body is ever read.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Health, Metrics, listener::listen};

/// The longest life of a connection, from its first byte to the last byte of the answer.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(10);
/// The most connections at once; probes and scrapes need a handful.
const CONNECTIONS: usize = 256;
/// How long the answers that are under way may take once the server is stopped.
const DRAIN: Duration = Duration::from_secs(2);

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, or not of this machine.
    #[error("failed to listen on {address} for probes and metrics: choose another address with {flag}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    lifetime: Duration,
}

impl Server {
    /// Listens on `address`, which `flag` set.
    pub fn bind(address: SocketAddr, flag: &'static str) -> Result<Self, HttpError> {
        let failed = |source| HttpError::Bind { address, flag, source };
        let listener = listen(address).and_then(TcpListener::from_std).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, lifetime: CONNECTION_LIFETIME })
    }

    /// The address with the port that the system chose, when the port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled, and then for a moment more the requests that have begun.
    pub async fn serve(mut self, health: Arc<Health>, metrics: Arc<Metrics>, shutdown: CancellationToken) {
        let service = TowerToHyperService::new(router(health, metrics));
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        while let Some((stream, slot)) = self.accept(&slots, &shutdown).await {
            // A connection that ends by itself leaves a result behind.
            while connections.try_join_next().is_some() {}
            let serving =
                http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service.clone());
            let lifetime = self.lifetime;
            connections.spawn(async move {
                // The client's errors are no news: it may have gone, sent no HTTP, or been too slow.
                let _ = timeout(lifetime, serving).await;
                drop(slot);
            });
        }
        drop(self.listener);
        // What has not ended then is aborted with the set.
        let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    }

    /// The next connection, once a slot is free; until then connections wait in the kernel. `None`: the server is to stop.
    async fn accept(
        &mut self,
        slots: &Arc<Semaphore>,
        shutdown: &CancellationToken,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let accepting = async {
            let slot = Arc::clone(slots).acquire_owned().await.ok()?;
            // axum waits a second where the process has no file descriptors left, and goes on after other errors.
            let (stream, _) = Listener::accept(&mut self.listener).await;
            Some((stream, slot))
        };
        shutdown.run_until_cancelled(accepting).await?
    }
}

fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    let probes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    Router::new().route("/metrics", get(scrape)).with_state(metrics).merge(probes)
}

async fn healthz(State(health): State<Arc<Health>>) -> Response {
    verdict(&health.failures(std::time::Instant::now()))
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    verdict(&health.unready())
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    let text_format = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    match metrics.render() {
        Ok(text) => (text_format, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The kubelet shows the body of a failed probe in its event: one reason per line.
fn verdict(reasons: &[String]) -> Response {
    if reasons.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, Ipv6Addr},
        time::Instant,
    };

    use rstest::rstest;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinHandle,
    };

    use super::*;
    use crate::telemetry::{HealthLimits, Role};

    struct Running {
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    }

    fn running(lifetime: Duration) -> Running {
        listening("127.0.0.1:0", lifetime)
    }

    fn listening(address: &str, lifetime: Duration) -> Running {
        let metrics = Arc::new(Metrics::new().unwrap());
        let limits =
            HealthLimits { longest_reconcile: Duration::from_millis(50), longest_silence: Duration::from_mins(1) };
        let health = Arc::new(Health::new(Arc::clone(&metrics), limits));
        let server = Server::bind(address.parse().unwrap(), "--http-address").unwrap();
        let server = Server { lifetime, ..server };
        let (address, shutdown) = (server.address(), CancellationToken::new());
        let task = tokio::spawn(server.serve(Arc::clone(&health), Arc::clone(&metrics), shutdown.clone()));
        Running { address, health, metrics, shutdown, task }
    }

    /// Sends one request and reads until the server closes the connection.
    async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{method} {path} HTTP/1.1\r\nhost: operator\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[rstest]
    #[case("GET", "/healthz", "200 OK")]
    #[case("GET", "/metrics", "200 OK")]
    #[case("GET", "/readyz", "503 Service Unavailable")]
    #[case("POST", "/healthz", "405 Method Not Allowed")]
    #[case("GET", "/", "404 Not Found")]
    #[tokio::test]
    async fn a_path_answers_once_and_closes(#[case] method: &str, #[case] path: &str, #[case] status: &str) {
        let server = running(CONNECTION_LIFETIME);
        let answer = ask(server.address, method, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn the_kubelet_of_either_family_of_addresses_gets_an_answer() {
        let server = listening("[::]:0", CONNECTION_LIFETIME);
        let mut loopback: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        // A machine without IPv6 has no such address to listen on.
        loopback.extend(TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.map(|_| IpAddr::from(Ipv6Addr::LOCALHOST)));
        for address in loopback {
            let answer = ask((address, server.address.port()).into(), "GET", "/healthz").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{address}: {answer}");
        }
    }

    #[tokio::test]
    async fn readyz_lists_every_reason() {
        let server = running(CONNECTION_LIFETIME);
        server.health.expect_cache("Secret");
        let answer = ask(server.address, "GET", "/readyz").await;
        assert!(
            answer.ends_with("starting: neither leader nor standby\nthe cache of Secret is not synced\n"),
            "{answer}"
        );
        server.health.cache_synced("Secret");
        server.health.set_role(Role::Standby);
        assert!(ask(server.address, "GET", "/readyz").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn healthz_fails_while_a_reconcile_is_stuck() {
        let server = running(CONNECTION_LIFETIME);
        let reconcile = server.metrics.controller("rorunstack").reconcile_started();
        tokio::time::sleep(Duration::from_millis(60)).await;
        let answer = ask(server.address, "GET", "/healthz").await;
        assert!(answer.contains("503") && answer.contains("a reconcile has been running"), "{answer}");
        drop(reconcile);
        assert!(ask(server.address, "GET", "/healthz").await.ends_with("ok\n"));
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format() {
        let server = running(CONNECTION_LIFETIME);
        let answer = ask(server.address, "GET", "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("# TYPE rorun_build_info gauge\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_slow_client_is_cut_off() {
        let server = running(Duration::from_millis(200));
        let since = Instant::now();
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(5), slow.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        assert!(since.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_server_although_a_client_holds_on() {
        let server = running(CONNECTION_LIFETIME);
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET /he").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.shutdown.cancel();
        tokio::time::timeout(DRAIN * 2, server.task).await.unwrap().unwrap();
        TcpStream::connect(server.address).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_taken_address_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Server::bind(address, "--http-address").unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--http-address"), "{error}");
    }
}
