//! A proxy on loopback between an operator and its API server, which carries out the faults of plans, one after the other.
//! The operator needs nothing for it but an address.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::broken::{Broken, BrokenApi};
use super::past::Past;
use super::plan::{Call, Fault, Plan};
use super::relay::{self, Body, Error, refusal, send};
use super::streams::{Rule, Streams};
use super::sync::lock;

/// Long enough for an answer of a few bytes to be read on loopback.
const ANSWER_READ: Duration = Duration::from_millis(5);
/// Nothing comes any more: longer than the first retry of the operator.
const REST: Duration = Duration::from_millis(900);
/// How long an operator may believe that what it wrote is there, though no watch tells of it: it does for 5 s, and a look just
/// before these are over is followed by one up to 6.5 s later.
const MISSED_WITHIN: Duration = Duration::from_secs(12);
const TICK: Duration = Duration::from_millis(10);

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
    broken: BrokenApi,
    /// The plans to come.
    pending: Mutex<Pending>,
    kill: Box<dyn Fn() + Send + Sync>,
    writes: Mutex<Vec<Call>>,
    last_write: Mutex<Instant>,
    streams: Streams,
    past: Past,
    /// Requests that the API server has not answered yet.
    under_way: AtomicUsize,
    /// The requests that were refused with `Retry-After`, and until when they must not come again.
    refused: Mutex<Vec<(Call, Instant)>>,
    /// The objects that another client deleted unnoticed, and until when the proxy waits for them.
    vanished: Mutex<Option<(Call, Instant)>>,
    problems: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Pending {
    plans: VecDeque<Plan>,
    /// How many of its like came for the first of them.
    met: usize,
    fired: usize,
    /// The operator was killed, and no other runs yet: its last requests are no places of a plan.
    dead: bool,
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
    /// Listens, and forwards requests by the client. `kill` ends the operator at once.
    pub async fn start(client: Client, kill: impl Fn() + Send + Sync + 'static) -> Result<FaultProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to open a port for the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            client,
            broken: BrokenApi::default(),
            pending: Mutex::default(),
            kill: Box::new(kill),
            writes: Mutex::default(),
            last_write: Mutex::new(Instant::now()),
            streams: Streams::new(),
            past: Past::default(),
            under_way: AtomicUsize::new(0),
            refused: Mutex::default(),
            vanished: Mutex::default(),
            problems: Mutex::default(),
        });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&shared)));
        Ok(FaultProxy { address, shared, _serving: serving })
    }

    /// Writes a kubeconfig that leads to the proxy.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        relay::write_kubeconfig(self.address, path)
    }

    /// From now on, this is to happen, one after the other.
    pub fn arm(&self, plans: impl IntoIterator<Item = Plan>) {
        let mut pending = lock(&self.shared.pending);
        (pending.plans, pending.met) = (plans.into_iter().collect(), 0);
    }

    /// From now on the API of a group is broken: watches of it end, and whatever is asked of it gets no good answer.
    pub fn break_api(&self, group: &str, broken: Broken) {
        self.shared.broken.set(Some((group.to_owned(), broken)));
    }

    /// It is as it was.
    pub fn mend_api(&self) {
        self.shared.broken.set(None);
    }

    /// The writes that came, in their order, without Events.
    pub fn writes(&self) -> Vec<Call> {
        lock(&self.shared.writes).clone()
    }

    /// When the last of them came.
    pub fn last_write(&self) -> Instant {
        *lock(&self.shared.last_write)
    }

    /// An operator was started: nothing is at rest before it has begun.
    pub fn touch(&self) {
        lock(&self.shared.pending).dead = false;
        self.shared.touch();
    }

    /// Whether every fault has happened.
    pub fn has_fired(&self) -> bool {
        lock(&self.shared.pending).plans.is_empty()
    }

    /// How many faults have happened.
    pub fn fired(&self) -> usize {
        lock(&self.shared.pending).fired
    }

    /// Whether a fault goes on: watches are delayed, a request is on its way, a deleted object is not made again yet, or the
    /// operator has to wait for `Retry-After`.
    pub fn is_disturbing(&self) -> bool {
        let now = Instant::now();
        self.shared.streams.are_disturbed()
            || self.shared.under_way.load(Ordering::Relaxed) > 0
            || lock(&self.shared.refused).iter().any(|(_, until)| *until > now)
            || lock(&self.shared.vanished).as_ref().is_some_and(|(_, until)| *until > now)
    }

    /// The requests by which the operator broke the rules of the API server.
    pub fn problems(&self) -> Vec<String> {
        lock(&self.shared.problems).clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| handle(Arc::clone(&shared), request));
    // The connection ends with an error when the operator is killed, or the plan cuts it.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(shared: Arc<Shared>, mut request: Request<Incoming>) -> Result<Response<Body>, Error> {
    if let Some(broken) = shared.broken.at(request.uri().path()) {
        return match broken {
            Broken::Answers(code) => refusal(code, None),
            Broken::Hangs => {
                // What was asked meanwhile is never answered; the next try is.
                shared.broken.until_mended().await;
                Err(Cut.into())
            }
        };
    }
    let uri = request.uri();
    let call = Call::of(request.method().as_str(), uri.path(), uri.query().unwrap_or_default());
    let fault = shared.meet(&call);
    match fault {
        Some(Fault::KillBefore) => {
            (shared.kill)();
            return Err(Cut.into());
        }
        Some(Fault::Meanwhile) => {
            let shared = Arc::clone(&shared);
            tokio::task::spawn_blocking(move || (shared.kill)()).await?;
        }
        Some(Fault::Refuse(code)) => return shared.refuse(call, code, 1),
        Some(Fault::RefuseFor(code, seconds)) => return shared.refuse(call, code, seconds),
        Some(Fault::Remember | Fault::KillIntoPast | Fault::KillIntoPastOfOne) => {
            shared.past.remember(&shared.client, &call).await?;
        }
        Some(fault) => disturb(&shared, &call, fault),
        None if call.verb == "list" => shared.past.lead(&call, request.uri_mut())?,
        // As a server does that cannot stream lists: a list of the past is asked for in pages.
        None if shared.past.is_shown() && streams_a_list(&request) => return refusal(422, None),
        None => {}
    }
    let path = request.uri().path().to_owned();
    let asked = path.clone();
    let delay = if let Some(Fault::DelayRequest(milliseconds)) = fault { milliseconds } else { 0 };
    let answer = forward(&shared, request, Duration::from_millis(delay)).await?;
    if delay > 0 {
        shared.touch();
    }
    if fault == Some(Fault::Vanish) {
        let delete = Request::delete(path).body(Vec::new())?;
        shared.client.request_text(delete).await?;
        *lock(&shared.vanished) = Some((call.clone(), Instant::now() + MISSED_WITHIN));
    }
    finish(&shared, (&call, asked), fault, answer).await
}

fn streams_a_list(request: &Request<Incoming>) -> bool {
    request.uri().query().unwrap_or_default().split('&').any(|pair| pair == "sendInitialEvents=true")
}

/// The fault of the answer.
async fn finish(
    shared: &Arc<Shared>,
    (call, path): (&Call, String),
    fault: Option<Fault>,
    answer: Response<Body>,
) -> Result<Response<Body>, Error> {
    match fault {
        Some(Fault::KillAfterCommit) => {
            (shared.kill)();
            Err(Cut.into())
        }
        Some(Fault::KillIntoPast | Fault::KillIntoPastOfOne) => {
            let one = (fault == Some(Fault::KillIntoPastOfOne)).then(|| call.resource.clone());
            shared.past.go_back(one.as_deref());
            hold(shared, one, Rule::Hold, usize::MAX);
            (shared.kill)();
            Err(Cut.into())
        }
        Some(Fault::KillAfterAnswer) => {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                tokio::time::sleep(ANSWER_READ).await;
                (shared.kill)();
            });
            Ok(answer)
        }
        Some(Fault::RefuseAfterCommit(code)) => refusal(code, None),
        Some(Fault::DelayAnswer(milliseconds)) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            // Only now the operator can go on.
            shared.touch();
            Ok(answer)
        }
        Some(Fault::ResetAfterCommit) => {
            let (head, _) = answer.into_parts();
            let begun = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"{\"kind\":"))), Err(Cut.into())]);
            Ok(Response::from_parts(head, StreamBody::new(begun).boxed_unsync()))
        }
        _ if call.verb == "watch" && answer.status().is_success() => {
            let (head, body) = answer.into_parts();
            let reported = shared.streams.forward(&call.resource, body.into_data_stream().fuse().boxed());
            let reported = reported.take_until(shared.broken.until_broken(path));
            Ok(Response::from_parts(head, StreamBody::new(reported).boxed_unsync()))
        }
        _ => Ok(answer),
    }
}

/// Begins a fault of watches.
fn disturb(shared: &Arc<Shared>, call: &Call, fault: Fault) {
    let resource = Some(call.resource.as_str());
    match fault {
        Fault::Hold(writes) => hold(shared, Some(call.resource.clone()), Rule::Hold, writes),
        Fault::Miss(writes) => hold(shared, Some(call.resource.clone()), Rule::Miss, writes),
        Fault::Vanish => hold(shared, Some(call.resource.clone()), Rule::Miss, usize::MAX),
        Fault::Repeat => shared.streams.disturb(resource, Rule::Repeat),
        Fault::Cut(events) => shared.streams.disturb(resource, Rule::Cut(events)),
        Fault::Stall => shared.streams.stall(&call.resource),
        _ => {}
    }
}

/// Does something to watches until so many more writes came, or none comes any more.
fn hold(shared: &Arc<Shared>, resource: Option<String>, rule: Rule, writes: usize) {
    shared.streams.disturb(resource.as_deref(), rule);
    let last = lock(&shared.writes).len().saturating_add(writes);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let goes_on = || {
            let rests = lock(&shared.last_write).elapsed() > REST && shared.past.is_listed();
            lock(&shared.writes).len() < last && !rests
        };
        while goes_on() {
            tokio::time::sleep(TICK).await;
        }
        shared.streams.release(resource.as_deref(), rule);
    });
}

impl Shared {
    /// As if a write came now.
    fn touch(&self) {
        *lock(&self.last_write) = Instant::now();
    }

    /// Notes the request; gives the fault if it is the one that the next plan names.
    fn meet(&self, call: &Call) -> Option<Fault> {
        let mut pending = lock(&self.pending);
        let next = pending.plans.front().filter(|plan| !pending.dead && plan.at.covers(call));
        let fault = next.map(|plan| (plan.occurrence, plan.fault));
        let fault = fault.and_then(|(occurrence, fault)| {
            pending.met += 1;
            (pending.met == occurrence).then_some(fault)
        });
        if let Some(fault) = fault {
            pending.plans.pop_front();
            (pending.met, pending.fired, pending.dead) = (0, pending.fired + 1, fault.kills());
        }
        drop(pending);
        if (call.is_write() && call.resource != "events") || call.verb == "list" {
            self.touch();
        }
        lock(&self.vanished).take_if(|(vanished, _)| vanished == call);
        if call.is_write() && call.resource != "events" {
            lock(&self.writes).push(call.clone());
            let now = Instant::now();
            if lock(&self.refused).iter().any(|(refused, until)| refused == call && *until > now) {
                lock(&self.problems).push(format!("O3 {call} came again before Retry-After"));
            }
        }
        fault
    }

    fn refuse(&self, call: Call, code: u16, seconds: u64) -> Result<Response<Body>, Error> {
        let waits = matches!(code, 429 | 503).then_some(seconds);
        if call.verb == "watch" {
            self.streams.await_again(&call.resource);
        }
        if let Some(seconds) = waits {
            lock(&self.refused).push((call, Instant::now() + Duration::from_secs(seconds)));
        }
        refusal(code, waits)
    }
}

async fn forward(shared: &Arc<Shared>, request: Request<Incoming>, delay: Duration) -> Result<Response<Body>, Error> {
    let shared = Arc::clone(shared);
    shared.under_way.fetch_add(1, Ordering::Relaxed);
    let client = shared.client.clone();
    let sent = send(request, move |request| async move {
        tokio::time::sleep(delay).await;
        let answer = client.send(request).await;
        shared.under_way.fetch_sub(1, Ordering::Relaxed);
        answer
    });
    sent.await
}
