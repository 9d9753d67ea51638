//! Looks at a stack that something else asks for than a change of its own, and since when each look has been waited for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{Stream, channel::mpsc};
use kube::runtime::reflector::ObjectRef;

use super::{Seen, StackKey};
use crate::telemetry::Metrics;

/// Sends stacks to be looked at again.
#[derive(Clone)]
pub struct Triggers {
    sender: mpsc::UnboundedSender<ObjectRef<Seen>>,
    /// The looks that were asked for and have not begun, by stack, each since when. `None` until somebody looks.
    asked: Arc<Mutex<Option<HashMap<StackKey, Instant>>>>,
    metrics: Arc<Metrics>,
}

impl Triggers {
    /// The sender, and the stream for the controller.
    pub fn new(metrics: Arc<Metrics>) -> (Self, impl Stream<Item = ObjectRef<Seen>> + Send + 'static) {
        let (sender, receiver) = mpsc::unbounded();
        (Self { sender, asked: Arc::default(), metrics }, receiver)
    }

    /// From now on somebody looks. Before, nothing is sent: a standby would collect the events of weeks, and whoever begins
    /// looks at every stack once.
    pub fn open(&self) {
        self.asked().get_or_insert_default();
    }

    /// Looks at a stack again. Several in a row are one to the controller's queue.
    pub fn send(&self, stack: &StackKey) {
        if self.ask(stack) {
            // The receiver is gone only when the process ends.
            let _ = self.sender.unbounded_send(ObjectRef::new(&stack.name).within(&stack.namespace));
        }
    }

    /// Notes that a look is asked for, by whatever way. Returns whether somebody looks.
    pub fn ask(&self, stack: &StackKey) -> bool {
        let mut asked = self.asked();
        let Some(asked) = asked.as_mut() else { return false };
        if !asked.contains_key(stack) {
            asked.insert(stack.clone(), Instant::now());
            self.metrics.look_asked_for();
        }
        true
    }

    /// A look begins, or will never: the stack is gone. A retry, which nobody asked for, has not waited.
    pub fn begun(&self, stack: &StackKey) -> Option<Duration> {
        let since = self.asked().as_mut()?.remove(stack)?;
        self.metrics.look_begun();
        Some(since.elapsed())
    }

    fn asked(&self) -> MutexGuard<'_, Option<HashMap<StackKey, Instant>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn key(name: &str) -> StackKey {
        StackKey { namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn nothing_is_collected_while_nobody_looks() {
        let (triggers, receiver) = Triggers::new(Arc::new(Metrics::new().unwrap()));
        let mut receiver = Box::pin(receiver);
        triggers.send(&key("a"));
        assert!(futures::FutureExt::now_or_never(receiver.next()).is_none());
        triggers.open();
        triggers.send(&key("b"));
        assert_eq!(futures::FutureExt::now_or_never(receiver.next()).flatten().map(|of| of.name), Some("b".to_owned()));
        assert!(triggers.begun(&key("a")).is_none());
    }

    #[test]
    fn a_look_waits_from_the_first_time_that_it_was_asked_for() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (triggers, _receiver) = Triggers::new(metrics.clone());
        triggers.open();
        triggers.send(&key("a"));
        triggers.send(&key("a"));
        triggers.ask(&key("b"));
        let shown = |line: &str| metrics.render().unwrap().lines().any(|found| found == line);
        assert!(shown("workqueue_depth{name=\"rorunstack\"} 2"));
        assert!(shown("workqueue_adds_total{name=\"rorunstack\"} 2"));
        assert!(triggers.begun(&key("a")).is_some());
        assert!(triggers.begun(&key("a")).is_none());
        assert!(shown("workqueue_depth{name=\"rorunstack\"} 1"));
    }
}
