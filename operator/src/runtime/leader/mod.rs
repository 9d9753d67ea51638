//! Leader election over a `coordination.k8s.io/v1` Lease, with the rules of client-go.
//!
//! What enters: a client of its own, without retries and with short time-outs, so that a slow answer to another request cannot
//! cost the lease. What leaves: a [`Leadership`], whose [`Fence`] is asked before each write. Forbidden here: to compare the
//! `renewTime` of another process with the clock of this one, and to write without the resource version that was read.

mod record;
mod store;
mod term;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use rand::{
    RngExt as _,
    distr::{Alphanumeric, SampleString as _},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use record::{Observation, Verdict};
use store::{KubeLeases, LeaseStore, StoreError, timely};
pub use term::{Fence, Leadership};

/// The renewals may be as late as this factor of their period, so the deadline must leave room for one.
const JITTER: f64 = 1.2;

/// Which lease, for whom, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderConfig {
    /// The namespace of the lease.
    pub namespace: String,
    /// The name of the lease.
    pub name: String,
    /// Who this process is. Two living processes must never share it; a container that starts again in the same pod may, and
    /// then takes its own lease back at once. The name of the pod is right; outside a pod [`identity`] is.
    pub identity: String,
    /// How long the others wait after the last renewal that they saw. Whole seconds.
    pub lease_duration: Duration,
    /// How long the leader goes on without a renewal. What is left of the lease after it is the time for writes under way.
    pub renew_deadline: Duration,
    /// The time between renewals, and the longest time between attempts to take the lease.
    pub retry_period: Duration,
}

impl LeaderConfig {
    /// The durations of client-go: 15 s, 10 s and 2 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    fn validate(&self) -> Result<(), LeaderError> {
        let wrong = if [&self.namespace, &self.name, &self.identity].iter().any(|text| text.is_empty()) {
            "namespace, name and identity must not be empty"
        } else if self.lease_duration.as_secs() == 0 || self.lease_duration.subsec_nanos() != 0 {
            "the lease duration must be whole seconds"
        } else if self.lease_duration.as_secs() > i32::MAX.unsigned_abs().into() {
            "the lease duration is too long"
        } else if self.lease_duration <= self.renew_deadline {
            "the lease duration must be longer than the renew deadline"
        } else if self.retry_period.is_zero() || self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            "the renew deadline must be longer than 1.2 retry periods"
        } else {
            return Ok(());
        };
        Err(LeaderError::Config(wrong))
    }

    /// Two requests fit into the deadline, so that one that hangs does not cost the lease.
    fn request_limit(&self) -> Duration {
        self.renew_deadline / 2
    }
}

/// How many random characters an identity has: about 131 bits.
const RANDOM: usize = 22;

/// An identity for a process without a name. The name of the host is for people. The random characters keep two processes of one
/// host, or of hosts with one name, from taking each other's lease for their own.
pub fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("rorun-operator");
    format!("{host}_{}", Alphanumeric.sample_string(&mut rand::rng(), RANDOM))
}

/// Why this process does not lead.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The configuration cannot work.
    #[error("failed to set up leader election: {0}")]
    Config(&'static str),
    /// The process was stopped before it held the lease.
    #[error("stopped before the lease was taken")]
    Shutdown,
}

/// A candidate for the lease.
#[derive(Clone, Debug)]
pub struct Elector {
    store: Arc<dyn LeaseStore>,
    config: Arc<LeaderConfig>,
}

impl Elector {
    /// `client` should be made for the lease alone, with `Config::default_retry` off.
    pub fn new(client: Client, config: LeaderConfig) -> Result<Self, LeaderError> {
        let store = Arc::new(KubeLeases::new(client, &config));
        Self::with_store(store, config)
    }

    fn with_store(store: Arc<dyn LeaseStore>, config: LeaderConfig) -> Result<Self, LeaderError> {
        config.validate()?;
        Ok(Self { store, config: Arc::new(config) })
    }

    /// Waits until this process holds the lease. A failure of the API server is logged and tried again, without end.
    pub async fn acquire(&self, shutdown: &CancellationToken) -> Result<Leadership, LeaderError> {
        let mut observation = Observation::default();
        let mut last_holder = None;
        loop {
            let attempt = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(LeaderError::Shutdown),
                attempt = self.attempt(&mut observation) => attempt,
            };
            match attempt {
                Ok(Attempt::Acquired { lease, sent }) => {
                    tracing::info!(lease = self.config.name, identity = self.config.identity, "leading");
                    return Ok(Leadership::begin(self.clone(), *lease, sent));
                }
                Ok(Attempt::Held { by }) => {
                    if last_holder.as_ref() != Some(&by) {
                        tracing::info!(lease = self.config.name, holder = by, "standing by");
                        last_holder = Some(by);
                    }
                }
                Err(StoreError::Conflict) => tracing::debug!(lease = self.config.name, "another candidate was faster"),
                Err(error) => tracing::warn!(lease = self.config.name, %error, "failed to take the lease"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return Err(LeaderError::Shutdown),
                () = sleep(self.pause(&observation)) => {}
            }
        }
    }

    /// The jitter shortens the pause: a lease that was released is asked for within one retry period, with time left in it to
    /// take it and to begin. One that is not renewed is taken when it ends.
    fn pause(&self, observation: &Observation) -> Duration {
        let pause = self.config.retry_period.mul_f64(rand::rng().random_range(0.4..0.9));
        observation.left(Instant::now()).map_or(pause, |left| pause.min(left))
    }

    async fn attempt(&self, observation: &mut Observation) -> Result<Attempt, StoreError> {
        let limit = self.config.request_limit();
        let found = timely(limit, self.store.get()).await?;
        observation.update(found, Instant::now());
        // Taken before the request: the others count from the moment when they see its effect, which is later.
        let sent = Instant::now();
        let lease = match observation.verdict(&self.config.identity, sent) {
            Verdict::Held { by } => return Ok(Attempt::Held { by: by.to_owned() }),
            Verdict::Absent => timely(limit, self.store.create(record::first(&self.config))).await?,
            Verdict::Free(lease) => timely(limit, self.store.replace(record::taken(lease, &self.config))).await?,
            Verdict::Ours(lease) => timely(limit, self.store.replace(record::renewed(lease, &self.config))).await?,
        };
        Ok(Attempt::Acquired { lease: Box::new(lease), sent })
    }
}

enum Attempt {
    Acquired { lease: Box<Lease>, sent: Instant },
    Held { by: String },
}
