//! How many services are asked at once, in all and for one namespace: whoever names services that never answer waits for
//! themself alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In all.
const ALL: usize = 256;
/// For the stacks of one namespace.
const EACH: usize = 8;

/// Turns to ask.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    namespaces: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// A turn, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot(#[expect(dead_code, reason = "they are held, not used")] Held);

type Held = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

impl Slots {
    pub(super) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL)), namespaces: Arc::default() }
    }

    /// Waits for a turn of the namespace, and only then for one of all: whoever waits for the first keeps nobody from the second.
    pub(super) async fn turn(&self, namespace: &str) -> Slot {
        let own = {
            let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody of a namespace that only the map holds is asking, or waits for it.
            namespaces.retain(|_, turns| Arc::strong_count(turns) > 1);
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

    /// A turn that is free. Tokio would make a test that takes many pause in between.
    fn now(slots: &Slots, namespace: &str) -> Option<Slot> {
        tokio::task::unconstrained(slots.turn(namespace)).now_or_never()
    }

    #[tokio::test]
    async fn a_namespace_that_takes_all_its_turns_leaves_those_of_others() {
        let slots = Slots::new();
        let mut held = Vec::new();
        while let Some(slot) = now(&slots, "greedy") {
            held.push(slot);
        }
        assert_eq!(held.len(), EACH);
        let other = now(&slots, "modest");
        assert!(other.is_some());
        drop(held.pop());
        assert!(now(&slots, "greedy").is_some());
        drop((held, other));
        drop(slots.turn("last").await);
        assert!(slots.namespaces.lock().unwrap().len() <= 1);
    }

    #[tokio::test]
    async fn all_together_have_an_end_too() {
        let slots = Slots::new();
        let held: Vec<_> = (0..ALL).filter_map(|number| now(&slots, &format!("n{}", number / EACH))).collect();
        assert_eq!(held.len(), ALL);
        assert!(now(&slots, "one more").is_none());
    }
}
