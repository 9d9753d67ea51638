//! Enqueues resources for reasons other than a change of their own, and measures how long each waits in the queue.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{Stream, channel::mpsc};

use super::ResourceKey;
use crate::telemetry::ControllerMetrics;

/// Enqueues resources of one type. Clones share the queue.
#[derive(Clone)]
pub struct Triggers {
    sender: mpsc::UnboundedSender<ResourceKey>,
    /// The resources that are enqueued and whose reconcile has not begun, each since when. `None` until the control loop runs.
    waiting: Arc<Mutex<Option<HashMap<ResourceKey, Instant>>>>,
    metrics: ControllerMetrics,
}

impl Triggers {
    /// The sender, and the stream for the control loop.
    pub fn new(metrics: ControllerMetrics) -> (Self, impl Stream<Item = ResourceKey> + Send + 'static) {
        let (sender, receiver) = mpsc::unbounded();
        (Self { sender, waiting: Arc::default(), metrics }, receiver)
    }

    /// The control loop begins. Before, nothing is enqueued: a standby would collect the events of weeks, and a control loop
    /// reconciles every resource once when it begins.
    pub fn open(&self) {
        self.waiting().get_or_insert_default();
    }

    /// Enqueues a resource. The queue joins several requests for one resource into one reconcile.
    pub fn enqueue(&self, key: &ResourceKey) {
        if self.note(key) {
            // The receiver is gone only when the process ends.
            let _ = self.sender.unbounded_send(key.clone());
        }
    }

    /// Notes since when a resource is enqueued, whichever way it was. Returns whether the control loop runs.
    pub fn note(&self, key: &ResourceKey) -> bool {
        let mut waiting = self.waiting();
        let Some(waiting) = waiting.as_mut() else { return false };
        if !waiting.contains_key(key) {
            waiting.insert(key.clone(), Instant::now());
            self.metrics.enqueued();
        }
        true
    }

    /// A reconcile begins, or never will since the resource is gone. Returns how long it waited in the queue; a retry, which no
    /// event asked for, did not.
    pub fn dequeue(&self, key: &ResourceKey) -> Option<Duration> {
        let since = self.waiting().as_mut()?.remove(key)?;
        self.metrics.dequeued();
        Some(since.elapsed())
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<ResourceKey, Instant>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;
    use crate::telemetry::Metrics;

    fn key(name: &str) -> ResourceKey {
        ResourceKey { namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn nothing_is_enqueued_before_the_control_loop_runs() {
        let (triggers, receiver) = Triggers::new(Metrics::new().expect("metrics").controller("test"));
        let mut receiver = Box::pin(receiver);
        triggers.enqueue(&key("a"));
        assert!(receiver.next().now_or_never().is_none());
        triggers.open();
        triggers.enqueue(&key("b"));
        assert_eq!(receiver.next().now_or_never().flatten(), Some(key("b")));
        assert!(triggers.dequeue(&key("a")).is_none());
    }

    #[test]
    fn the_time_in_the_queue_begins_with_the_first_request() {
        let metrics = Metrics::new().expect("metrics");
        let (triggers, _receiver) = Triggers::new(metrics.controller("test"));
        triggers.open();
        triggers.enqueue(&key("a"));
        triggers.enqueue(&key("a"));
        triggers.note(&key("b"));
        let shown = |line: &str| metrics.render().expect("metrics").lines().any(|found| found == line);
        assert!(shown("workqueue_depth{name=\"test\"} 2"));
        assert!(shown("workqueue_adds_total{name=\"test\"} 2"));
        assert!(triggers.dequeue(&key("a")).is_some());
        assert!(triggers.dequeue(&key("a")).is_none());
        assert!(shown("workqueue_depth{name=\"test\"} 1"));
    }
}
