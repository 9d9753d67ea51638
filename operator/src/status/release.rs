//! The release that serves, and the one on its way, as the status tells them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Report, RootCause, hibernation};
use crate::{
    api::v1alpha1::{ProvenRelease, RecoveryPointStatus, ReleaseRecord, ReleaseStatus, RorunStack},
    names::{Component, annotation, image, reason},
    plan::release::State,
    stack::{Progress, Revision, WORKLOADS},
};

/// How much of a digest is shown: `sha256:` and what Docker shows of an identifier.
const SHORT_DIGEST: usize = 7 + 12;

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
        image: shown(&release.target, current),
        retry: retry(report.cr),
        current: current.map(record),
        target: target.map(record),
        previous: served.iter().copied().find(other).map(record),
        proven: current.and_then(|current| proven(report, current, now)),
        history: served.into_iter().map(record).collect(),
    }))
}

/// That the spec asks for a release which does not serve, where no component waits for it: no tool may take the stack for current.
pub(super) fn unserved(report: &Report<'_>) -> Option<RootCause> {
    let release = format!("release {}", report.release.target.content.release());
    let (reason, message) = match (report.release.state, report.stack.hibernation.cause) {
        (State::Serving, _) => return None,
        (State::Hibernating, Some(cause)) => (reason::HIBERNATED, hibernation::message(report, cause)),
        (State::Restoring, _) => {
            let restore = report.restores.current.as_ref().map(|current| current.request.subject());
            let restore = restore.as_deref().unwrap_or("the restore");
            (reason::RESTORING, format!("{release} goes on once {restore} is over; what serves stays"))
        }
        _ => (reason::PROGRESSING, format!("{release} does not serve yet")),
    };
    Some(RootCause { component: Component::Api, reason, message })
}

/// That nothing makes sure of who approved the release that the spec asks for.
pub(super) fn approver_unknown(report: &Report<'_>) -> Option<String> {
    let target = &report.release.target;
    let by = target.progress.approved_by.as_deref().filter(|_| !target.progress.approval_verified)?;
    let said = if by.is_empty() { "is not set".to_owned() } else { format!("says {by}") };
    let (release, key) = (target.content.release(), annotation::APPROVED_BY);
    Some(format!("who approved release {release} is not known: no admission policy makes sure of {key}, which {said}"))
}

/// Whether nothing goes on until somebody approves the release, or the stack wakes.
pub(super) fn awaits(report: &Report<'_>, cause: &RootCause) -> bool {
    cause.reason == reason::AWAITING_APPROVAL || report.release.state == State::Hibernating
}

/// The image that tells a release from the one that serves, in short; that of the API where none does.
fn shown(target: &Revision, current: Option<&Revision>) -> String {
    let changes = |of: &Component| {
        let image = target.content.image(*of);
        image.is_some() && current.is_some_and(|current| current.content.image(*of) != image)
    };
    let component = WORKLOADS.into_iter().find(changes).unwrap_or(Component::Api);
    short(target.content.image(component).unwrap_or_default())
}

/// The last part of a name with its tag, or with the beginning of its digest if it has none.
fn short(image: &str) -> String {
    let image::ImageName { repository, tag, digest } = image::ImageName::new(image);
    let name = repository.rsplit('/').next().unwrap_or_default();
    match (tag, digest) {
        (Some(tag), _) => format!("{name}:{tag}"),
        (None, Some(digest)) => format!("{name}@{}", digest.get(..SHORT_DIGEST).unwrap_or(digest)),
        (None, None) => name.to_owned(),
    }
}

/// What was asked to be tried again when the status was made.
pub(super) fn retry(cr: &RorunStack) -> Option<String> {
    cr.metadata.annotations.as_ref()?.get(annotation::RETRY).cloned()
}

fn moment(second: i64) -> Option<Time> {
    Timestamp::from_second(second).ok().map(Time)
}

/// When the last smoke tests of a revision passed: those of its candidates, or those after its rollout.
fn tested_at(revision: &Revision) -> Option<Time> {
    let Progress { tested, verified_at, .. } = &revision.progress;
    let before = tested.as_ref().filter(|tested| tested.failed.is_none()).map(|tested| tested.at);
    moment(before.max(*verified_at)?)
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
            // An operator of before may have recorded none.
            at: Some(point.at).filter(|at| *at > 0).and_then(moment),
            skipped: point.skipped,
        }),
        tested_at: tested_at(revision),
        digests: progress.digests.clone(),
        migrated: progress.migrated.is_some(),
        migrations: progress.applied.clone().unwrap_or_default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("ghcr.io/rorun/rorun-api:1.9.0", "rorun-api:1.9.0")]
    #[case("ghcr.io/rorun/rorun-api:1.9.0@sha256:0123456789abcdef", "rorun-api:1.9.0")]
    #[case("registry:5000/rorun-api@sha256:0123456789abcdef", "rorun-api@sha256:0123456789ab")]
    #[case("rorun-api", "rorun-api")]
    fn an_image_is_shown_in_short(#[case] image: &str, #[case] shown: &str) {
        assert_eq!(short(image), shown);
    }
}
