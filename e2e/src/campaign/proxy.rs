//! A proxy on loopback between an operator and its API server, which does what a plan says to one request. The operator
//! needs nothing for it but an address.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::plan::{Call, Fault, Plan};

/// Long enough for an answer of a few bytes to be read on loopback.
const ANSWER_READ: Duration = Duration::from_millis(5);

/// What a proxy answers with.
pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;
/// Why it could not.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The proxy of one operator. It ends when it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FaultProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    client: Client,
    /// What is to happen; none once it has.
    plan: Mutex<Option<(Plan, usize)>>,
    kill: Box<dyn Fn() + Send + Sync>,
    writes: Mutex<Vec<Call>>,
    last_write: Mutex<Instant>,
}

/// How a request ends that gets no answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("cut by the plan")
    }
}

impl std::error::Error for Cut {}

impl FaultProxy {
    /// Listens, and passes on what comes by way of the client. `kill` ends the operator at once.
    pub async fn start(client: Client, kill: impl Fn() + Send + Sync + 'static) -> Result<FaultProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to open a port for the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            client,
            plan: Mutex::default(),
            kill: Box::new(kill),
            writes: Mutex::default(),
            last_write: Mutex::new(Instant::now()),
        });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&shared)));
        Ok(FaultProxy { address, shared, _serving: serving })
    }

    /// Writes a kubeconfig that leads to the proxy.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        write_kubeconfig(self.address, path)
    }

    /// From now on, this is to happen.
    pub fn arm(&self, plan: Option<Plan>) {
        *lock(&self.shared.plan) = plan.map(|plan| (plan, 0));
    }

    /// The writes that came, in their order, without those that only tell: Events.
    pub fn writes(&self) -> Vec<Call> {
        lock(&self.shared.writes).clone()
    }

    /// When the last of them came.
    pub fn last_write(&self) -> Instant {
        *lock(&self.shared.last_write)
    }

    /// Counts this moment as if a write had come: nothing is at rest before it has begun.
    pub fn touch(&self) {
        *lock(&self.shared.last_write) = Instant::now();
    }

    /// Whether the fault has happened.
    pub fn has_fired(&self) -> bool {
        lock(&self.shared.plan).is_none()
    }
}

/// Writes a kubeconfig that leads to a proxy.
pub(crate) fn write_kubeconfig(proxy: SocketAddr, path: &Path) -> Result<()> {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{proxy}")}}],
        "users": [{"name": "operator", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        "current-context": "proxy",
    });
    std::fs::write(path, kubeconfig.to_string()).with_context(|| format!("failed to write {}", path.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| pass(Arc::clone(&shared), request));
    // It ends with an error when the operator is killed, or the plan cuts it: that is what it is for.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn pass(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let uri = request.uri();
    let call = Call::of(request.method().as_str(), uri.path(), uri.query().unwrap_or_default());
    let fault = shared.meet(call);
    match fault {
        Some(Fault::KillBefore) => {
            (shared.kill)();
            return Err(Cut.into());
        }
        Some(Fault::Refuse(code)) => return refusal(code),
        _ => {}
    }
    let answer = forward(shared.client.clone(), request).await?;
    match fault {
        Some(Fault::KillAfterCommit) => {
            (shared.kill)();
            Err(Cut.into())
        }
        Some(Fault::KillAfterAnswer) => {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                tokio::time::sleep(ANSWER_READ).await;
                (shared.kill)();
            });
            Ok(answer)
        }
        Some(Fault::RefuseAfterCommit(code)) => refusal(code),
        Some(Fault::ResetAfterCommit) => {
            let (head, _) = answer.into_parts();
            let begun = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"{\"kind\":"))), Err(Cut.into())]);
            Ok(Response::from_parts(head, StreamBody::new(begun).boxed_unsync()))
        }
        _ => Ok(answer),
    }
}

impl Shared {
    /// Notes the request; gives the fault if it is the one that the plan names.
    fn meet(&self, call: Call) -> Option<Fault> {
        let mut plan = lock(&self.plan);
        let fault = plan.as_mut().and_then(|(plan, met)| {
            let like = Call { namespace: String::new(), ..call.clone() };
            if like != plan.at {
                return None;
            }
            *met += 1;
            (*met == plan.occurrence).then_some(plan.fault)
        });
        if fault.is_some() {
            *plan = None;
        }
        if call.is_write() && call.resource != "events" {
            *lock(&self.last_write) = Instant::now();
            lock(&self.writes).push(call);
        }
        fault
    }
}

/// Passes a request on to where the client leads.
pub(crate) async fn forward(client: Client, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let (mut head, body) = request.into_parts();
    // The client knows where to, and who it is.
    head.uri = head.uri.path_and_query().map(|path| path.as_str().parse()).transpose()?.unwrap_or_default();
    head.headers.remove(header::HOST);
    let body = body.collect().await?.to_bytes();
    let request = Request::from_parts(head, kube::client::Body::from(body));
    // In a task of its own: what is on its way when the operator is killed arrives all the same, as it would on a network.
    let answer = tokio::spawn(async move { client.send(request).await }).await??;
    let (mut head, body) = answer.into_parts();
    head.headers.remove(header::TRANSFER_ENCODING);
    let body = body.into_data_stream().map_ok(Frame::data).map_err(|error| -> Error { error.into() });
    Ok(Response::from_parts(head, StreamBody::new(body).boxed_unsync()))
}

/// An answer as the API server gives it.
pub(crate) fn refusal(code: u16) -> Result<Response<Body>, Error> {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "by the plan", "metadata": {},
    });
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never: Infallible| match never {}).boxed_unsync();
    let answer = Response::builder().status(StatusCode::from_u16(code)?);
    Ok(answer.header(header::CONTENT_TYPE, "application/json").header(header::RETRY_AFTER, "1").body(body)?)
}
