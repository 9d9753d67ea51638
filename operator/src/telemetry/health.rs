//! Whether the process lives and whether it is ready, as the probes ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Metrics;

/// What this replica does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It has not yet asked for the lease.
    #[default]
    Starting,
    /// Another replica leads; this one waits.
    Standby,
    /// It leads, or needs no lease.
    Leader,
    /// It lost the lease or is stopping, and writes nothing more.
    Stopping,
}

/// When a process counts as wedged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthLimits {
    /// The age of a reconcile, well above its time limit.
    pub longest_reconcile: Duration,
    /// The time without [`Health::beat`], well above the interval at which the loop beats.
    pub longest_silence: Duration,
}

/// The state that `/healthz` and `/readyz` show. Shared by the server and the code that knows it.
#[derive(Debug)]
pub struct Health {
    metrics: Arc<Metrics>,
    limits: HealthLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    role: Role,
    caches: BTreeMap<&'static str, bool>,
    broken: BTreeSet<String>,
    last_beat: Option<Instant>,
}

impl Health {
    /// A process that starts: alive, not ready. The running reconciles are those that `metrics` counts.
    pub fn new(metrics: Arc<Metrics>, limits: HealthLimits) -> Self {
        Self { metrics, limits, state: Mutex::default() }
    }

    /// The loop that hands out reconciles was polled. Once it has beaten, it has to go on.
    pub fn beat(&self) {
        self.state().last_beat = Some(Instant::now());
    }

    /// What this replica does from now on.
    pub fn set_role(&self, role: Role) {
        self.state().role = role;
    }

    /// A cache that has to be filled before the replica is ready.
    pub fn expect_cache(&self, kind: &'static str) {
        self.state().caches.entry(kind).or_insert(false);
    }

    /// A cache is filled.
    pub fn cache_synced(&self, kind: &'static str) {
        self.state().caches.insert(kind, true);
    }

    /// A watch could not be started again: its cache may be stale until it has listed.
    pub fn watch_broken(&self, what: &str) {
        self.state().broken.insert(what.to_owned());
    }

    /// A watch has listed.
    pub fn watch_works(&self, what: &str) {
        self.state().broken.remove(what);
    }

    /// Whether the cache that this watch fills may be stale.
    pub fn is_broken(&self, what: &str) -> bool {
        self.state().broken.contains(what)
    }

    /// Why a restart is needed; empty when it is not.
    pub fn failures(&self, now: Instant) -> Vec<String> {
        let HealthLimits { longest_reconcile, longest_silence } = self.limits;
        let mut failures = Vec::new();
        if let Some(age) = self.metrics.longest_running(now).filter(|age| *age > longest_reconcile) {
            failures.push(format!("a reconcile has been running for {} s", age.as_secs()));
        }
        let silence = self.state().last_beat.map(|beat| now.saturating_duration_since(beat));
        if let Some(silence) = silence.filter(|silence| *silence > longest_silence) {
            failures.push(format!("the reconcile loop has been silent for {} s", silence.as_secs()));
        }
        failures
    }

    /// Why the replica is not ready; empty when it is.
    pub fn unready(&self) -> Vec<String> {
        let state = self.state();
        let role = match state.role {
            Role::Starting => Some("starting: neither leader nor standby"),
            Role::Stopping => Some("stopping"),
            Role::Standby | Role::Leader => None,
        };
        let waiting = state.caches.iter().filter(|(_, synced)| !**synced);
        let caches = waiting.map(|(kind, _)| format!("the cache of {kind} is not synced"));
        let broken =
            state.broken.iter().map(|what| format!("the watch of {what} is broken, and what is known may be old"));
        role.map(str::to_owned).into_iter().chain(caches).chain(broken).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const LIMITS: HealthLimits =
        HealthLimits { longest_reconcile: Duration::from_mins(2), longest_silence: Duration::from_mins(1) };

    fn health() -> (Arc<Metrics>, Health) {
        let metrics = Arc::new(Metrics::new().unwrap());
        (Arc::clone(&metrics), Health::new(metrics, LIMITS))
    }

    fn in_seconds(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[rstest]
    #[case::starting(Role::Starting, false)]
    #[case::standby(Role::Standby, true)]
    #[case::leader(Role::Leader, true)]
    #[case::stopping(Role::Stopping, false)]
    fn a_role_is_ready_or_not(#[case] role: Role, #[case] ready: bool) {
        let (_, health) = health();
        health.set_role(role);
        assert_eq!(health.unready().is_empty(), ready, "{:?}", health.unready());
    }

    #[test]
    fn every_cache_has_to_be_synced() {
        let (_, health) = health();
        health.set_role(Role::Leader);
        health.expect_cache("Service");
        health.expect_cache("Deployment");
        health.cache_synced("Service");
        health.expect_cache("Service");
        assert_eq!(health.unready(), ["the cache of Deployment is not synced"]);
        health.cache_synced("Deployment");
        assert!(health.unready().is_empty());
    }

    #[test]
    fn a_watch_that_is_broken_leaves_the_replica_unready_but_needs_no_restart() {
        let (_, health) = health();
        health.set_role(Role::Leader);
        health.watch_broken("Service");
        health.watch_broken("Service");
        assert_eq!(health.unready(), ["the watch of Service is broken, and what is known may be old"]);
        assert!(health.is_broken("Service") && !health.is_broken("Secret"));
        assert!(health.failures(Instant::now()).is_empty());
        health.watch_works("Service");
        assert!(health.unready().is_empty());
    }

    #[test]
    fn a_reconcile_without_end_is_a_failure() {
        let (metrics, health) = health();
        let reconcile = metrics.controller("rorunstack").reconcile_started();
        assert!(health.failures(in_seconds(119)).is_empty());
        assert_eq!(health.failures(in_seconds(130)), ["a reconcile has been running for 130 s"]);
        drop(reconcile);
        assert!(health.failures(in_seconds(130)).is_empty());
    }

    #[test]
    fn a_silent_loop_is_a_failure_once_it_has_beaten() {
        let (_, health) = health();
        assert!(health.failures(in_seconds(1000)).is_empty());
        health.beat();
        assert!(health.failures(in_seconds(59)).is_empty());
        assert_eq!(health.failures(in_seconds(90)).len(), 1);
        health.beat();
        assert!(health.failures(in_seconds(59)).is_empty());
    }
}
