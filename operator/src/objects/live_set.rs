//! The objects of one stack, and the moment at which they are looked at: what is said of them may change with time alone.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::{LiveObject, Placed};

/// The objects of one stack, as they are at a moment, sorted by kind and name.
#[derive(Clone, Debug, Default)]
pub struct LiveSet {
    objects: Vec<Arc<LiveObject>>,
    clock: Option<Arc<Clock>>,
}

/// The moment, and the next one at which a verdict may be another though nothing happens.
#[derive(Debug)]
struct Clock {
    now: i64,
    turns: AtomicI64,
}

impl LiveSet {
    /// As it is at a moment, in seconds since 1970.
    #[must_use]
    pub fn at(mut self, now: i64) -> Self {
        self.clock = Some(Arc::new(Clock { now, turns: AtomicI64::new(i64::MAX) }));
        self
    }

    /// Whether a moment has passed. One that has not is remembered: then the stack is looked at again. Of a set without a
    /// moment none has.
    pub fn has_passed(&self, moment: i64) -> bool {
        let Some(clock) = &self.clock else { return false };
        let passed = clock.now >= moment;
        if !passed {
            clock.turns.fetch_min(moment, Ordering::Relaxed);
        }
        passed
    }

    /// In how many seconds the first moment passes that was asked for. `None`: none was, or all have.
    pub fn turns_in(&self) -> Option<u64> {
        let clock = self.clock.as_ref()?;
        let turns = clock.turns.load(Ordering::Relaxed);
        (turns != i64::MAX).then(|| turns.saturating_sub(clock.now).unsigned_abs())
    }

    /// The object of a kind and name.
    pub fn get(&self, key: &super::ObjectKey) -> Option<&LiveObject> {
        self.named(key.kind, &key.name)
    }

    /// The object of a kind and name.
    pub fn named(&self, kind: &'static str, name: &str) -> Option<&LiveObject> {
        let index = self.objects.binary_search_by(|live| live.place().cmp(&(kind, name))).ok()?;
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
        self.iter().filter(move |live| live.kind.kind == kind && live.component == component)
    }

    /// Puts an object in its place, instead of one of the same kind and name.
    pub fn put(&mut self, live: Arc<LiveObject>) {
        match self.objects.binary_search_by(|there| there.place().cmp(&live.place())) {
            Ok(index) => self.objects[index] = live,
            Err(index) => self.objects.insert(index, live),
        }
    }

    /// Takes the object of a kind and name out.
    pub fn take(&mut self, kind: &'static str, name: &str) {
        if let Ok(index) = self.objects.binary_search_by(|live| live.place().cmp(&(kind, name))) {
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
        assert_eq!(set.turns_in(), None);
        let set = set.at(100);
        assert!(set.has_passed(100));
        assert_eq!(set.turns_in(), None, "what has passed turns nothing");
        assert!(!set.has_passed(160) && !set.has_passed(130) && !set.has_passed(190));
        assert_eq!(set.turns_in(), Some(30));
        assert_eq!(set.clone().at(150).turns_in(), None, "another moment, and nothing was asked for");
    }
}
