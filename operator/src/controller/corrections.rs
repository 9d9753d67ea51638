//! Stacks whose pods hold a wrong value of an earlier release are corrected one at a time: after an upgrade of the operator not
//! every application of a cluster is restarted at once. A stack that waits is left as it is, and one that its user changes
//! meanwhile does not wait: then the restart is the user's.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kube::{Resource, ResourceExt, runtime::events::EventType};

use super::{Context, StackKey, events};
use crate::{
    api::v1alpha1::RorunStack,
    apply::Applied,
    names::{Component, reason},
    objects::{Digest, LiveObject, LiveSet, Readiness},
    stack::{Corrected, Stack},
};

/// The turn ends by then, also if somebody has paused the Deployment, which then neither gets ready nor passes its deadline.
const LONGEST: Duration = Duration::from_hours(1);
/// A process that takes over does not know whose turn it was: for as long as a rollout may take by default, one that is under
/// way counts.
const SETTLING: Duration = Duration::from_mins(10);

/// Whose turn it is, and who waits.
#[derive(Debug)]
pub(super) struct Turns {
    began: Instant,
    holder: Option<Holder>,
    /// Each with what its objects are made of, as it was when it began to wait.
    waiting: BTreeMap<StackKey, Digest>,
}

#[derive(Debug)]
struct Holder {
    key: StackKey,
    since: Instant,
    told: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Self { began: Instant::now(), holder: None, waiting: BTreeMap::new() }
    }
}

impl Turns {
    /// Whether the stack may be corrected now. `rolling`: another stack's correction is under way, by what the caches show.
    fn may(&mut self, key: &StackKey, of: Digest, (changed, rolling): (bool, bool), now: Instant) -> bool {
        if self.holder.as_ref().is_some_and(|holder| now.duration_since(holder.since) > LONGEST) {
            self.holder = None;
        }
        if self.holder.as_ref().is_some_and(|holder| holder.key == *key) {
            return true;
        }
        if changed || self.waiting.get(key).is_some_and(|before| *before != of) {
            self.waiting.remove(key);
            return true;
        }
        let taken_over = rolling && now.duration_since(self.began) < SETTLING;
        if self.holder.is_some() || taken_over {
            self.waiting.entry(key.clone()).or_insert(of);
            return false;
        }
        self.waiting.remove(key);
        self.holder = Some(Holder { key: key.clone(), since: now, told: false });
        true
    }

    /// The stack needs the turn no longer. Returns who is next, if it is anybody's turn now.
    fn done(&mut self, key: &StackKey) -> Option<StackKey> {
        self.waiting.remove(key);
        if self.holder.as_ref().is_some_and(|holder| holder.key == *key) {
            self.holder = None;
        }
        if self.holder.is_some() { None } else { self.waiting.keys().next().cloned() }
    }

    /// Whether it is the first time that the stack, whose turn it is, is told of.
    fn tell(&mut self, key: &StackKey) -> bool {
        match &mut self.holder {
            Some(holder) if holder.key == *key => !std::mem::replace(&mut holder.told, true),
            // Changed by its user.
            _ => true,
        }
    }
}

/// What of the stack is there and holds a wrong value.
fn wrong<'a>(stack: &'a Stack, live: &'a LiveSet) -> impl Iterator<Item = &'a LiveObject> {
    let corrections = stack.corrections();
    stack.correctable().filter_map(|component| live.named("Deployment", &stack.child(component))).filter(move |there| {
        let made = there.corrected.as_deref().map(Corrected::parse).unwrap_or_default();
        !corrections.is_empty() && !made.has(&corrections)
    })
}

/// Whether the Deployment rolls out, and its deadline has not passed.
pub(super) fn rolls(there: &LiveObject) -> bool {
    matches!(&there.readiness, Readiness::Waiting(waiting) if waiting.reason != reason::ROLLOUT_STUCK)
}

impl Context {
    /// Leaves the stack as it is if it has something to correct and it is another's turn. Returns whether it is corrected now.
    pub(super) fn take_turn(
        &self,
        (cr, key): (&RorunStack, &StackKey),
        stack: &mut Stack,
        of: Digest,
        live: &LiveSet,
    ) -> bool {
        let is_wrong = !stack.suspend && wrong(stack, live).next().is_some();
        if !is_wrong {
            // As the caches show, it has all that it should: the turn ends when its pods have come.
            let corrected = stack.correctable().filter_map(|of| live.named("Deployment", &stack.child(of)));
            if stack.suspend || !corrected.into_iter().any(rolls) {
                self.end_turn(key);
            }
            return false;
        }
        let told_of = self.last_status(cr).and_then(|status| status.observed_generation);
        let changed = told_of != cr.metadata.generation;
        let rolling = self.cache.any(key, |there| there.corrected.is_some() && rolls(there));
        let may = self.memory().corrections.may(key, of, (changed, rolling), Instant::now());
        if !may {
            stack.deferred = stack.correctable().chain([Component::Connection]).collect::<BTreeSet<_>>();
        }
        may
    }

    /// The stack is corrected, or gone, or cannot be: the next one may be.
    pub(super) fn end_turn(&self, key: &StackKey) {
        let next = self.memory().corrections.done(key);
        if let Some(next) = next {
            self.triggers.send(&next);
        }
    }

    /// Tells once that the pods of a stack are replaced, and why. What was refused does not keep the others waiting.
    pub(super) async fn told_correction(&self, cr: &RorunStack, stack: &Stack, applied: &Applied) {
        let key = StackKey { namespace: stack.namespace.clone(), name: stack.name.clone() };
        if !applied.refused.is_empty() {
            self.end_turn(&key);
            return;
        }
        if applied.writes == 0 || applied.again || !self.memory().corrections.tell(&key) {
            return;
        }
        let names: Vec<_> = stack.correctable().map(|of| format!("deployment/{}", stack.child(of))).collect();
        let why: Vec<_> = stack.corrections().into_iter().map(crate::stack::Correction::told).collect();
        let note = format!("the pods of {} are replaced once: from now on {}", names.join(", "), why.join("; "));
        tracing::info!(stack = cr.name_any(), uid = cr.meta().uid, "{note}");
        events::tell(self, cr, (EventType::Normal, reason::CORRECTED), &note).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> StackKey {
        StackKey { namespace: "n".to_owned(), name: name.to_owned() }
    }

    fn of(text: &str) -> Digest {
        Digest::of_bytes(text.as_bytes())
    }

    const SAME: (bool, bool) = (false, false);

    #[test]
    fn one_stack_at_a_time_and_the_next_one_is_told() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        assert!(turns.may(&key("a"), of("a"), SAME, now));
        assert!(turns.may(&key("a"), of("a"), SAME, now), "it is still its turn");
        assert!(!turns.may(&key("c"), of("c"), SAME, now) && !turns.may(&key("b"), of("b"), SAME, now));
        assert_eq!(turns.done(&key("x")), None, "another that needs nothing ends nobody's turn");
        assert_eq!(turns.done(&key("a")), Some(key("b")));
        assert!(turns.may(&key("b"), of("b"), SAME, now) && !turns.may(&key("c"), of("c"), SAME, now));
        // Deleted while it waits.
        assert_eq!(turns.done(&key("c")), None);
        assert_eq!(turns.done(&key("b")), None);
    }

    #[test]
    fn who_is_changed_by_its_user_does_not_wait() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        assert!(turns.may(&key("a"), of("a"), SAME, now));
        assert!(turns.may(&key("b"), of("b"), (true, false), now), "a new spec");
        assert!(!turns.may(&key("c"), of("c"), SAME, now));
        assert!(!turns.may(&key("c"), of("c"), SAME, now), "nothing has changed");
        assert!(turns.may(&key("c"), of("another password"), SAME, now));
        assert!(!turns.may(&key("d"), of("d"), SAME, now), "it is still the turn of the first");
    }

    #[test]
    fn a_rollout_of_an_earlier_process_counts_for_a_while() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        assert!(!turns.may(&key("a"), of("a"), (false, true), now));
        assert!(turns.may(&key("a"), of("a"), (false, true), now + SETTLING + Duration::from_secs(1)));
    }

    #[test]
    fn a_turn_that_never_ends_ends_all_the_same() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        assert!(turns.may(&key("a"), of("a"), SAME, now));
        assert!(!turns.may(&key("b"), of("b"), SAME, now + LONGEST));
        assert!(turns.may(&key("b"), of("b"), SAME, now + LONGEST + Duration::from_secs(1)));
    }

    #[test]
    fn a_turn_is_told_once() {
        let mut turns = Turns::default();
        assert!(turns.may(&key("a"), of("a"), SAME, Instant::now()));
        assert!(turns.tell(&key("a")) && !turns.tell(&key("a")));
    }
}
