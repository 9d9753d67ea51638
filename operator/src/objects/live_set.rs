//! The observed objects of one stack, and the time of the reconcile: time alone may change a verdict.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::{Keyed, LiveObject};

/// The observed objects of one stack at a time, sorted by kind and name.
#[derive(Clone, Debug, Default)]
pub struct LiveSet {
    objects: Vec<Arc<LiveObject>>,
    clock: Option<Arc<Clock>>,
}

/// The time of the reconcile, and the next time at which a verdict may change without an event.
#[derive(Debug)]
struct Clock {
    now: i64,
    next: AtomicI64,
}

impl LiveSet {
    /// The same objects at a time, in seconds since 1970.
    #[must_use]
    pub fn at(mut self, now: i64) -> Self {
        self.clock = Some(Arc::new(Clock { now, next: AtomicI64::new(i64::MAX) }));
        self
    }

    /// Whether a time has passed. The set remembers one that has not, for [`Self::requeue_after`]. For a set without a time none
    /// has.
    pub fn has_passed(&self, moment: i64) -> bool {
        let Some(clock) = &self.clock else { return false };
        let passed = clock.now >= moment;
        if !passed {
            clock.next.fetch_min(moment, Ordering::Relaxed);
        }
        passed
    }

    /// In how many seconds to reconcile again: when the first of the remembered times passes. `None`: there is none.
    pub fn requeue_after(&self) -> Option<u64> {
        let clock = self.clock.as_ref()?;
        let next = clock.next.load(Ordering::Relaxed);
        (next != i64::MAX).then(|| next.saturating_sub(clock.now).unsigned_abs())
    }

    /// The object of a kind and name.
    pub fn get(&self, key: &super::ObjectKey) -> Option<&LiveObject> {
        self.named(key.kind, &key.name)
    }

    /// The object of a kind and name.
    pub fn named(&self, kind: &'static str, name: &str) -> Option<&LiveObject> {
        let index = self.objects.binary_search_by(|live| live.kind_and_name().cmp(&(kind, name))).ok()?;
        Some(&self.objects[index])
    }

    /// Each object.
    pub fn iter(&self) -> impl Iterator<Item = &LiveObject> {
        self.objects.iter().map(AsRef::as_ref)
    }

    /// Each object of a kind that belongs to a component.
    pub fn of_component<'a>(
        &'a self,
        kind: &'static str,
        component: &'a str,
    ) -> impl Iterator<Item = &'a LiveObject> + 'a {
        self.iter().filter(move |live| live.kind.key == kind && live.component == component)
    }

    /// Puts an object in its place, instead of one of the same kind and name.
    pub fn put(&mut self, live: Arc<LiveObject>) {
        match self.objects.binary_search_by(|there| there.kind_and_name().cmp(&live.kind_and_name())) {
            Ok(index) => self.objects[index] = live,
            Err(index) => self.objects.insert(index, live),
        }
    }

    /// Takes the object of a kind and name out.
    pub fn take(&mut self, kind: &'static str, name: &str) {
        if let Ok(index) = self.objects.binary_search_by(|live| live.kind_and_name().cmp(&(kind, name))) {
            self.objects.remove(index);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

impl FromIterator<Arc<LiveObject>> for LiveSet {
    fn from_iter<I: IntoIterator<Item = Arc<LiveObject>>>(objects: I) -> Self {
        let mut set = Self::default();
        objects.into_iter().for_each(|live| set.put(live));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_moment_to_come_is_remembered() {
        let set = LiveSet::default();
        assert!(!set.has_passed(0), "without a moment nothing has passed");
        assert_eq!(set.requeue_after(), None);
        let set = set.at(100);
        assert!(set.has_passed(100));
        assert_eq!(set.requeue_after(), None, "what has passed next nothing");
        assert!(!set.has_passed(160) && !set.has_passed(130) && !set.has_passed(190));
        assert_eq!(set.requeue_after(), Some(30));
        assert_eq!(set.clone().at(150).requeue_after(), None, "another moment, and nothing was asked for");
    }
}
