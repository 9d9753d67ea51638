//! `rorun-operator run`: flags, clients and signals.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::{ArgAction, Args};
use kube::client::ClientBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{CliError, client, lease::LeaseTimings, optional};
use crate::{
    controller::{self, Settings},
    objects::OptionalApi,
    runtime::{Clients, RetryAfterLayer, leader, optional::OptionalSettings},
    services::Network,
    telemetry::{Health, HealthLimits, Metrics, http::Server, logs},
};

/// The user agent of all requests, as audit logs show it.
const USER_AGENT: &str = concat!("rorun-operator/", env!("CARGO_PKG_VERSION"));

/// The name of the API server within every cluster.
const API_SERVER: &str = "kubernetes.default.svc";

/// A watch without an event for so long is opened again. The API server sends a bookmark every minute to each watch, so one that
/// works is not that silent; without this limit the watches of kube wait for five minutes.
const LONGEST_SILENCE: Duration = Duration::from_secs(75);

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A namespace to watch; may be repeated, or a list with commas. Defaults to all namespaces
    #[arg(long = "watch-namespace", env = "WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    watch_namespaces: Vec<String>,
    /// The namespace of this pod, where the Lease is
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NAMESPACE")]
    namespace: String,
    /// The name of this pod, as the holder of the Lease. Defaults to the name of the host and random characters, so that no two
    /// processes have one name
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod_name: Option<String>,
    /// The image of the operator itself, for the agent in backup pods
    #[arg(long, env = "AGENT_IMAGE", default_value = super::AGENT_IMAGE, value_name = "IMAGE")]
    agent_image: String,
    /// Where /healthz, /readyz and /metrics are served; [::] is every address of IPv6 and IPv4, and of IPv4 alone where the
    /// kernel has no IPv6
    #[arg(long, default_value = "[::]:8080", value_name = "ADDRESS")]
    http_address: SocketAddr,
    /// A level (error, warn, info, debug, trace), or directives such as info,kube=debug
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: String,
    /// The format of log lines
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = logs::LogFormat::Json, value_name = "FORMAT")]
    log_format: logs::LogFormat,
    /// Whether replicas agree on a leader by a Lease
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    leader_elect: bool,
    /// The name of the Lease
    #[arg(long, default_value = "rorun-operator", value_name = "NAME")]
    lease_name: String,
    #[command(flatten)]
    lease_timings: LeaseTimings,
    /// Whether an admission policy, as the chart brings it, makes sure of who sets rorun.app/approved-by. Without one the status says
    /// that nobody made sure of the name
    #[arg(long, env = "APPROVALS_VERIFIED", default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    approvals_verified: bool,
    /// How many stacks are reconciled at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "COUNT")]
    concurrency: u16,
    /// How often a settled stack is reconciled without an event, in case one was lost: from 1s to 24h
    #[arg(long, default_value = "1h", value_parser = period, value_name = "DURATION")]
    resync_period: Duration,
    /// An API of another project that is watched and written where the cluster serves it; may be repeated, or a list with commas:
    /// prometheusOperator, cloudNativePG, barmanCloud, ackRDS, ackElastiCache, ackS3. It takes rights of its own, see `rorun-operator rbac`. Defaults to none
    #[arg(long = "optional-api", env = "OPTIONAL_APIS", value_delimiter = ',', value_parser = optional::api, value_name = "NAME")]
    optional_apis: Vec<&'static OptionalApi>,
    /// How often the API server is asked for an optional API that a stack waits for: from 1s to 24h. Where no stack waits, it is not
    /// asked
    #[arg(long, default_value = "1m", value_parser = period, value_name = "DURATION")]
    discovery_period: Duration,
    /// Whether services at loopback addresses are asked whether they answer: for an operator that runs beside them, outside of
    /// a cluster. In a cluster these are the operator's own pod and node, which a stack must not reach
    #[arg(long, env = "PROBE_ALLOW_LOOPBACK", default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    probe_allow_loopback: bool,
}

/// A shorter period would be a busy loop, and a longer one no safety net.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    let between = Duration::from_secs(1)..=Duration::from_hours(24);
    let period = Duration::try_from(parsed).ok().filter(|period| between.contains(period));
    period.ok_or_else(|| "from 1s to 24h".to_owned())
}

/// Runs until a signal.
pub(super) async fn run(args: RunArgs) -> Result<(), CliError> {
    logs::init(&args.log_level, args.log_format)?;
    let shutdown = stop_on_signal()?;
    let metrics = Arc::new(Metrics::new()?);
    let limits = HealthLimits { longest_reconcile: Duration::from_mins(2), longest_silence: Duration::from_mins(1) };
    let health = Arc::new(Health::new(metrics.clone(), limits));
    let identity = args.pod_name.filter(|name| !name.is_empty()).unwrap_or_else(leader::identity);
    let lease = args.leader_elect.then(|| args.lease_timings.config(args.namespace, args.lease_name, identity.clone()));
    let lease = lease.transpose()?;
    let server = Server::bind(args.http_address, "--http-address")?;
    let (clients, api_server) = clients(&metrics, args.lease_timings.request_timeout(), &shutdown).await?;
    let settings = Settings {
        namespaces: args.watch_namespaces.into_iter().filter(|namespace| !namespace.is_empty()).collect(),
        lease,
        concurrency: args.concurrency,
        resync: args.resync_period,
        agent_image: args.agent_image,
        approvals_verified: args.approvals_verified,
        network: Network::guarded(vec![api_server, API_SERVER.to_owned()], args.probe_allow_loopback),
        instance: Some(identity),
        optional: OptionalSettings { switched_on: args.optional_apis, period: args.discovery_period },
    };
    info!(version = env!("CARGO_PKG_VERSION"), namespaces = ?settings.namespaces, address = %server.address(), "started");
    // The endpoints answer until the end, so that a replica that drains is not ready.
    let last = CancellationToken::new();
    let serving = tokio::spawn(server.serve(health.clone(), metrics.clone(), last.clone()));
    let ended = controller::run(clients, settings, (metrics, health), shutdown).await;
    last.cancel();
    // It has no result; a panic ends the process.
    let _ = serving.await;
    info!("stopped");
    Ok(ended?)
}

/// The clients, and the host of the API server. The control loop retries, not the client, whose retries would block a reconcile for
/// minutes. Requests for the lease must be quick.
async fn clients(
    metrics: &Metrics,
    lease_timeout: Duration,
    shutdown: &CancellationToken,
) -> Result<(Clients, String), CliError> {
    let mut config = client::config().await?;
    config.default_retry = false;
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    let mut lease = config.clone();
    lease.connect_timeout = Some(lease_timeout);
    lease.read_timeout = Some(lease_timeout);
    lease.write_timeout = Some(lease_timeout);
    config.read_timeout = Some(LONGEST_SILENCE);
    config.reset_reader_on_write = true;
    let retry_after = RetryAfterLayer::new(shutdown.clone());
    let work =
        ClientBuilder::try_from(config)?.with_layer(&retry_after).with_layer(&metrics.request_layer(&host)).build();
    let lease = ClientBuilder::try_from(lease)?.with_layer(&metrics.request_layer(&host)).build();
    Ok((Clients { work, lease, retry_after }, host))
}

fn stop_on_signal() -> Result<CancellationToken, CliError> {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping: finishing what is under way");
        stop.cancel();
    });
    Ok(shutdown)
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, CliError> {
    signal(kind).map_err(CliError::Signal)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn probes_are_answered_on_both_families_unless_an_address_is_given() {
        let cli = crate::cli::Cli::try_parse_from(["rorun-operator", "run"]).unwrap();
        let crate::cli::Command::Run(args) = cli.command else { panic!("another command") };
        assert_eq!(args.http_address, "[::]:8080".parse().unwrap());
    }

    #[test]
    fn a_period_is_a_duration_with_its_unit() {
        for (text, seconds) in [("1s", 1), ("90m", 5400), ("1h30m", 5400), ("24h", 86400)] {
            assert_eq!(period(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "999ms", "-1h", "25h", "3600", "often", "99999999999999999h"] {
            assert!(period(text).is_err(), "{text}");
        }
    }
}
