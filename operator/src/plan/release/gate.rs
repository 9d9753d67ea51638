//! The recovery point that a migration in Production needs: a good backup that is young enough, held as the way back.

use super::{Step, facts::Facts, migration::Migrated, table::State};
use crate::{
    contract::DumpOutcome,
    names::{Component, ObjectName, annotation},
    plan::meaning,
    stack::{JobPhase, Observed, ObservedJob, RecoveryPoint, Revision, Stack},
};

/// How far the recovery point is.
pub(super) enum Gate {
    /// The release runs no migration, the environment asks for none, or the release has its recovery point.
    Open,
    /// The Job that finds or makes it runs, or is to run.
    Pending(Step),
    /// The Job failed.
    Failed(Step, String),
    /// The Job has ended well, or somebody wanted the release to go on without.
    Passed(RecoveryPoint),
}

/// How far the recovery point of a migration that did not begin is.
pub(super) fn gate(stack: &Stack, observed: &Observed, target: &Revision, migration: &Migrated, now: i64) -> Gate {
    let waits = matches!(migration, Migrated::Pending(step) if !step.exists);
    let Some(within) = stack.release.recovery_point_within.filter(|_| waits) else { return Gate::Open };
    let is_young = |point: &RecoveryPoint| point.skipped || point.at >= now - within;
    let known = target.progress.recovery_point.as_ref();
    // That of the first attempt is the way back from all that did not begin, however long something is in their way: another dump would
    // wait for the same lock.
    let follows = target.progress.not_begun.is_some();
    if known.is_some_and(|point| follows || is_young(point)) {
        return Gate::Open;
    }
    let release = target.content.release();
    if observed.annotations.get(annotation::SKIP_RECOVERY_POINT) == Some(&release) {
        return Gate::Passed(RecoveryPoint { at: now, skipped: true, ..RecoveryPoint::default() });
    }
    let retry = observed.retry().unwrap_or_default();
    // One that has become too old, before this operator recorded it or after, is made again by another Job.
    let mut before = known.map(|point| point.at.to_string()).unwrap_or_default();
    loop {
        let meaning = meaning(&["recovery-point", &target.name, &stack.release.data, retry, &before]);
        let name = String::from(ObjectName::step(&stack.name, Component::Backup, &meaning));
        let Some(job) = observed.jobs.iter().find(|job| job.name == name) else {
            return Gate::Pending(Step { name, exists: false });
        };
        let step = Step { name, exists: true };
        match &job.phase {
            JobPhase::Failed(said) if told(said).is_none() => return Gate::Failed(step, reason_of(said)),
            JobPhase::Running | JobPhase::CannotStart => return Gate::Pending(step),
            // A container beside the agent may keep the pod until the limit of the Job, when the point is there.
            JobPhase::Complete | JobPhase::Failed(_) => {}
        }
        let point = made(job, now);
        if is_young(&point) {
            return Gate::Passed(point);
        }
        // Each of these Jobs is named after the one before, so there is an end.
        before.clone_from(&job.name);
    }
}

impl Facts {
    /// The Job of the recovery point, while it is to run, runs, or is kept for reading. Before the approval nothing runs, and beside a
    /// migration no dump does.
    pub(super) fn recovery_point(&self, state: State) -> Option<Step> {
        match &self.gate {
            Gate::Pending(step) => {
                let may_start = state == State::BackingUp && self.blocker.is_none();
                Some(step.clone()).filter(|step| may_start || step.exists)
            }
            Gate::Failed(step, _) => Some(step.clone()),
            Gate::Open | Gate::Passed(_) => None,
        }
    }
}

/// How old in seconds a backup may be to be the way back: younger than the last migration too, since the one before it has another
/// schema than what serves.
pub(super) fn reuse_within<'a>(stack: &Stack, revisions: impl Iterator<Item = &'a Revision>, now: i64) -> i64 {
    let within = stack.release.recovery_point_within.unwrap_or_default();
    let migrated = revisions.filter(|revision| revision.progress.migrated.is_some());
    // Whoever released before this operator left no moment of the migration, which was before the release served.
    let ended = migrated.filter_map(|of| of.progress.migrated_at.or(of.progress.served_at)).max();
    ended.map_or(within, |ended| within.min(now - ended)).max(0)
}

/// What the agent says of the backup. Without its pod the identifier is not known, and the backup is held all the same: it is as old
/// as its Job at the most.
fn made(job: &ObservedJob, now: i64) -> RecoveryPoint {
    let said = match &job.phase {
        JobPhase::Failed(said) => Some(said.as_str()),
        _ => job.said.as_deref(),
    };
    let unknown = || RecoveryPoint { at: job.ended.unwrap_or(now), ..RecoveryPoint::default() };
    said.and_then(told).unwrap_or_else(unknown)
}

/// The backup that the agent says is complete.
fn told(said: &str) -> Option<RecoveryPoint> {
    match serde_json::from_str(said).ok()? {
        DumpOutcome::Complete(record) => {
            Some(RecoveryPoint { id: record.id, location: record.location, at: record.at.as_second(), skipped: false })
        }
        DumpOutcome::Failed { .. } => None,
    }
}

fn reason_of(said: &str) -> String {
    match serde_json::from_str::<DumpOutcome>(said) {
        Ok(DumpOutcome::Failed { message }) => message,
        _ => said.to_owned(),
    }
}
