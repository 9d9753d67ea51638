//! The migration of a release: whether one is needed, and how far it is.

use super::{State, Step, facts::Facts};
use crate::{
    contract::LockOutcome,
    names::{Component, ObjectName},
    plan::meaning,
    stack::{JobPhase, NotBegun, Observed, ObservedJob, Progress, Revision, Stack},
};

/// How far the migration of a release is.
pub(super) enum Migrated {
    NotNeeded,
    Pending(Step),
    Failed(Step, String),
    Done(Option<Step>),
}

/// What a name of a Job ends in that is another attempt. Two names take turns: each Job that did not begin is kept until the one after it
/// exists, and is gone before its name is used again.
const AGAIN: &str = "-2";

/// What a migration whose command ran says once its Job is gone: nothing else tells how it ended.
const GONE: &str = "its command ran, and its Job was removed before its end was recorded, so how it ended is not known";

/// The Job of a migration that is to run, runs or has ended.
struct Attempt<'a> {
    name: String,
    job: Option<&'a ObservedJob>,
    /// Whether a command ran, although its Job is gone.
    lost: bool,
}

impl<'a> Attempt<'a> {
    /// The one that counts. A Job that did not begin is followed by another: its failure tells whether the command ran in its last pod, and
    /// `ran` whether it did in a pod before, which was lost with its node. So no command is run twice. `first`: the name of the first one.
    fn of(observed: &'a Observed, first: &str, ran: impl Fn(&str) -> bool) -> Self {
        let names = [first.to_owned(), format!("{first}{AGAIN}")];
        let found = names.clone().map(|name| observed.jobs.iter().find(|job| job.name == name));
        let has_not_begun = |job: &&ObservedJob| job.begun == Some(false) && !ran(&job.name);
        if let Some(job) = found.iter().flatten().find(|job| !has_not_begun(job)) {
            return Self { name: job.name.clone(), job: Some(job), lost: false };
        }
        let lost = names.iter().any(|name| ran(name));
        let [name, again] = names;
        match found {
            [None, _] => Self { name, job: None, lost },
            [Some(_), None] => Self { name: again, job: None, lost },
            [Some(one), Some(other)] => {
                let newest = if (other.created, &other.name) > (one.created, &one.name) { other } else { one };
                Self { name: newest.name.clone(), job: Some(newest), lost }
            }
        }
    }
}

/// How far the migration is. `identity`: what it is about; `needs_none`: its images served these data.
pub(super) fn migrated(
    stack: &Stack,
    observed: &Observed,
    (identity, needs_none): (&str, bool),
    revisions: &[&Revision],
) -> Migrated {
    if stack.release.migration.is_none() {
        return Migrated::NotNeeded;
    }
    let retry = observed.retry().unwrap_or_default();
    let first = ObjectName::step(&stack.name, Component::Migration, &meaning(&[identity, retry]));
    let ran = |name: &str| revisions.iter().any(|revision| revision.progress.began.as_deref() == Some(name));
    let Attempt { name, job, lost } = Attempt::of(observed, first.as_str(), ran);
    let step = Step { name, exists: job.is_some() };
    let phase = job.map(|job| &job.phase);
    match phase {
        Some(JobPhase::Complete) => return Migrated::Done(Some(step)),
        _ if needs_none => return Migrated::NotNeeded,
        _ => {}
    }
    if revisions.iter().any(|revision| revision.progress.migrated.as_deref() == Some(identity)) {
        return Migrated::Done(None);
    }
    match phase {
        Some(JobPhase::Failed(said)) if job.is_some_and(|job| job.begun != Some(false) || ran(&job.name)) => {
            Migrated::Failed(step, said.clone())
        }
        None if lost => Migrated::Failed(step, GONE.to_owned()),
        _ => Migrated::Pending(step),
    }
}

/// The Job of the migration whose command runs or ran, as far as its pods show it. One that failed counts as run, also once it is gone.
pub(super) fn began(observed: &Observed, migration: &Migrated) -> Option<String> {
    let step = match migration {
        Migrated::Failed(step, _) => return Some(step.name.clone()),
        Migrated::Pending(step) => step,
        Migrated::NotNeeded | Migrated::Done(_) => return None,
    };
    let job = observed.jobs.iter().find(|job| job.name == step.name)?;
    (job.begun == Some(true)).then(|| job.name.clone())
}

/// What keeps the command of a migration from running, by its newest Job that says something of it. What is known stays so until the next
/// Job says something, or its command runs.
pub(super) fn not_begun(observed: &Observed, migration: &Migrated, before: &Progress) -> Option<NotBegun> {
    let Migrated::Pending(step) = migration else { return None };
    let first = step.name.strip_suffix(AGAIN).unwrap_or(&step.name);
    let is_own = |job: &&ObservedJob| job.name.strip_suffix(AGAIN).unwrap_or(&job.name) == first;
    let own = || observed.jobs.iter().filter(is_own);
    if own().any(|job| job.begun == Some(true) && job.phase == JobPhase::Running) {
        return None;
    }
    // Then its pod says more than what a container of it found before.
    if own().any(|job| job.phase == JobPhase::CannotStart) {
        return None;
    }
    let mut told: Vec<_> = own().filter_map(|job| Some((job.created, job.said.as_deref()?))).collect();
    told.sort_unstable();
    let Some((_, said)) = told.pop() else { return before.not_begun.clone() };
    let Ok(outcome) = serde_json::from_str::<LockOutcome>(said) else { return before.not_begun.clone() };
    let message = outcome.message()?.to_owned();
    Some(NotBegun { locked: outcome.is_locked(), message })
}

/// The migrations that run: that of the target, and one that began before the spec went on. Nothing ends either half-way.
pub(super) fn migrations(observed: &Observed) -> impl Iterator<Item = &ObservedJob> {
    observed.jobs.iter().filter(|job| job.component == Component::Migration && job.phase == JobPhase::Running)
}

/// What keeps a migration that has no Job yet from starting.
pub(super) fn blocker(stack: &Stack, observed: &Observed) -> Option<String> {
    if stack.hibernation.cause.is_some() {
        return Some("the stack, which is about to hibernate,".to_owned());
    }
    let dump = observed.dump.as_ref().map(|job| format!("the dump of job/{job}"));
    dump.or_else(|| migrations(observed).next().map(|job| format!("the migration of job/{}", job.name)))
}

/// The image, the command, and which data: what a migration is about.
pub(super) fn identity(stack: &Stack) -> String {
    let Some(migration) = &stack.release.migration else { return String::new() };
    let mut parts = vec![stack.api.image.as_str(), &stack.release.data];
    parts.extend(migration.command.iter().map(String::as_str));
    meaning(&parts)
}

/// Whether the data are others than those that the release served last, no restore has brought them, and no migration ran on them.
pub(super) fn has_moved<'a>(
    stack: &Stack,
    good: Option<&Revision>,
    mut all: impl Iterator<Item = &'a Revision>,
    data: &str,
) -> bool {
    let places = good.and_then(|good| good.progress.place.as_ref().zip(stack.release.place.as_ref()));
    let elsewhere = places.is_some_and(|(before, now)| before.is_left_for(now));
    elsewhere && !all.any(|of| of.progress.data.as_deref() == Some(data))
}

impl Facts {
    /// Whether another session keeps its command from running.
    pub(super) fn is_locked(&self) -> bool {
        self.migrates() && self.target.progress.not_begun.as_ref().is_some_and(|why| why.locked)
    }

    /// The Job of the migration, while it is to run or is kept for reading.
    pub(super) fn migration_step(&self, state: State) -> Option<Step> {
        match &self.migration {
            // Before the approval nothing runs.
            Migrated::Pending(step) => {
                let may_start = state.migrates() && self.blocker.is_none();
                Some(step.clone()).filter(|step| may_start || step.exists)
            }
            Migrated::Failed(step, _) => Some(step.clone()).filter(|step| step.exists),
            Migrated::Done(step) => step.clone(),
            Migrated::NotNeeded => None,
        }
    }

    /// Whether a migration runs, or another attempt follows one that did not begin: dumps wait for all of them at once.
    pub(super) fn migration_goes_on(&self, state: State) -> bool {
        let follows = |step: Step| !step.exists && self.target.progress.not_begun.is_some();
        self.migration_runs || self.migration_step(state).is_some_and(follows)
    }
}
