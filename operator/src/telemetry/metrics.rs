//! The metrics of the process: one registry, small typed methods, no label that a user could make endless.
//!
//! Left out is what cannot be measured truthfully: panics, which end the process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::{
    IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, process_collector::ProcessCollector,
};

use super::{
    reconciles::{ControllerMetrics, Reconciles},
    requests::{RequestMetricsLayer, Requests},
    stacks::{Measured, StackSample, Stacks},
};

/// Why the metrics are not available.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Two families of one name, or a name that Prometheus does not allow.
    #[error("failed to register the metrics")]
    Register(#[source] prometheus::Error),
    /// A family has no text form.
    #[error("failed to write the metrics")]
    Encode(#[source] prometheus::Error),
}

/// How an object was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVerb {
    /// A server-side apply.
    Apply,
    /// A creation that must not meet an existing object.
    Create,
    /// A patch of a part, such as a finalizer.
    Patch,
    /// A server-side apply of the status.
    Status,
    /// A deletion.
    Delete,
}

impl WriteVerb {
    fn label(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Status => "status",
            Self::Delete => "delete",
        }
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Arc<Reconciles>,
    requests: Requests,
    stacks: Stacks,
    writes: IntCounterVec,
    step_errors: IntCounterVec,
    stale_skips: IntCounter,
    leader: IntGaugeVec,
}

impl Metrics {
    /// Makes the registry and registers every family in it.
    pub fn new() -> Result<Self, MetricsError> {
        Self::register(Registry::new()).map_err(MetricsError::Register)
    }

    fn register(registry: Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let gauge = |name: &str, help: &str, label: &str| {
            let family = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let stale = IntCounter::new(
            "stale_sync_skips_total",
            "Reconciles put off because the cache was behind the own writes.",
        )?;
        registry.register(Box::new(stale.clone()))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build = gauge("rorun_build_info", "1, with the version of the operator.", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            reconciles: Arc::new(Reconciles::register(&registry)?),
            requests: Requests::register(&registry)?,
            stacks: Stacks::default(),
            writes: counter("rorun_applied_total", "Writes to the API server by kind.", &["kind", "verb"])?,
            step_errors: counter("rorun_reconcile_errors_total", "Failures by step and error.", &["step", "error"])?,
            stale_skips: stale,
            leader: gauge("leader_election_master_status", "1 while this process holds the lease.", "name")?,
            registry,
        })
    }

    /// The metrics of a controller, which appear from now on. Its name is the kind in lower case.
    pub fn controller(&self, name: &'static str) -> ControllerMetrics {
        self.reconciles.controller(name)
    }

    /// The age of the oldest reconcile that still runs.
    pub fn longest_running(&self, now: Instant) -> Option<Duration> {
        self.reconciles.longest_running(now)
    }

    /// A step failed. `error` is the variant of its error and never the text, which has no bound.
    pub fn step_failed(&self, step: &'static str, error: &'static str) {
        self.step_errors.with_label_values(&[step, error]).inc();
    }

    /// An object was written.
    pub fn written(&self, kind: &'static str, verb: WriteVerb) {
        self.writes.with_label_values(&[kind, verb.label()]).inc();
    }

    /// A reconcile was put off, because the cache did not show the writes of the last one yet.
    pub fn stale_sync_skipped(&self) {
        self.stale_skips.inc();
    }

    /// Whether this process holds the lease.
    pub fn leader(&self, lease: &str, holds: bool) {
        self.leader.with_label_values(&[lease]).set(i64::from(holds));
    }

    /// Shows a stack, in place of its former sample.
    pub fn stack(&self, sample: StackSample) {
        self.stacks.insert(sample);
    }

    /// Shows how long the last answer of a service of a stack took, and how many seconds its clock is ahead, if it says so.
    pub fn service_answered(
        &self,
        stack: (&str, &str),
        service: &'static str,
        (latency, clock_ahead): (Duration, Option<i64>),
    ) {
        self.stacks.answered(stack, service, Measured { latency: latency.as_secs_f32(), clock_ahead });
    }

    /// Removes the sample of a stack that is gone.
    pub fn forget_stack(&self, namespace: &str, name: &str) {
        self.stacks.remove(namespace, name);
    }

    /// A layer that counts the requests of a client to the API server at `host`.
    pub fn request_layer(&self, host: &str) -> RequestMetricsLayer {
        RequestMetricsLayer::new(self.requests.clone(), host)
    }

    /// The text form of Prometheus.
    #[expect(clippy::disallowed_methods, reason = "a counter of seconds goes on while it is read")]
    pub fn render(&self) -> Result<String, MetricsError> {
        self.reconciles.refresh(Instant::now());
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(MetricsError::Encode)?;
        self.stacks.write(&mut text, jiff::Timestamp::now().as_second());
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::telemetry::{ConditionStatus, Outcome};

    #[track_caller]
    fn assert_line(metrics: &Metrics, line: &str) {
        let text = metrics.render().unwrap();
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }

    fn sample(name: &str) -> StackSample {
        StackSample {
            namespace: "team-a".to_owned(),
            name: name.to_owned(),
            environment: "Production".to_owned(),
            conditions: vec![("Ready".to_owned(), ConditionStatus::True), ("RedisReady".to_owned(), "False".into())],
            backup_last_success: Some(1_700_000_000),
            backup_size_bytes: Some(4096),
            hibernated_seconds: 0,
            hibernated_since: None,
            connections: Some((99, Some(98))),
        }
    }

    #[rstest]
    #[case(Outcome::Success, "success", [0, 0, 0])]
    #[case(Outcome::RequeueAfter, "requeue_after", [0, 0, 0])]
    #[case(Outcome::Error, "error", [1, 0, 0])]
    #[case(Outcome::TerminalError, "error", [1, 1, 0])]
    #[case(Outcome::TimedOut, "error", [1, 0, 1])]
    fn an_outcome_counts(#[case] outcome: Outcome, #[case] result: &str, #[case] failures: [u32; 3]) {
        let [errors, terminal, timeouts] = failures;
        let metrics = Metrics::new().unwrap();
        let guard = metrics.controller("rorunstack").reconcile_started();
        assert_line(&metrics, "controller_runtime_active_workers{controller=\"rorunstack\"} 1");
        guard.finished(outcome);
        assert_line(&metrics, "controller_runtime_active_workers{controller=\"rorunstack\"} 0");
        assert_line(
            &metrics,
            &format!("controller_runtime_reconcile_total{{controller=\"rorunstack\",result=\"{result}\"}} 1"),
        );
        assert_line(&metrics, "controller_runtime_reconcile_time_seconds_count{controller=\"rorunstack\"} 1");
        let label = "{controller=\"rorunstack\"}";
        assert_line(&metrics, &format!("controller_runtime_reconcile_errors_total{label} {errors}"));
        assert_line(&metrics, &format!("controller_runtime_terminal_reconcile_errors_total{label} {terminal}"));
        assert_line(&metrics, &format!("controller_runtime_reconcile_timeouts_total{label} {timeouts}"));
    }

    #[test]
    fn a_reconcile_that_was_given_up_is_not_counted_and_not_active() {
        let metrics = Metrics::new().unwrap();
        let controller = metrics.controller("rorunstack");
        let (first, second) = (controller.reconcile_started(), controller.reconcile_started());
        assert_ne!(first.id(), second.id());
        assert!(metrics.longest_running(Instant::now() + Duration::from_mins(1)).unwrap() >= Duration::from_mins(1));
        drop(first);
        drop(second);
        assert_eq!(metrics.longest_running(Instant::now()), None);
        assert_line(&metrics, "controller_runtime_reconcile_time_seconds_count{controller=\"rorunstack\"} 0");
        assert_line(&metrics, "workqueue_longest_running_processor_seconds{name=\"rorunstack\"} 0");
    }

    #[test]
    fn each_controller_has_series_of_its_own() {
        let metrics = Metrics::new().unwrap();
        let (stacks, others) = (metrics.controller("rorunstack"), metrics.controller("other"));
        let running = stacks.reconcile_started();
        others.reconcile_started().finished(Outcome::Error);
        others.enqueued();
        for line in [
            "controller_runtime_active_workers{controller=\"rorunstack\"} 1",
            "controller_runtime_active_workers{controller=\"other\"} 0",
            "controller_runtime_reconcile_errors_total{controller=\"rorunstack\"} 0",
            "controller_runtime_reconcile_errors_total{controller=\"other\"} 1",
            "workqueue_depth{name=\"rorunstack\"} 0",
            "workqueue_depth{name=\"other\"} 1",
            "workqueue_longest_running_processor_seconds{name=\"other\"} 0",
        ] {
            assert_line(&metrics, line);
        }
        let text = metrics.render().unwrap();
        let longest = "workqueue_longest_running_processor_seconds{name=\"rorunstack\"} ";
        let longest = text.lines().find_map(|line| line.strip_prefix(longest)).unwrap();
        assert!(longest.parse::<f64>().unwrap() > 0.0, "{longest}");
        drop(running);
    }

    #[test]
    fn a_stack_shows_each_condition_three_times() {
        let metrics = Metrics::new().unwrap();
        metrics.stack(sample("shop"));
        let condition = |kind: &str, status: &str, value: u8| {
            format!(
                "rorun_stack_condition{{name=\"shop\",namespace=\"team-a\",status=\"{status}\",type=\"{kind}\"}} {value}"
            )
        };
        for (kind, status, value) in [
            ("Ready", "True", 1),
            ("Ready", "False", 0),
            ("Ready", "Unknown", 0),
            ("RedisReady", "True", 0),
            ("RedisReady", "False", 1),
        ] {
            assert_line(&metrics, &condition(kind, status, value));
        }
        assert_line(&metrics, "rorun_stack_info{name=\"shop\",namespace=\"team-a\",environment=\"Production\"} 1");
        assert_line(
            &metrics,
            "rorun_stack_backup_last_success_timestamp_seconds{name=\"shop\",namespace=\"team-a\"} 1700000000",
        );
        assert_line(&metrics, "rorun_stack_backup_size_bytes{name=\"shop\",namespace=\"team-a\"} 4096");
        assert_line(&metrics, "rorun_stack_database_connections_needed{name=\"shop\",namespace=\"team-a\"} 99");
        assert_line(&metrics, "rorun_stack_database_connections_available{name=\"shop\",namespace=\"team-a\"} 98");
        metrics.stack(StackSample { connections: Some((99, None)), ..sample("shop") });
        assert!(!metrics.render().unwrap().contains("connections_available{"), "nobody knows");
    }

    #[test]
    fn a_stack_shows_how_long_no_pod_of_it_ran() {
        let stacks = Stacks::default();
        let shown = |sample: StackSample, now: i64| {
            stacks.insert(sample);
            let mut text = String::new();
            stacks.write(&mut text, now);
            let series = "rorun_stack_hibernated_seconds_total{name=\"shop\",namespace=\"team-a\"} ";
            text.lines().find_map(|line| line.strip_prefix(series)).unwrap().parse::<i64>().unwrap()
        };
        // It is there from the start, so that the first time counts as well.
        assert_eq!(shown(sample("shop"), 1000), 0);
        let asleep = StackSample { hibernated_since: Some(1000), ..sample("shop") };
        assert_eq!([1000, 1060, 999].map(|now| shown(asleep.clone(), now)), [0, 60, 0]);
        let awake = StackSample { hibernated_seconds: 90, ..sample("shop") };
        assert_eq!([1090, 5000].map(|now| shown(awake.clone(), now)), [90, 90]);
        let again = StackSample { hibernated_since: Some(6000), ..awake };
        assert_eq!(shown(again, 6010), 100);
    }

    #[test]
    fn a_service_shows_how_long_its_last_answer_took() {
        let metrics = Metrics::new().unwrap();
        let of = |millis: u64| {
            metrics.service_answered(("team-a", "shop"), "redis", (Duration::from_millis(millis), None));
        };
        of(500);
        assert!(!metrics.render().unwrap().contains("service_latency_seconds{"), "of a stack that is not known");
        metrics.stack(sample("shop"));
        of(250);
        assert_line(
            &metrics,
            "rorun_stack_service_latency_seconds{name=\"shop\",namespace=\"team-a\",service=\"redis\"} 0.25",
        );
        assert!(!metrics.render().unwrap().contains("clock_ahead_seconds{"), "nobody knows");
        metrics.service_answered(("team-a", "shop"), "database", (Duration::ZERO, Some(-31)));
        assert_line(
            &metrics,
            "rorun_stack_service_clock_ahead_seconds{name=\"shop\",namespace=\"team-a\",service=\"database\"} -31",
        );
        metrics.forget_stack("team-a", "shop");
        metrics.stack(sample("shop"));
        let text = metrics.render().unwrap();
        assert!(
            !text.contains("service_latency_seconds{") && !text.contains("ahead_seconds{"),
            "of one that was deleted"
        );
    }

    #[test]
    fn what_is_gone_leaves_the_output() {
        let metrics = Metrics::new().unwrap();
        metrics.stack(sample("shop"));
        metrics.stack(sample("bakery"));
        metrics.stack(StackSample { conditions: Vec::new(), backup_size_bytes: None, ..sample("shop") });
        let text = metrics.render().unwrap();
        assert!(!text.contains("rorun_stack_condition{name=\"shop\""), "{text}");
        assert!(!text.contains("rorun_stack_backup_size_bytes{name=\"shop\""), "{text}");
        metrics.forget_stack("team-a", "shop");
        let text = metrics.render().unwrap();
        assert!(!text.contains("\"shop\""), "{text}");
        assert!(text.contains("rorun_stack_info{name=\"bakery\""), "{text}");
    }

    #[test]
    fn writes_failures_and_the_lease_are_counted() {
        let metrics = Metrics::new().unwrap();
        metrics.written("Deployment", WriteVerb::Apply);
        metrics.written("Deployment", WriteVerb::Apply);
        metrics.step_failed("apply", "Conflict");
        metrics.stale_sync_skipped();
        let controller = metrics.controller("rorunstack");
        controller.retry_scheduled();
        controller.max_concurrent_reconciles(8);
        metrics.leader("rorun-operator", true);
        for line in [
            "rorun_applied_total{kind=\"Deployment\",verb=\"apply\"} 2",
            "rorun_reconcile_errors_total{error=\"Conflict\",step=\"apply\"} 1",
            "stale_sync_skips_total 1",
            "workqueue_retries_total{name=\"rorunstack\"} 1",
            "controller_runtime_max_concurrent_reconciles{controller=\"rorunstack\"} 8",
            "leader_election_master_status{name=\"rorun-operator\"} 1",
            concat!("rorun_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert_line(&metrics, line);
        }
        metrics.leader("rorun-operator", false);
        assert_line(&metrics, "leader_election_master_status{name=\"rorun-operator\"} 0");
        assert!(metrics.render().unwrap().contains("process_resident_memory_bytes "));
    }
}
