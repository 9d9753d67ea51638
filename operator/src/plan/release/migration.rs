//! The migration of a release: whether one is needed, and how far it is.

use super::Step;
use crate::{
    names::{Component, ObjectName, annotation},
    plan::meaning,
    stack::{JobPhase, Observed, ObservedJob, Revision, Stack},
};

/// How far the migration of a release is.
pub(super) enum Migrated {
    NotNeeded,
    Pending(Step),
    Failed(Step, String),
    Done(Option<Step>),
}

/// How far the migration is. `identity`: what it is about; `images_served`: the release needs none.
pub(super) fn migrated<'a>(
    stack: &Stack,
    observed: &Observed,
    (identity, images_served): (&str, bool),
    mut revisions: impl Iterator<Item = &'a Revision>,
) -> Migrated {
    if stack.release.migration.is_none() {
        return Migrated::NotNeeded;
    }
    let retry = observed.annotations.get(annotation::RETRY).map_or("", String::as_str);
    let name = ObjectName::step(&stack.name, Component::Migration, &meaning(&[identity, retry]));
    let job = observed.jobs.iter().find(|job| job.name == name.as_str());
    let step = |exists| Step { name: name.as_str().to_owned(), exists };
    match job.map(|job| &job.phase) {
        Some(JobPhase::Complete) => return Migrated::Done(Some(step(true))),
        _ if images_served => return Migrated::NotNeeded,
        _ => {}
    }
    if revisions.any(|revision| revision.progress.migrated.as_deref() == Some(identity)) {
        return Migrated::Done(None);
    }
    match job.map(|job| &job.phase) {
        Some(JobPhase::Failed(said)) => Migrated::Failed(step(true), said.clone()),
        running => Migrated::Pending(step(running.is_some())),
    }
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
