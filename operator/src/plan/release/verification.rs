//! The smoke tests of a release that serves: those by the Ingress, and those of workloads that have no candidate.

use serde_json::json;

use super::{
    Step,
    candidate::changed,
    facts::{Facts, Tried},
    table::State,
};
use crate::{
    api::v1alpha1::{SmokeTest, Via},
    names::{Component, ObjectName},
    plan::meaning,
    stack::{JobPhase, Observed, Revision, RolledBack, Stack},
};

/// How far the tests are.
pub(super) enum Verification {
    /// No test is to be asked after the rollout.
    NotNeeded,
    /// They run, or are to run.
    Pending(Step),
    /// They did not pass.
    Failed(Step, String),
    /// They passed.
    Passed,
}

/// The workloads that are tested after their rollout.
pub(super) fn components(stack: &Stack, target: &Revision, last_good: Option<&Revision>) -> Vec<Component> {
    let tested = |component: &Component| stack.release.smoke_tests.iter().any(|test| is_after(stack, test, *component));
    changed(target, last_good).filter(tested).collect()
}

/// Whether a test of a workload is asked once its pods serve.
fn is_after(stack: &Stack, test: &SmokeTest, component: Component) -> bool {
    let candidate = stack.workload(component).is_some_and(|workload| workload.candidate);
    Component::from(test.component) == component && (!candidate || test.via == Some(Via::Ingress))
}

/// How far the tests of these workloads are.
pub(super) fn verification(
    stack: &Stack,
    observed: &Observed,
    components: &[Component],
    Tried { target, images_served, attempt }: Tried<'_>,
) -> Verification {
    if components.is_empty() || images_served {
        return Verification::NotNeeded;
    }
    let tests = json!(stack.release.smoke_tests).to_string();
    let mut parts = vec!["serving", target.name.as_str(), &tests];
    parts.extend(attempt.parts());
    let since = asked_since(target);
    parts.extend(since.as_deref());
    parts.extend(components.iter().map(|component| component.as_str()));
    let name = String::from(ObjectName::step(&stack.name, Component::SmokeTest, &meaning(&parts)));
    let job = observed.jobs.iter().find(|job| job.name == name);
    let step = Step { name, exists: job.is_some() };
    match job.map(|job| &job.phase) {
        Some(JobPhase::Complete) => Verification::Passed,
        Some(JobPhase::Failed(said)) => Verification::Failed(step, said.clone()),
        _ => Verification::Pending(step),
    }
}

/// What tells a Job that asks from one that may have asked while something else was amiss.
pub(super) fn asked_since(target: &Revision) -> Option<String> {
    target.progress.asked_since.map(|since| format!("since {since}"))
}

impl Facts {
    /// Records that the pods of a release passed, or gives it up. While something else is at fault a failure says nothing of the release,
    /// and its pods are asked anew afterwards; but users meet these pods, so that the release has no more than its deadline for it.
    pub(super) fn conclude_verification(&mut self, now: i64) {
        if matches!(self.verification, Verification::Passed) && self.is_rolled_out() {
            self.target.progress.verified_at.get_or_insert(now);
        }
        if let Verification::Failed(_, said) = &self.verification
            && self.is_rolled_out()
            && (!self.is_excused(self.rollout.excuse.as_ref()) || self.has_had_its_time(now))
        {
            let excuse = self.rollout.excuse.as_ref().map(|excuse| format!(", while {}", excuse.waiting.message));
            let message = format!("its smoke tests failed after the rollout{}: {said}", excuse.unwrap_or_default());
            self.target.progress.rolled_back = Some(RolledBack { at: now, message, attempt: self.attempt.clone() });
        }
    }

    fn has_had_its_time(&self, now: i64) -> bool {
        self.deadline(self.rollout.deadline).is_some_and(|deadline| now >= deadline)
    }

    /// Whether every pod is of the target, and no test of them is left.
    pub(super) fn is_verified(&self) -> bool {
        self.is_rolled_out() && matches!(self.verification, Verification::NotNeeded | Verification::Passed)
    }

    /// Whether every pod is of the target, and nothing has given it up or served yet.
    pub(super) fn is_rolled_out(&self) -> bool {
        self.rollout.complete && !self.serves() && !self.is_rolled_back()
    }

    /// Whether a smoke test is to ask the pods of the target, for the first time or anew.
    pub(super) fn verifies(&self) -> bool {
        self.is_rolled_out() && matches!(self.verification, Verification::Pending(_) | Verification::Failed(..))
    }

    pub(super) fn verification_step(&self, state: State) -> Option<Step> {
        match &self.verification {
            Verification::Pending(step) => Some(step.clone()).filter(|_| state == State::Verifying),
            Verification::Failed(step, _) => {
                Some(step.clone()).filter(|_| matches!(state, State::Verifying | State::RolledBack))
            }
            Verification::NotNeeded | Verification::Passed => None,
        }
    }

    /// The workloads whose pods the Job asks.
    pub(super) fn verified(&self, state: State) -> Vec<Component> {
        if state == State::Verifying { self.verified.clone() } else { Vec::new() }
    }
}
