//! B12: an API server that lets in only so many calls a second.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::environment::{BenchEnvironment, TIMEOUT, create_stack};
use super::operator::Operator;
use super::stats::{float, mean};
use super::table::{Bar, Row};
use super::{floor, load};
use crate::relay::{Body, Error, forward, refusal, write_kubeconfig};

const PER_SECOND: usize = 10;
const STACKS: usize = 200;

/// Passes on so many calls in every second, and answers 429 to all others. It ends when it is dropped.
struct ThrottlingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    client: Client,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// When the last calls that were let in came.
    recent: VecDeque<Instant>,
    useful: usize,
    all: usize,
}

impl Counted {
    /// Whether a call that comes now is let in.
    fn meet(&mut self, now: Instant) -> bool {
        self.all += 1;
        while self.recent.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
            self.recent.pop_front();
        }
        let let_in = self.recent.len() < PER_SECOND;
        if let_in {
            self.recent.push_back(now);
        }
        let_in
    }
}

impl ThrottlingProxy {
    async fn start(client: Client) -> Result<ThrottlingProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to open a port for the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { client, counted: Mutex::default() });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&shared)));
        Ok(ThrottlingProxy { address, shared, _serving: serving })
    }

    fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        write_kubeconfig(self.address, path)
    }

    /// Calls that did something, and all of them.
    fn counted(&self) -> (usize, usize) {
        let counted = self.shared.counted.lock().unwrap_or_else(PoisonError::into_inner);
        (counted.useful, counted.all)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| handle(Arc::clone(&shared), request));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
        while connections.try_join_next().is_some() {}
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let counted = || shared.counted.lock().unwrap_or_else(PoisonError::into_inner);
    // A watch takes a place once, and lasts.
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    if !is_watch && !counted().meet(Instant::now()) {
        return refusal(429, Some(1));
    }
    let answer = forward(shared.client.clone(), request).await?;
    if !is_watch && answer.status().as_u16() < 400 {
        counted().useful += 1;
    }
    Ok(answer)
}

/// B12: stacks made at once, by an operator that is let in seldom.
pub(super) async fn throttled(bench: &mut BenchEnvironment) -> Result<()> {
    let names = floor::names('t', STACKS.min(bench.options.stacks / 5).max(2));
    load::prepare(&bench.client, &bench.services, &names).await?;
    bench.stop_operator().await?;
    let proxy = ThrottlingProxy::start(bench.client.clone()).await?;
    let kubeconfig = bench.server.folder().join("throttled.kubeconfig");
    proxy.write_kubeconfig(&kubeconfig)?;
    let operator = Operator::start(&kubeconfig, &bench.log("throttled"))?;
    operator.ready().await?;
    operator.rests().await?;
    let (useful_before, before) = proxy.counted();
    let started = Instant::now();
    load::each(&names, |of| create_stack(&bench.client, &bench.template, of)).await?;
    bench.statuses.until("made", (&names, TIMEOUT), |seen| seen.made.is_some()).await?;
    let (useful, all) = proxy.counted();
    operator.kill().await?;
    let took: Vec<Duration> = names
        .iter()
        .filter_map(|of| bench.statuses.of(of).made.map(|at| at.saturating_duration_since(started)))
        .collect();
    let (useful, all) = (float(useful - useful_before), float(all - before));
    let what = format!("{PER_SECOND} calls a second for {} stacks: useful of all", names.len());
    let row = Row::new("B12", what, useful / all, "of 1").bar(Bar::AtLeast(0.9));
    bench.note(row.note(format!("{useful} of {all}")));
    let (last, mean) = (took.iter().max().copied().unwrap_or_default(), mean(&took));
    let row =
        Row::new("B12", "the last stack against the mean", last.div_duration_f64(mean), "x").bar(Bar::AtMost(2.0));
    let let_in = float(names.len() * (bench.template.children() + 1) / PER_SECOND);
    bench.note(row.note(format!("made after {:.0} s, in the mean {:.0} s", last.as_secs_f64(), mean.as_secs_f64())));
    let row = Row::new("B12", "until the last is made", last.as_secs_f64(), "s");
    bench.note(row.ratio(last.as_secs_f64() / let_in, "calls let in"));
    bench.remove(&names).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_let_in_each_second() {
        let (mut counted, begin) = (Counted::default(), Instant::now());
        for (milliseconds, expected) in [(0, 10), (500, 0), (999, 0), (1000, 10), (1500, 0), (2100, 10)] {
            let now = begin + Duration::from_millis(milliseconds);
            assert_eq!((0..15).filter(|_| counted.meet(now)).count(), expected, "after {milliseconds} ms");
        }
        assert_eq!(counted.all, 90);
    }
}
