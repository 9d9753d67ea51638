//! The release that serves, and the one on its way, as the status tells them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Report, hibernation};
use crate::{
    api::v1alpha1::{ProvenRelease, RecoveryPointStatus, ReleaseRecord, ReleaseStatus},
    names::Component,
    stack::Revision,
};

/// What the status tells of releases. `None`: nothing was planned.
pub(super) fn told(report: &Report<'_>, now: Timestamp) -> Option<Box<ReleaseStatus>> {
    let release = report.release;
    if release.target.name.is_empty() {
        return None;
    }
    let mut served: Vec<&Revision> =
        release.revisions.iter().filter(|revision| revision.progress.served_at.is_some()).collect();
    served.sort_by_key(|revision| std::cmp::Reverse((revision.progress.served_at, revision.number)));
    let current = release.last_good.as_ref();
    let target = Some(&release.target).filter(|target| current.is_none_or(|current| current.name != target.name));
    let other =
        |revision: &&Revision| current.is_none_or(|current| current.content.release() != revision.content.release());
    Some(Box::new(ReleaseStatus {
        state: release.state.as_str().to_owned(),
        current: current.map(record),
        target: target.map(record),
        previous: served.iter().copied().find(other).map(record),
        proven: current.and_then(|current| proven(report, current, now)),
        history: served.into_iter().map(record).collect(),
    }))
}

fn moment(second: i64) -> Option<Time> {
    Timestamp::from_second(second).ok().map(Time)
}

/// When the smoke tests of a revision passed.
fn tested_at(revision: &Revision) -> Option<Time> {
    let tested = revision.progress.tested.as_ref().filter(|tested| tested.failed.is_none())?;
    moment(tested.at)
}

/// What is known of the release that serves.
fn proven(report: &Report<'_>, current: &Revision, now: Timestamp) -> Option<ProvenRelease> {
    let progress = &current.progress;
    let took = || Some(progress.migrated_at? - progress.migration_started_at?);
    Some(ProvenRelease {
        revision: current.name.clone(),
        images: current
            .content
            .images()
            .into_iter()
            .map(|(of, image)| (of.to_string(), current.pinned(of, image)))
            .collect(),
        migration_seconds: took(),
        tested_at: tested_at(current),
        since: since(report, current, now).and_then(moment)?,
    })
}

/// Since when a release serves with the same digests and no container of it was started again. A restart that was told stays told
/// when its pod is gone. Pods that are added or moved were started once, and count for nothing.
fn since(report: &Report<'_>, current: &Revision, now: Timestamp) -> Option<i64> {
    let progress = &current.progress;
    let images = current.content.images();
    let restarts = images.into_iter().filter_map(|(of, image)| report.live.restarted(of.as_str(), image));
    let told = report.old.as_ref().and_then(|old| old.release.as_ref()?.proven.as_ref());
    let told = told.filter(|told| told.revision == current.name).map(|told| told.since.0.as_second());
    let moved = progress.digests_changed_at;
    // Every pod of a stack that wakes is started anew.
    let slept = report.old.as_ref().filter(|old| old.hibernated_since.is_some());
    let woken = slept.filter(|old| hibernation::since(report, old, now).is_none()).map(|_| now.as_second());
    restarts
        .chain(told)
        .chain(moved)
        .chain(woken)
        .chain(progress.served_at)
        .max()
        .filter(|_| progress.served_at.is_some())
}

fn record(revision: &Revision) -> ReleaseRecord {
    let image = |component| revision.content.image(component).map(str::to_owned);
    let progress = &revision.progress;
    ReleaseRecord {
        hash: revision.content.release(),
        revision: revision.name.clone(),
        api: image(Component::Api).unwrap_or_default(),
        ocr: image(Component::Ocr),
        admin: image(Component::Admin),
        recovery_point: progress.recovery_point.as_ref().map(|point| RecoveryPointStatus {
            id: point.id.clone(),
            location: point.location.clone(),
            skipped: point.skipped,
        }),
        tested_at: tested_at(revision),
        digests: progress.digests.clone(),
        migrated: progress.migrated.is_some(),
        migration_started_at: progress.migration_started_at.and_then(moment),
        migrated_at: progress.migrated_at.and_then(moment),
        started_at: progress.started_at.and_then(moment),
        served_at: progress.served_at.and_then(moment),
        rolled_back_at: progress.rolled_back.as_ref().and_then(|given_up| moment(given_up.at)),
        approved_by: progress.approved_by.clone(),
        approval_verified: progress.approval_verified,
        approved_at: progress.approved_at.and_then(moment),
        message: [
            progress.rolled_back.as_ref().map(|given_up| given_up.message.clone()),
            progress.tested.as_ref().and_then(|tested| tested.failed.clone()),
            progress.not_begun.as_ref().map(|why| why.message.clone()),
        ]
        .into_iter()
        .flatten()
        .next()
        .unwrap_or_default(),
    }
}
