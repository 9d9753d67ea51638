//! The status of what is asked of a stack, shaped like that of a Job.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    NEEDS_THE_USER,
    conditions::{Fact, merge},
};
use crate::{
    api::v1alpha1::{RorunBackup, RorunBackupStatus, RorunRestore, RorunRestoreStatus},
    names::{Waiting, reason},
    plan::{BackupRun, BackupRunState, RestoreRun, restore::State},
};

/// That there is no stack of this name.
pub fn stack_not_found(name: &str) -> Waiting {
    let message =
        format!("there is no rorunstack/{name} in this namespace: create it, or delete this and name another one");
    Waiting::new(reason::STACK_NOT_FOUND, message)
}

/// The status of a RorunBackup. `answer`: how far the stack is with it; nothing before the stack has answered, and an error where it
/// cannot.
pub fn of_backup(
    cr: &RorunBackup,
    old: Option<&RorunBackupStatus>,
    answer: Result<Option<&BackupRun>, &Waiting>,
    now: Timestamp,
) -> RorunBackupStatus {
    let generation = cr.metadata.generation;
    if let (Ok(None), Some(old)) = (&answer, old) {
        // A new operator has no news of it yet.
        return old.clone();
    }
    let mut status = RorunBackupStatus { observed_generation: generation, ..old.cloned().unwrap_or_default() };
    let first =
        Waiting::new(reason::PROGRESSING, format!("rorunstack/{} has not answered yet", cr.spec.stack_ref.name));
    let (phase, facts) = match answer {
        Err(waiting) => ("Pending", waits(waiting)),
        Ok(None) => ("Pending", waits(&first)),
        Ok(Some(BackupRun { job, state, .. })) => {
            if !matches!(state, BackupRunState::Waits(_)) {
                status.job = Some(job.clone());
            }
            told(&mut status, job, state)
        }
    };
    phase.clone_into(&mut status.phase);
    let before = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    status.conditions = merge(before, facts, generation, now);
    status
}

/// The status of a RorunRestore, likewise. A condition of a step that was done stays true.
pub fn of_restore(
    cr: &RorunRestore,
    old: Option<&RorunRestoreStatus>,
    answer: Result<Option<&RestoreRun>, &Waiting>,
    now: Timestamp,
) -> RorunRestoreStatus {
    if let (Ok(None), Some(old)) = (&answer, old) {
        // A new operator has no news of it yet.
        return old.clone();
    }
    let generation = cr.metadata.generation;
    let mut status = RorunRestoreStatus { observed_generation: generation, ..old.cloned().unwrap_or_default() };
    let first =
        Waiting::new(reason::PROGRESSING, format!("rorunstack/{} has not answered yet", cr.spec.stack_ref.name));
    let mut facts = match answer {
        Err(waiting) => waits(waiting),
        Ok(None) => waits(&first),
        Ok(Some(run)) => of_run(&mut status, run, now),
    };
    if status.phase.is_empty() {
        State::Waiting.as_str().clone_into(&mut status.phase);
    }
    let before = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let steps = steps();
    for kept in before.iter().filter(|condition| condition.status == "True") {
        let Some(kind) = steps.iter().find(|kind| **kind == kept.type_) else { continue };
        if facts.iter().all(|fact| fact.kind != *kind) {
            facts.push(Fact { kind, status: "True", reason: reason::COMPLETE, message: kept.message.clone() });
        }
    }
    status.conditions = merge(before, facts, generation, now);
    status
}

/// The conditions of the steps.
fn steps() -> Vec<&'static str> {
    let of_table = crate::plan::restore::TABLE.iter().filter_map(|row| row.state.condition());
    of_table.filter(|condition| *condition != "Complete").collect()
}

fn of_run(status: &mut RorunRestoreStatus, run: &RestoreRun, now: Timestamp) -> Vec<Fact> {
    let number = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
    run.state.as_str().clone_into(&mut status.phase);
    status.point = run.point.clone().or(status.point.take());
    status.rows = number(run.rows).or(status.rows);
    status.tables = number(run.tables).or(status.tables);
    status.objects = number(run.objects).or(status.objects);
    status.saved = run.saved.clone().or(status.saved.take());
    status.kept = run.kept.clone().or(status.kept.take());
    status.started_at = status.started_at.take().or_else(|| run.started.and_then(moment));
    if run.state == State::Stopping && status.stopped_at.is_none() {
        status.stopped_at = Some(Time(now));
    }
    if !run.warnings.is_empty() {
        status.warnings.clone_from(&run.warnings);
    }
    let done = run.done.iter();
    let mut facts: Vec<Fact> = done
        .map(|(kind, message)| Fact { kind, status: "True", reason: reason::COMPLETE, message: message.clone() })
        .collect();
    match (&run.waiting, run.state) {
        (Some(waiting), State::Refused) => facts.extend(failed(waiting.reason, &waiting.message)),
        (Some(waiting), _) => facts.extend(waits(waiting)),
        (None, _) => {
            status.completed_at = Some(Time(now));
            let started = status.started_at.as_ref().map(|at| at.0.as_second());
            status.duration_seconds = started.map(|started| (now.as_second() - started).max(0));
            let message = run.end.clone();
            facts.push(Fact { kind: "Complete", status: "True", reason: reason::COMPLETE, message });
        }
    }
    facts
}

/// The phase and the conditions of a backup that the stack has answered.
fn told(status: &mut RorunBackupStatus, job: &str, state: &BackupRunState) -> (&'static str, Vec<Fact>) {
    match state {
        BackupRunState::Waits(waiting) => ("Pending", waits(waiting)),
        BackupRunState::Runs(since, trouble) => {
            status.started_at = moment(*since);
            let runs = Waiting::new(reason::PROGRESSING, format!("job/{job} makes the backup"));
            ("Running", waits(trouble.as_ref().unwrap_or(&runs)))
        }
        BackupRunState::Failed(said) => ("Failed", failed(reason::BACKUP_FAILED, &format!("job/{job}: {said}"))),
        BackupRunState::Complete(result) => {
            status.started_at = moment(result.started);
            status.completed_at = moment(result.ended);
            status.duration_seconds = Some((result.ended - result.started).max(0));
            let message = match &result.record {
                Some(record) => {
                    status.id = Some(record.id.clone());
                    status.location = Some(record.location.clone());
                    status.size_bytes = Some(record.size_bytes);
                    status.locked_until = record.locked_until.and_then(|at| moment(at.as_second()));
                    format!("recovery point {} is at {}", record.id, record.location)
                }
                None => format!("job/{job} ended well, and its pod was gone before it told the recovery point"),
            };
            ("Complete", vec![Fact { kind: "Complete", status: "True", reason: reason::COMPLETE, message }])
        }
    }
}

fn moment(second: i64) -> Option<Time> {
    Timestamp::from_second(second).ok().map(Time)
}

/// Not over: kstatus takes what has neither `Reconciling` nor `Stalled` for done.
pub(super) fn waits(waiting: &Waiting) -> Vec<Fact> {
    let fact = |kind, status| Fact { kind, status, reason: waiting.reason, message: waiting.message.clone() };
    let also = if NEEDS_THE_USER.contains(&waiting.reason) { "Stalled" } else { "Reconciling" };
    vec![fact("Complete", "False"), fact(also, "True")]
}

/// Over, and in vain.
pub(super) fn failed(reason: reason::Reason, message: &str) -> Vec<Fact> {
    let fact = |kind, status| Fact { kind, status, reason, message: message.to_owned() };
    vec![fact("Complete", "False"), fact("Failed", "True"), fact("Stalled", "True")]
}
