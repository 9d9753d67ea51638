//! Corrects the stacks whose pods hold a wrong value of an earlier release, one at a time: an upgrade of the operator must not
//! restart every application of a cluster at once. A stack that waits is left as it is. A stack that its user changes meanwhile does
//! not wait: the user's change restarts its pods anyway.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kube::{Resource, ResourceExt, runtime::events::EventType};

use super::{Context, WatchedStack};
use crate::{
    api::v1alpha1::RorunStack,
    apply::Applied,
    names::{Component, reason},
    objects::{Digest, LiveObject, LiveSet, Readiness},
    runtime::{ResourceKey, event},
    stack::{Corrected, Observed, ObservedReleases, Stack},
};

/// The longest time of one correction, also if a user has paused the Deployment, which then neither becomes ready nor exceeds its
/// deadline.
const LONGEST: Duration = Duration::from_hours(1);
/// A process that takes over does not know which stack is being corrected: for as long as a rollout may take by default, every
/// rollout of a corrected Deployment counts.
const SETTLING: Duration = Duration::from_mins(10);

/// The stack that is corrected now, and those that wait.
#[derive(Debug)]
pub(super) struct Corrections {
    began: Instant,
    current: Option<Current>,
    /// Each with the digest of its inputs at the moment when it began to wait.
    waiting: BTreeMap<ResourceKey, Digest>,
}

#[derive(Debug)]
struct Current {
    key: ResourceKey,
    since: Instant,
    /// Whether its Event was published.
    published: bool,
}

impl Default for Corrections {
    fn default() -> Self {
        Self { began: Instant::now(), current: None, waiting: BTreeMap::new() }
    }
}

impl Corrections {
    /// Whether the stack may be corrected now. `changed`: its user changed it. `rolling`: the caches show the rollout of another
    /// stack's correction.
    fn may(&mut self, key: &ResourceKey, inputs: Digest, (changed, rolling): (bool, bool), now: Instant) -> bool {
        if self.current.as_ref().is_some_and(|current| now.duration_since(current.since) > LONGEST) {
            self.current = None;
        }
        if self.current.as_ref().is_some_and(|current| current.key == *key) {
            return true;
        }
        if changed || self.waiting.get(key).is_some_and(|before| *before != inputs) {
            self.waiting.remove(key);
            return true;
        }
        let taken_over = rolling && now.duration_since(self.began) < SETTLING;
        if self.current.is_some() || taken_over {
            self.waiting.entry(key.clone()).or_insert(inputs);
            return false;
        }
        self.waiting.remove(key);
        self.current = Some(Current { key: key.clone(), since: now, published: false });
        true
    }

    /// The stack needs no correction any more. Returns the stack that may be corrected next.
    fn done(&mut self, key: &ResourceKey) -> Option<ResourceKey> {
        self.waiting.remove(key);
        if self.current.as_ref().is_some_and(|current| current.key == *key) {
            self.current = None;
        }
        if self.current.is_some() { None } else { self.waiting.keys().next().cloned() }
    }

    /// Whether the Event of the correction is to be published: once for each stack.
    fn publish_once(&mut self, key: &ResourceKey) -> bool {
        match &mut self.current {
            Some(current) if current.key == *key => !std::mem::replace(&mut current.published, true),
            // Changed by its user.
            _ => true,
        }
    }
}

/// The Deployments of the stack that hold a wrong value.
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

/// The digest of all inputs of the objects of a stack: its spec, and what was observed for it.
pub(super) fn inputs(watched: &WatchedStack, observed: &Observed) -> Digest {
    // Steps and records follow from these, and change while nothing is asked for.
    let asked = Observed {
        annotations: BTreeMap::new(),
        handled: None,
        jobs: Vec::new(),
        dump: None,
        releases: ObservedReleases::default(),
        corrected_candidates: BTreeMap::new(),
        ..observed.clone()
    };
    Digest::of_parts(&(&watched.resource.metadata.uid, watched.spec, &asked))
}

impl Context {
    /// Whether the stack is corrected now. If it has to wait for the correction of another stack, it is left as it is.
    pub(super) fn may_correct(
        &self,
        (cr, key): (&RorunStack, &ResourceKey),
        stack: &mut Stack,
        inputs: impl FnOnce() -> Digest,
        live: &LiveSet,
    ) -> bool {
        let is_wrong = !stack.suspend && wrong(stack, live).next().is_some();
        if !is_wrong {
            // The caches show no wrong value any more: the correction ends when the new pods are ready.
            let corrected = stack.correctable().filter_map(|of| live.named("Deployment", &stack.child(of)));
            if stack.suspend || !corrected.into_iter().any(rolls) {
                self.end_correction(key);
            }
            return false;
        }
        let observed = self.runtime.statuses.last(cr).and_then(|status| status.observed_generation);
        let changed = observed != cr.metadata.generation;
        let rolling = self
            .runtime
            .cache
            .any_other(key, |there| there.kind.kind == "Deployment" && there.corrected.is_some() && rolls(there));
        let may = self.memory().corrections.may(key, inputs(), (changed, rolling), Instant::now());
        if !may {
            stack.deferred.extend(stack.correctable().chain([Component::Connection]).collect::<BTreeSet<_>>());
        }
        may
    }

    /// The stack is corrected, or gone, or cannot be corrected: the next one may be.
    pub(super) fn end_correction(&self, key: &ResourceKey) {
        let next = self.memory().corrections.done(key);
        if let Some(next) = next {
            self.runtime.triggers.enqueue(&next);
        }
    }

    /// Publishes once that the pods of a stack are replaced, and why. The other stacks do not wait for one whose writes were refused.
    pub(super) async fn correction_applied(&self, cr: &RorunStack, stack: &Stack, applied: &Applied) {
        let key = ResourceKey { namespace: stack.namespace.clone(), name: stack.name.clone() };
        if !applied.refused.is_empty() {
            self.end_correction(&key);
            return;
        }
        if applied.writes == 0 || applied.again || !self.memory().corrections.publish_once(&key) {
            return;
        }
        let names: Vec<_> = stack.correctable().map(|of| format!("deployment/{}", stack.child(of))).collect();
        let why: Vec<_> = stack.corrections().into_iter().map(crate::stack::Correction::told).collect();
        let note = format!("the pods of {} are replaced once: from now on {}", names.join(", "), why.join("; "));
        tracing::info!(stack = cr.name_any(), uid = cr.meta().uid, "{note}");
        self.runtime.events.publish(cr, vec![event(EventType::Normal, reason::CORRECTED, &note)]).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stack::CredentialState;

    fn key(name: &str) -> ResourceKey {
        ResourceKey { namespace: "n".to_owned(), name: name.to_owned() }
    }

    fn of(text: &str) -> Digest {
        Digest::of_bytes(text.as_bytes())
    }

    const SAME: (bool, bool) = (false, false);

    #[test]
    fn one_stack_at_a_time_and_the_next_one_is_enqueued() {
        let (mut corrections, now) = (Corrections::default(), Instant::now());
        assert!(corrections.may(&key("a"), of("a"), SAME, now));
        assert!(corrections.may(&key("a"), of("a"), SAME, now), "its correction goes on");
        assert!(!corrections.may(&key("c"), of("c"), SAME, now) && !corrections.may(&key("b"), of("b"), SAME, now));
        assert_eq!(corrections.done(&key("x")), None, "another stack without a correction ends none");
        assert_eq!(corrections.done(&key("a")), Some(key("b")));
        assert!(corrections.may(&key("b"), of("b"), SAME, now) && !corrections.may(&key("c"), of("c"), SAME, now));
        // Deleted while it waits.
        assert_eq!(corrections.done(&key("c")), None);
        assert_eq!(corrections.done(&key("b")), None);
    }

    #[test]
    fn a_stack_that_its_user_changes_does_not_wait() {
        let (mut corrections, now) = (Corrections::default(), Instant::now());
        assert!(corrections.may(&key("a"), of("a"), SAME, now));
        assert!(corrections.may(&key("b"), of("b"), (true, false), now), "a new spec");
        assert!(!corrections.may(&key("c"), of("c"), SAME, now));
        assert!(!corrections.may(&key("c"), of("c"), SAME, now), "nothing has changed");
        assert!(corrections.may(&key("c"), of("another password"), SAME, now));
        assert!(!corrections.may(&key("d"), of("d"), SAME, now), "the correction of the first goes on");
    }

    #[test]
    fn a_rollout_of_an_earlier_process_counts_for_a_while() {
        let (mut corrections, now) = (Corrections::default(), Instant::now());
        assert!(!corrections.may(&key("a"), of("a"), (false, true), now));
        assert!(corrections.may(&key("a"), of("a"), (false, true), now + SETTLING + Duration::from_secs(1)));
    }

    #[test]
    fn a_correction_that_never_becomes_ready_ends_all_the_same() {
        let (mut corrections, now) = (Corrections::default(), Instant::now());
        assert!(corrections.may(&key("a"), of("a"), SAME, now));
        assert!(!corrections.may(&key("b"), of("b"), SAME, now + LONGEST));
        assert!(corrections.may(&key("b"), of("b"), SAME, now + LONGEST + Duration::from_secs(1)));
    }

    #[test]
    fn a_correction_has_one_event() {
        let mut corrections = Corrections::default();
        assert!(corrections.may(&key("a"), of("a"), SAME, Instant::now()));
        assert!(corrections.publish_once(&key("a")) && !corrections.publish_once(&key("a")));
    }

    fn stack_of(spec: &serde_json::Value) -> WatchedStack {
        let cr =
            json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"uid": "1"}, "spec": spec});
        serde_json::from_value(cr).unwrap()
    }

    /// A difference in any of these may lead to other objects, also with the same generation, as after a restore of etcd.
    #[test]
    fn another_input_is_another_digest() {
        let cr = stack_of(&json!({"environment": "Development", "api": {"image": "a"}}));
        let secret = |value: &str| {
            let data = BTreeMap::from([("KEY".to_owned(), value.as_bytes().to_vec())]);
            Observed { secrets: BTreeMap::from([("s".to_owned(), Some(data))]), ..Observed::default() }
        };
        let credentials =
            |state| Observed { credentials: BTreeMap::from([(Component::Database, state)]), ..Observed::default() };
        let other_uid = {
            let mut other = cr.clone();
            other.meta_mut().uid = Some("2".to_owned());
            other
        };
        let none = Observed::default();
        let all = [
            inputs(&cr, &none),
            inputs(&other_uid, &none),
            inputs(&stack_of(&json!({"environment": "Development", "api": {"image": "b"}})), &none),
            inputs(&cr, &secret("one")),
            inputs(&cr, &secret("two")),
            inputs(&cr, &Observed { secrets: BTreeMap::from([("s".to_owned(), None)]), ..Observed::default() }),
            inputs(&cr, &Observed { config_maps: BTreeMap::from([("s".to_owned(), None)]), ..Observed::default() }),
            inputs(&cr, &credentials(CredentialState::Lost)),
            inputs(&cr, &credentials(CredentialState::Changed)),
            inputs(&cr, &credentials(CredentialState::Unconfirmed)),
            inputs(&cr, &credentials(CredentialState::VolumeTaken)),
            inputs(&cr, &Observed { agent_image: "i".to_owned(), ..Observed::default() }),
            inputs(&cr, &Observed { backup_owner: Some("u/s".to_owned()), ..Observed::default() }),
            inputs(&cr, &Observed { adopt_backups: Some("u/s".to_owned()), ..Observed::default() }),
            inputs(&cr, &Observed { corrected: [(Component::Api, "A".to_owned())].into(), ..Observed::default() }),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(inputs(&cr, &secret("one")), inputs(&cr.clone(), &secret("one")));
    }
}
