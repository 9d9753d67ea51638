//! The candidates of a release: which workloads have one, and how their tests go.

use serde_json::json;

use super::{
    Step,
    facts::{Facts, Tried},
    rollout::{before, service_excuse},
    verification::asked_since,
};
use crate::{
    names::{Component, ObjectName, Waiting},
    plan::meaning,
    stack::{Excuse, JobPhase, Observed, Progress, Revision, Stack, Tested, WORKLOADS},
};

/// How far the tests of the candidates are.
pub(super) enum Candidates {
    /// Every image served before, nothing serves yet, or the spec asks for no candidate.
    NotNeeded,
    /// Their pods start, or are asked.
    Pending(Pending),
    /// They did not pass.
    Failed(Step, String),
    /// They passed.
    Passed,
}

/// Candidates that are not through with their tests.
pub(super) struct Pending {
    /// What the tests are about.
    pub(super) identity: String,
    /// Every candidate serves, so the tests may begin.
    pub(super) ready: bool,
    /// The Job that asks them.
    pub(super) step: Step,
    /// How the Job ended.
    pub(super) ended: Option<Result<(), String>>,
    /// What keeps a candidate from serving though the release is not at fault.
    pub(super) excuse: Option<Excuse>,
    /// It also excuses a candidate that serves and does not pass its tests: all of these but that the pods of before do not serve.
    pub(super) excuses_tests: bool,
    /// What the pods of the candidates say.
    pub(super) trouble: Option<Waiting>,
    /// How long they may take to serve, in seconds.
    pub(super) deadline: i64,
}

/// The workloads that have a candidate: their image is not the one that serves, and the spec wants one.
pub(super) fn components(stack: &Stack, target: &Revision, last_good: Option<&Revision>) -> Vec<Component> {
    let wanted = |component: &Component| stack.workload(*component).is_some_and(|workload| workload.candidate);
    changed(target, last_good).filter(wanted).collect()
}

/// The workloads whose image is not the one that serves. None while nothing serves: there is nothing to go back to.
pub(super) fn changed(target: &Revision, last_good: Option<&Revision>) -> impl Iterator<Item = Component> {
    WORKLOADS.into_iter().filter(move |component| {
        let image = target.content.image(*component);
        last_good.is_some_and(|good| image.is_some() && image != good.content.image(*component))
    })
}

/// How far the tests are. `components`: see [`components`].
pub(super) fn candidates(
    stack: &Stack,
    observed: &Observed,
    components: &[Component],
    Tried { target, images_served, attempt }: Tried<'_>,
) -> Candidates {
    if components.is_empty() || images_served {
        return Candidates::NotNeeded;
    }
    let identity = identity(stack, components, target);
    let since = asked_since(target);
    let parts: Vec<_> = std::iter::once(identity.as_str()).chain(attempt.parts()).chain(since.as_deref()).collect();
    let name = meaning(&parts);
    let name = String::from(ObjectName::step(&stack.name, Component::SmokeTest, &name));
    let job = observed.jobs.iter().find(|job| job.name == name);
    let step = Step { name, exists: job.is_some() };
    if let Some(tested) = target.progress.tested.as_ref().filter(|tested| tested.of == identity) {
        match &tested.failed {
            None => return Candidates::Passed,
            Some(failed) if tested.attempt.is(attempt) => return Candidates::Failed(step, failed.clone()),
            Some(_) => {}
        }
    }
    let there = |component: &Component| observed.releases.candidates.get(component);
    let ready = |component: &Component| {
        let wanted = target.content.workload(*component);
        there(component).is_some_and(|there| there.rolled_out && there.revision == wanted)
    };
    let all = || components.iter().filter_map(there);
    let deadlines = components.iter().filter_map(|component| stack.workload(*component));
    let amiss = service_excuse(stack, observed)
        .or_else(|| components.iter().find_map(|of| Some(Excuse::of(*of, there(of)?.excuse.clone()?))))
        .or_else(|| Some(Excuse::of(Component::SmokeTest, stack.pods_refused.get(&Component::SmokeTest)?.clone())))
        .or_else(|| Some(Excuse::of(Component::SmokeTest, stack.unresolved.get(&Component::SmokeTest)?.clone())));
    let excuses_tests = amiss.is_some();
    Candidates::Pending(Pending {
        ready: components.iter().all(ready),
        step,
        ended: match job.map(|job| &job.phase) {
            Some(JobPhase::Complete) => Some(Ok(())),
            Some(JobPhase::Failed(said)) => Some(Err(said.clone())),
            _ => None,
        },
        excuse: amiss.or_else(|| {
            components.iter().find_map(|of| Some(Excuse::of(*of, before(observed.releases.workloads.get(of)?)?)))
        }),
        excuses_tests,
        trouble: all().find_map(|there| there.trouble.clone()),
        deadline: deadlines.map(|workload| i64::from(workload.progress_deadline_seconds)).max().unwrap_or_default(),
        identity,
    })
}

/// The revision, and what is asked of it.
fn identity(stack: &Stack, components: &[Component], target: &Revision) -> String {
    let tests = json!(stack.release.smoke_tests).to_string();
    let mut parts = vec![target.name.as_str(), &tests];
    parts.extend(components.iter().map(|component| component.as_str()));
    meaning(&parts)
}

impl Facts {
    /// Records how the tests of the candidates ended.
    pub(super) fn conclude_tests(&mut self, now: i64) {
        let Candidates::Pending(pending) = &self.candidates else { return };
        let failed = match &pending.ended {
            Some(Ok(())) => None,
            // That the pods of before do not serve either is no reason to wait: this release may be what mends them.
            Some(Err(_)) if pending.excuses_tests || (pending.excuse.is_none() && self.is_excused(None)) => return,
            Some(Err(said)) => Some(said.clone()),
            None if pending.ready || !self.is_over(now, pending.deadline, pending.excuse.as_ref()) => return,
            None => {
                let trouble = pending.trouble.as_ref().map(|trouble| format!(": {}", trouble.message));
                let trouble = trouble.unwrap_or_default();
                Some(format!("its candidate did not become ready within {} s{trouble}", pending.deadline))
            }
        };
        let (of, step) = (pending.identity.clone(), pending.step.clone());
        self.candidates = failed.clone().map_or(Candidates::Passed, |said| Candidates::Failed(step, said));
        self.target.progress.tested = Some(Tested { at: now, of, failed, attempt: self.attempt.clone() });
        // The rollout has its whole time.
        self.target.progress =
            Progress { started_at: None, excused: None, excused_until: None, ..self.target.progress.clone() };
    }
}
