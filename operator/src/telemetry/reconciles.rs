//! The reconciles of each controller: how many, how long, which run now. The names are those of controller-runtime, so that stock
//! dashboards work.
//!
//! Depth, additions and waiting time of the queue are those of the reconciles that an event asked for, since kube's scheduler does
//! not show its own: the pause before a retry is not in them, the time in which events are collected is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, core::Collector};

const RESULTS: [&str; 3] = ["success", "requeue_after", "error"];
/// The buckets of controller-runtime.
const SECONDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0];

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Success,
    /// It succeeded, and the resource is reconciled again after a pause.
    RequeueAfter,
    /// It failed and is tried again.
    Error,
    /// It failed and waits for an edit: trying again cannot help.
    TerminalError,
    /// It ran into its time limit.
    TimedOut,
}

/// The families of all controllers, and the reconciles that run now.
#[derive(Debug)]
pub(super) struct Reconciles {
    total: IntCounterVec,
    errors: IntCounterVec,
    terminal_errors: IntCounterVec,
    timeouts: IntCounterVec,
    seconds: HistogramVec,
    active: IntGaugeVec,
    max_concurrent: IntGaugeVec,
    retries: IntCounterVec,
    depth: IntGaugeVec,
    adds: IntCounterVec,
    waited: HistogramVec,
    unfinished: GaugeVec,
    longest: GaugeVec,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    last_id: u64,
    /// When each began, and of which controller it is.
    started: BTreeMap<u64, (Instant, &'static str)>,
    controllers: BTreeSet<&'static str>,
}

impl Reconciles {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let total = Opts::new("controller_runtime_reconcile_total", "Reconciles by result.");
        let seconds = HistogramOpts::new("controller_runtime_reconcile_time_seconds", "Time of a reconcile.");
        let waited = HistogramOpts::new(
            "workqueue_queue_duration_seconds",
            "Time from an event to the reconcile that it asks for.",
        );
        let counter = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let gauge = |name: &str, help: &str, label: &str| IntGaugeVec::new(Opts::new(name, help), &[label]);
        let float = |name: &str, help: &str, label: &str| GaugeVec::new(Opts::new(name, help), &[label]);
        let families = Self {
            total: IntCounterVec::new(total, &["controller", "result"])?,
            errors: counter("controller_runtime_reconcile_errors_total", "Reconciles that failed.", "controller")?,
            terminal_errors: counter(
                "controller_runtime_terminal_reconcile_errors_total",
                "Reconciles that failed and wait for an edit.",
                "controller",
            )?,
            timeouts: counter(
                "controller_runtime_reconcile_timeouts_total",
                "Reconciles that ran out of time.",
                "controller",
            )?,
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["controller"])?,
            active: gauge("controller_runtime_active_workers", "Reconciles that run now.", "controller")?,
            max_concurrent: gauge(
                "controller_runtime_max_concurrent_reconciles",
                "The most reconciles that may run at once.",
                "controller",
            )?,
            retries: counter("workqueue_retries_total", "Reconciles scheduled again after a failure.", "name")?,
            depth: gauge("workqueue_depth", "Reconciles that an event asked for and that have not begun.", "name")?,
            adds: counter("workqueue_adds_total", "Reconciles that events asked for.", "name")?,
            waited: HistogramVec::new(waited.buckets(SECONDS.to_vec()), &["name"])?,
            unfinished: float("workqueue_unfinished_work_seconds", "Age of all running reconciles together.", "name")?,
            longest: float(
                "workqueue_longest_running_processor_seconds",
                "Age of the oldest running reconcile.",
                "name",
            )?,
            running: Mutex::default(),
        };
        families.join(registry)?;
        Ok(families)
    }

    fn join(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let counters = [&self.total, &self.errors, &self.terminal_errors, &self.timeouts, &self.retries, &self.adds];
        for family in counters {
            registry.register(Box::new(family.clone()))?;
        }
        let others: [Box<dyn Collector>; 7] = [
            Box::new(self.seconds.clone()),
            Box::new(self.waited.clone()),
            Box::new(self.depth.clone()),
            Box::new(self.active.clone()),
            Box::new(self.max_concurrent.clone()),
            Box::new(self.unfinished.clone()),
            Box::new(self.longest.clone()),
        ];
        others.into_iter().try_for_each(|family| registry.register(family))
    }

    /// The metrics of a controller.
    pub(super) fn controller(self: &Arc<Self>, name: &'static str) -> ControllerMetrics {
        if self.running().controllers.insert(name) {
            self.start_at_zero(name);
        }
        ControllerMetrics { families: Arc::clone(self), name }
    }

    /// A counter that appears with its first error has no increase that an alert could see.
    fn start_at_zero(&self, name: &str) {
        for result in RESULTS {
            self.total.with_label_values(&[name, result]);
        }
        for family in [&self.errors, &self.terminal_errors, &self.timeouts, &self.retries, &self.adds] {
            family.with_label_values(&[name]);
        }
        self.seconds.with_label_values(&[name]);
        self.waited.with_label_values(&[name]);
        self.active.with_label_values(&[name]);
        self.depth.with_label_values(&[name]);
    }

    /// The age of the oldest reconcile that still runs.
    pub(super) fn longest_running(&self, now: Instant) -> Option<Duration> {
        // The ids rise with time, so that the first one is the oldest.
        self.running().started.values().next().map(|(started, _)| now.saturating_duration_since(*started))
    }

    /// Brings the gauges that move by themselves up to `now`.
    pub(super) fn refresh(&self, now: Instant) {
        let running = self.running();
        for name in &running.controllers {
            let own = running.started.values().filter(|(_, of)| of == name);
            let ages: Vec<_> = own.map(|(started, _)| now.saturating_duration_since(*started)).collect();
            self.unfinished.with_label_values(&[name]).set(ages.iter().sum::<Duration>().as_secs_f64());
            let longest = ages.into_iter().max().unwrap_or_default();
            self.longest.with_label_values(&[name]).set(longest.as_secs_f64());
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The metrics of one controller. Clones share them.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    families: Arc<Reconciles>,
    name: &'static str,
}

impl ControllerMetrics {
    /// An event enqueued a resource.
    pub fn enqueued(&self) {
        self.families.adds.with_label_values(&[self.name]).inc();
        self.families.depth.with_label_values(&[self.name]).inc();
    }

    /// A resource left the queue.
    pub fn dequeued(&self) {
        self.families.depth.with_label_values(&[self.name]).dec();
    }

    /// How long a resource was in the queue.
    pub fn queue_duration(&self, time: Duration) {
        self.families.waited.with_label_values(&[self.name]).observe(time.as_secs_f64());
    }

    /// A reconcile begins; it runs until the guard is dropped.
    pub fn reconcile_started(&self) -> ReconcileGuard {
        let started = Instant::now();
        let mut running = self.families.running();
        running.last_id += 1;
        let id = running.last_id;
        running.started.insert(id, (started, self.name));
        drop(running);
        self.families.active.with_label_values(&[self.name]).inc();
        ReconcileGuard { controller: self.clone(), id, started }
    }

    /// A failed reconcile was scheduled to be tried again.
    pub fn retry_scheduled(&self) {
        self.families.retries.with_label_values(&[self.name]).inc();
    }

    /// How many reconciles may run at once.
    pub fn max_concurrent_reconciles(&self, limit: u16) {
        self.families.max_concurrent.with_label_values(&[self.name]).set(limit.into());
    }
}

/// One reconcile that runs. Dropped without [`ReconcileGuard::finished`], as when the process stops, it only ceases to be active.
#[derive(Debug)]
#[must_use = "a reconcile runs as long as its guard lives"]
pub struct ReconcileGuard {
    controller: ControllerMetrics,
    id: u64,
    started: Instant,
}

impl ReconcileGuard {
    /// Tells the reconciles of this process apart in the logs.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Counts the reconcile and how long it took.
    pub fn finished(self, outcome: Outcome) {
        let ControllerMetrics { families, name } = &self.controller;
        families.seconds.with_label_values(&[name]).observe(self.started.elapsed().as_secs_f64());
        let result = match outcome {
            Outcome::Success => "success",
            Outcome::RequeueAfter => "requeue_after",
            Outcome::Error | Outcome::TerminalError | Outcome::TimedOut => "error",
        };
        families.total.with_label_values(&[name, result]).inc();
        let failed: &[&IntCounterVec] = match outcome {
            Outcome::Success | Outcome::RequeueAfter => &[],
            Outcome::Error => &[&families.errors],
            Outcome::TerminalError => &[&families.errors, &families.terminal_errors],
            Outcome::TimedOut => &[&families.errors, &families.timeouts],
        };
        for family in failed {
            family.with_label_values(&[name]).inc();
        }
    }
}

impl Drop for ReconcileGuard {
    fn drop(&mut self) {
        self.controller.families.running().started.remove(&self.id);
        self.controller.families.active.with_label_values(&[self.controller.name]).dec();
    }
}
