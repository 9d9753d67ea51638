//! The status of the backups: remembered after their pods are gone, and the notes beside a condition that is true.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Report;
use crate::{
    api::v1alpha1::{BackupStatus, RestoredRecord, RorunStackStatus},
    names::{Component, annotation, reason, reason::Reason},
    stack::{Backup, Stack},
};

const HOUR: i64 = 3600;

/// The status remembers the newest good backup after its pod is gone, with the other results of its run, and the owner of the
/// backups, so that the operator reads it only once.
pub(super) fn remembered(old: &RorunStackStatus, report: &Report<'_>, now: Timestamp) -> Option<BackupStatus> {
    let known = old.backup.clone().unwrap_or_default();
    let at = |status: &BackupStatus| status.last_successful.as_ref().map(|record| record.at.clone());
    let newer = |new: &BackupStatus| {
        let when = |at: Option<Time>| at.map(|at| at.0);
        when(at(new)) >= when(at(&known))
    };
    let mut status = match report.backup.clone().filter(newer) {
        Some(new) => BackupStatus { adopted: new.adopted.clone().or(known.adopted.clone()), ..new },
        None => known.clone(),
    };
    let verified = [known.last_verified, report.verified.clone()].into_iter().flatten();
    let asked = report.stack.backup.as_ref().is_some_and(|backup| backup.point_in_time.is_some());
    let told = report.point_in_time.as_ref().map(|archives| archives.status.clone());
    status.point_in_time = told.or(known.point_in_time).filter(|_| asked);
    status.restorable_until = archived_until(report, known.restorable_until, now)
        .into_iter()
        .chain(status.restorable_until)
        .max_by_key(|at| at.0);
    if let Some(found) = report.stack.database.mode().restorable().filter(|_| report.stack.backup.is_some()) {
        let until = Timestamp::from_second(found.until).ok().map(Time);
        status.restorable_until = status.restorable_until.into_iter().chain(until).max_by_key(|at| at.0);
    }
    status.last_verified = verified.max_by_key(|record| record.at.0);
    status.last_restored = restored(report).into_iter().chain(known.last_restored).max_by_key(|record| record.at.0);
    status.restore_seconds = status.restore_takes().map(|(seconds, _)| seconds);
    let owner = report.stack.backup.as_ref().and_then(|backup| backup.owner.clone());
    status.stack_uid = if owner.is_some() { Some(report.stack.uid.clone()) } else { known.stack_uid };
    status.owner = owner.or(known.owner);
    let embedded = [old.backup.as_ref(), Some(&status)].into_iter().flatten().any(|of| is_embedded(report.stack, of));
    status.in_embedded_bucket = embedded.then_some(true);
    (status != BackupStatus::default()).then_some(status)
}

/// Until when the log of the database is archived. While that goes on it is told anew every hour: the status would follow the clock.
fn archived_until(report: &Report<'_>, known: Option<Time>, now: Timestamp) -> Option<Time> {
    let archives = report.point_in_time.as_ref()?;
    let Some(within) = archives.within else { return archives.status.not_archived_since.clone() };
    let is_old = |known: &Time| report.live.has_passed(known.0.as_second() + within + HOUR);
    if known.as_ref().is_some_and(|known| !is_old(known)) {
        return known;
    }
    Timestamp::from_second(now.as_second() - within).ok().map(Time)
}

/// The newest restore that is complete.
fn restored(report: &Report<'_>) -> Option<RestoredRecord> {
    let took = report.restores.runs.iter().filter_map(|run| run.took).max_by_key(|took| took.ended)?;
    Some(RestoredRecord {
        at: Time(Timestamp::from_second(took.ended).ok()?),
        duration_seconds: took.seconds,
        size_bytes: i64::try_from(took.bytes).unwrap_or(i64::MAX),
    })
}

/// Whether a dump went to the embedded bucket.
fn is_embedded(stack: &Stack, status: &BackupStatus) -> bool {
    let last = status.last_successful.as_ref().map(|record| record.location.as_str());
    status.in_embedded_bucket == Some(true)
        || stack.server(Component::Bucket).is_some()
            && last.is_some_and(|location| location.starts_with(&format!("s3://{}-bucket/", stack.name)))
}

/// The reason and the notes of backups that are healthy.
pub(super) fn notes(report: &Report<'_>, status: Option<&BackupStatus>) -> Option<(Reason, String)> {
    let backup = report.stack.backup.as_ref()?;
    let status = status.cloned().unwrap_or_default();
    let why = if status.shared_with.is_some() {
        reason::PREFIX_SHARED
    } else if status.not_removed.is_some() {
        reason::PRUNING_FAILED
    } else if status.not_locked.is_some() {
        reason::POOLED_CONNECTION
    } else if backup.recovery.include_bucket && status.not_whole.is_some() && !lists_objects(&status) {
        reason::DATABASE_ONLY
    } else {
        reason::READY
    };
    let sentences = [
        shared(report, backup, &status),
        status.not_removed.clone(),
        status
            .not_locked
            .as_ref()
            .map(|why| format!("the last backup ran without the lock that excludes migrations: {why}")),
        status.not_whole.clone(),
        status.lock_note.clone(),
        without_owner(backup, &status),
        not_known(report.stack, backup),
        backup.adopt_problem.clone(),
        status.adoption.clone(),
        backup.note.map(str::to_owned),
    ];
    let sentences: Vec<_> = sentences.into_iter().flatten().collect();
    (!sentences.is_empty()).then(|| (why, sentences.join("; ")))
}

/// Whether the newest point has the objects of the bucket: then it lacks something else.
fn lists_objects(status: &BackupStatus) -> bool {
    status.last_successful.as_ref().is_some_and(|record| record.objects.is_some())
}

/// The reason and the note of a drill that found nothing wrong.
pub(super) fn drill_note(status: Option<&BackupStatus>) -> Option<(Reason, String)> {
    let record = status?.last_verified.as_ref()?;
    let told = format!("{} was restored in {} s", record.id, record.duration_seconds);
    let rows = record.rows.map(|rows| format!(", {rows} rows compared")).unwrap_or_default();
    let more = if record.message.is_empty() { String::new() } else { format!("; {}", record.message) };
    Some((if record.partial { reason::PARTIAL } else { reason::READY }, format!("{told}{rows}{more}")))
}

fn shared(report: &Report<'_>, backup: &Backup, status: &BackupStatus) -> Option<String> {
    let (other, own) = (status.shared_with.as_ref()?, status.owner.as_deref().unwrap_or("unknown"));
    Some(format!(
        "{} holds backups of {other} beside those of this stack, {own}: each removes only its own; give one of the two a \
         backup.destination.prefix, or take the others over: kubectl annotate rstack {} {}={other}",
        backup.prefix,
        report.stack.name,
        annotation::ADOPT_BACKUPS
    ))
}

fn without_owner(backup: &Backup, status: &BackupStatus) -> Option<String> {
    let count = status.without_owner?;
    Some(format!(
        "{count} backups under {} have no owner, as those of release 0.1.0, and are never removed: {}=none makes them this \
         stack's own",
        backup.prefix,
        annotation::ADOPT_BACKUPS
    ))
}

fn not_known(stack: &Stack, backup: &Backup) -> Option<String> {
    backup.owner.is_none().then(|| {
        format!(
            "old backups are not removed, since the operator may not read the namespace {} and does not know which are this \
             stack's: grant get on namespaces (rorun-operator rbac)",
            stack.namespace
        )
    })
}
