//! The server of the probes and the metrics: `/healthz`, `/readyz`, `/metrics`.
//!
//! Every connection carries one request and lives for a few seconds at most. No request body is ever read.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Health, Metrics, connections::BoundedListener};

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
    /// The listener broke.
    #[error("failed to serve probes and metrics")]
    Serve(#[source] io::Error),
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
    pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<Self, HttpError> {
        let failed = |source| HttpError::Bind { address, flag, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, lifetime: CONNECTION_LIFETIME })
    }

    /// The address with the port that the system chose, when the port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is cancelled, and then for a moment more what is under way.
    pub async fn serve(
        self,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Result<(), HttpError> {
        let listener = BoundedListener::new(self.listener, CONNECTIONS, self.lifetime);
        let stop = shutdown.clone().cancelled_owned();
        let serving = axum::serve(listener, router(health, metrics)).with_graceful_shutdown(stop);
        let drained = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = serving => served.map_err(HttpError::Serve),
            () = drained => Ok(()),
        }
    }
}

fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    let probes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    Router::new()
        .route("/metrics", get(scrape))
        .with_state(metrics)
        .merge(probes)
        // Without a second request on it a connection needs no more than its lifetime.
        .layer(map_response(async |mut response: Response| {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }))
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
    use std::time::Instant;

    use rstest::rstest;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        task::JoinHandle,
    };

    use super::*;
    use crate::telemetry::{HealthLimits, Role};

    struct Running {
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
        task: JoinHandle<Result<(), HttpError>>,
    }

    async fn running(lifetime: Duration) -> Running {
        let metrics = Arc::new(Metrics::new().unwrap());
        let limits =
            HealthLimits { longest_reconcile: Duration::from_millis(50), longest_silence: Duration::from_mins(1) };
        let health = Arc::new(Health::new(Arc::clone(&metrics), limits));
        let server = Server::bind(([127, 0, 0, 1], 0).into(), "--http-address").await.unwrap();
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
        let server = running(CONNECTION_LIFETIME).await;
        let answer = ask(server.address, method, path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn readyz_lists_every_reason() {
        let server = running(CONNECTION_LIFETIME).await;
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
        let server = running(CONNECTION_LIFETIME).await;
        let reconcile = server.metrics.controller("rorunstack").reconcile_started();
        tokio::time::sleep(Duration::from_millis(60)).await;
        let answer = ask(server.address, "GET", "/healthz").await;
        assert!(answer.contains("503") && answer.contains("a reconcile has been running"), "{answer}");
        drop(reconcile);
        assert!(ask(server.address, "GET", "/healthz").await.ends_with("ok\n"));
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format() {
        let server = running(CONNECTION_LIFETIME).await;
        let answer = ask(server.address, "GET", "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("# TYPE rorun_build_info gauge\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_slow_client_is_cut_off() {
        let server = running(Duration::from_millis(200)).await;
        let since = Instant::now();
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(5), slow.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        assert!(since.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_server_although_a_client_holds_on() {
        let server = running(CONNECTION_LIFETIME).await;
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET /he").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.shutdown.cancel();
        tokio::time::timeout(DRAIN * 2, server.task).await.unwrap().unwrap().unwrap();
        TcpStream::connect(server.address).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_taken_address_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Server::bind(address, "--http-address").await.unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--http-address"), "{error}");
    }
}
