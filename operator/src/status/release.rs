//! The release that serves, and the one on its way, as the status tells them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::v1alpha1::{ReleaseRecord, ReleaseStatus},
    names::Component,
    plan::Release,
    stack::Revision,
};

/// What the status tells of releases. `None`: nothing was planned.
pub(super) fn told(release: &Release) -> Option<ReleaseStatus> {
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
    Some(ReleaseStatus {
        state: release.state.as_str().to_owned(),
        current: current.map(record),
        target: target.map(record),
        previous: served.iter().copied().find(other).map(record),
        history: served.into_iter().map(record).collect(),
    })
}

fn record(revision: &Revision) -> ReleaseRecord {
    let image = |component| revision.content.image(component).map(str::to_owned);
    let moment = |second: i64| Timestamp::from_second(second).ok().map(Time);
    let progress = &revision.progress;
    ReleaseRecord {
        hash: revision.content.release(),
        revision: revision.name.clone(),
        api: image(Component::Api).unwrap_or_default(),
        ocr: image(Component::Ocr),
        admin: image(Component::Admin),
        tested_at: progress
            .tested
            .as_ref()
            .filter(|tested| tested.failed.is_none())
            .and_then(|tested| moment(tested.at)),
        started_at: progress.started_at.and_then(moment),
        served_at: progress.served_at.and_then(moment),
        rolled_back_at: progress.rolled_back.as_ref().and_then(|given_up| moment(given_up.at)),
        approved_by: progress.approved_by.clone(),
        message: [
            progress.rolled_back.as_ref().map(|given_up| given_up.message.clone()),
            progress.tested.as_ref().and_then(|tested| tested.failed.clone()),
        ]
        .into_iter()
        .flatten()
        .next()
        .unwrap_or_default(),
    }
}
