//! The most services that are asked at once, in all and for one namespace: a namespace whose services never answer delays no other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In all.
const ALL: usize = 256;
/// For the stacks of one namespace.
const EACH: usize = 8;

/// The slots.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    namespaces: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// The right to ask one service, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(#[expect(dead_code, reason = "the permits are released by the drop")] Permits);

type Permits = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

impl Slots {
    pub(super) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL)), namespaces: Arc::default() }
    }

    /// Waits for a slot of the namespace, and only then for one of all: a task that waits for the first blocks no task that needs
    /// only the second.
    pub(super) async fn acquire(&self, namespace: &str) -> Slot {
        let own = {
            let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            // No task asks, or waits, in a namespace whose semaphore only the map references.
            namespaces.retain(|_, slots| Arc::strong_count(slots) > 1);
            namespaces.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(EACH))).clone()
        };
        // They are never closed.
        let own = own.acquire_owned().await.ok();
        Slot((own, self.all.clone().acquire_owned().await.ok()))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// A slot that is free. Tokio would make a test that takes many pause in between.
    fn now(slots: &Slots, namespace: &str) -> Option<Slot> {
        tokio::task::unconstrained(slots.acquire(namespace)).now_or_never()
    }

    #[tokio::test]
    async fn a_namespace_that_takes_all_its_slots_leaves_those_of_others() {
        let slots = Slots::new();
        let mut taken = Vec::new();
        while let Some(slot) = now(&slots, "greedy") {
            taken.push(slot);
        }
        assert_eq!(taken.len(), EACH);
        let other = now(&slots, "modest");
        assert!(other.is_some());
        drop(taken.pop());
        assert!(now(&slots, "greedy").is_some());
        drop((taken, other));
        drop(slots.acquire("last").await);
        assert!(slots.namespaces.lock().unwrap().len() <= 1);
    }

    #[tokio::test]
    async fn all_namespaces_together_have_a_limit() {
        let slots = Slots::new();
        let taken: Vec<_> = (0..ALL).filter_map(|number| now(&slots, &format!("n{}", number / EACH))).collect();
        assert_eq!(taken.len(), ALL);
        assert!(now(&slots, "one more").is_none());
    }
}
