//! The rollout of a release: whether it is complete, and what keeps it from becoming so.

use super::{candidate::Candidates, facts::Facts, table::State};
use crate::{
    names::{Component, Waiting, reason},
    stack::{Excuse, Observed, ObservedWorkload, Probe, Revision, Stack, WORKLOADS},
};

/// How far the rollout of a release is.
pub(super) struct Rollout {
    /// Every workload is rolled out to the target.
    pub(super) complete: bool,
    /// What keeps it from going on though the release is not at fault.
    pub(super) excuse: Option<Excuse>,
    /// What its pods say.
    pub(super) trouble: Option<Waiting>,
    /// How long it may take, in seconds.
    pub(super) deadline: i64,
}

impl Facts {
    /// What keeps its pods, or its candidates, from serving or from passing their tests though the release is not at fault: its clock
    /// stands.
    pub(super) fn excuse(&self, state: State) -> Option<&Excuse> {
        // Without a revision to go back to there is no clock.
        if !state.is_excused() || self.last_good.is_none() {
            return None;
        }
        self.not_at_fault()
    }

    /// The same, whether or not there is a clock.
    pub(super) fn not_at_fault(&self) -> Option<&Excuse> {
        match &self.candidates {
            Candidates::Pending(pending) => pending.excuse.as_ref(),
            _ => self.rollout.excuse.as_ref(),
        }
    }
}

/// How far the rollout to a revision is.
pub(super) fn rollout(stack: &Stack, observed: &Observed, target: &Revision) -> Rollout {
    let workloads = &observed.releases.workloads;
    let pending = |component: &Component| {
        let wanted = target.content.workload(*component);
        let there = workloads.get(component);
        // Before the first pods after a hibernation, nothing shows that a workload serves.
        let asleep = stack.workload(*component).is_some_and(|workload| workload.replicas.floor() > 0);
        let served = |there: &ObservedWorkload| there.rolled_out && !(there.asleep && asleep);
        wanted.is_some() && !there.is_some_and(|there| served(there) && there.revision == wanted)
    };
    let pending: Vec<_> = WORKLOADS.into_iter().filter(pending).collect();
    // One that is complete has as long for the tests of its pods.
    let limited = if pending.is_empty() { &WORKLOADS[..] } else { &pending };
    let deadlines = limited.iter().filter_map(|component| stack.workload(*component));
    let deadline = deadlines.map(|workload| i64::from(workload.progress_deadline_seconds)).max().unwrap_or_default();
    // What the pods of a workload say that is rolled out has nothing to do with the release.
    let rolling = || pending.iter().filter_map(|component| Some((*component, workloads.get(component)?)));
    let excuse = |(component, there): (Component, &ObservedWorkload)| {
        there.excuse.clone().or_else(|| before(there)).map(|waiting| Excuse::of(component, waiting))
    };
    let services = service_excuse(stack, observed);
    Rollout {
        complete: pending.is_empty(),
        excuse: services.or_else(|| rolling().find_map(excuse)),
        trouble: rolling().find_map(|(_, there)| there.trouble.clone()),
        deadline,
    }
}

/// What keeps any pod of a release from serving: the stack is about to hibernate, a service is down, or the spec names what there is
/// not.
pub(super) fn service_excuse(stack: &Stack, observed: &Observed) -> Option<Excuse> {
    let down = || observed.releases.excuse.clone().or_else(|| service_down(stack));
    hibernation(stack).or_else(down).or_else(|| unresolved(stack))
}

/// The pods of the release that serves are not well either, so it is not the new one that is at fault.
pub(super) fn before(there: &ObservedWorkload) -> Option<Waiting> {
    let Waiting { reason, message } = there.before.clone()?;
    Some(Waiting::new(reason, format!("the pods of before do not serve either: {message}")))
}

fn hibernation(stack: &Stack) -> Option<Excuse> {
    let cause = stack.hibernation.cause?;
    let waiting = Waiting::new(reason::HIBERNATED, format!("the stack hibernates {}", cause.because()));
    Some(Excuse { component: None, waiting })
}

/// A service outside that does not answer.
fn service_down(stack: &Stack) -> Option<Excuse> {
    [Component::Database, Component::Redis, Component::Bucket].into_iter().find_map(|component| {
        match stack.probe(component) {
            Probe::Failed(waiting) => Some(Excuse::of(component, waiting.clone())),
            _ => None,
        }
    })
}

/// A workload that cannot be as the spec asks for: its condition names the field or the object.
fn unresolved(stack: &Stack) -> Option<Excuse> {
    let all = [&stack.unresolved, &stack.pods_refused];
    let of = |component| all.iter().find_map(|waiting| waiting.get(&component)).cloned();
    WORKLOADS.into_iter().find_map(|component| Some(Excuse::of(component, of(component)?)))
}
