//! The operator as its image has it, as a process of its own, looked at from outside.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rorun_e2e::engine::cleanup::{Registration, on_interrupt};
use rorun_e2e::engine::ports;
use rorun_e2e::engine::record::ProcessRecord;
use rorun_e2e::scenarios::kit::operator_binary;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::metrics::Metrics;
use super::procfs;

const READY_WITHIN: Duration = Duration::from_mins(2);
const TICK: Duration = Duration::from_millis(2);
/// How long a process is looked at to say whether it works, and how long it must not, to be at rest.
const WINDOW: Duration = Duration::from_millis(50);
const REST: Duration = Duration::from_millis(1500);
/// The share of a processor below which it does not work.
const IDLE: f64 = 0.1;
const RESTS_WITHIN: Duration = Duration::from_mins(10);

/// An operator that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) process: ProcessRecord,
    child: Child,
    port: u16,
    started: Instant,
    _interrupted: Registration,
}

/// What an operator has used.
#[derive(Clone, Debug)]
pub(super) struct Used {
    /// Processor time.
    pub(super) processor: Duration,
    /// Its metrics.
    pub(super) metrics: Metrics,
}

impl Operator {
    /// Starts it with a kubeconfig, as the only one.
    pub(super) fn start(kubeconfig: &Path, log: &Path) -> Result<Operator> {
        Operator::start_with(kubeconfig, log, &["--leader-elect=false"])
    }

    /// Starts it with other arguments.
    pub(super) fn start_with(kubeconfig: &Path, log: &Path, arguments: &[&str]) -> Result<Operator> {
        let [port] = ports::free()?;
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(operator_binary()?);
        command.args(["run", &format!("--http-address=127.0.0.1:{port}")]).args(arguments);
        // The services of the stacks are beside it.
        command.env("PROBE_ALLOW_LOOPBACK", "true");
        command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        let child = command.kill_on_drop(true).spawn().context("failed to start the operator")?;
        let process = ProcessRecord::of(child.id().context("the operator ended at once")?)?;
        let record = process.clone();
        Ok(Operator { process, child, port, started, _interrupted: on_interrupt(move || record.kill()) })
    }

    /// Waits until it says that it is ready; gives the time since it was started.
    pub(super) async fn ready(&self) -> Result<Duration> {
        let deadline = self.started + READY_WITHIN;
        while !self.get("/readyz").await.is_ok_and(|(code, _)| code == 200) {
            self.check(deadline, "is not ready")?;
            tokio::time::sleep(TICK).await;
        }
        Ok(self.started.elapsed())
    }

    /// Waits until it no longer works; gives the time from its start until it last did.
    pub(super) async fn rests(&self) -> Result<Duration> {
        let deadline = Instant::now() + RESTS_WITHIN;
        let (mut before, mut worked) = (procfs::processor_time(&self.process)?, Instant::now());
        while worked.elapsed() < REST {
            self.check(deadline, "does not come to rest")?;
            tokio::time::sleep(WINDOW).await;
            let now = procfs::processor_time(&self.process)?;
            if now.saturating_sub(before).div_duration_f64(WINDOW) > IDLE {
                worked = Instant::now();
            }
            before = now;
        }
        Ok(worked.saturating_duration_since(self.started))
    }

    /// When it was started.
    pub(super) fn started_at(&self) -> Instant {
        self.started
    }

    /// What it has used until now.
    pub(super) async fn used(&self) -> Result<Used> {
        // The metrics come first: to write them takes it time as well.
        let metrics = self.metrics().await?;
        Ok(Used { processor: self.processor()?, metrics })
    }

    /// The processor time that it has used until now.
    pub(super) fn processor(&self) -> Result<Duration> {
        procfs::processor_time(&self.process)
    }

    /// Its metrics.
    pub(super) async fn metrics(&self) -> Result<Metrics> {
        let (_, text) = self.get("/metrics").await?;
        Ok(Metrics::parse(&text))
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn stop(mut self) -> Result<()> {
        let process = self.process.clone();
        tokio::task::spawn_blocking(move || process.stop(Duration::from_secs(30))).await??;
        self.child.wait().await?;
        Ok(())
    }

    /// Ends it at once.
    pub(super) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    fn check(&self, deadline: Instant, what: &str) -> Result<()> {
        if !self.process.is_running() {
            bail!("the operator ended");
        }
        if Instant::now() > deadline {
            bail!("the operator {what}");
        }
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<(u16, String)> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    }
}
