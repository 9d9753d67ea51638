//! Which revisions the cluster keeps, and what one knows from those before it.

use std::collections::BTreeSet;

use super::{HISTORY, facts::Facts};
use crate::stack::{Progress, Revision};

impl Facts {
    /// The target, the last good revision, and of each of the last releases the newest revision that served.
    pub(super) fn kept(&self) -> Vec<Revision> {
        let mut kept = vec![self.target.clone()];
        // One that never served keeps no revision of its release from being the one to go back to.
        let served = |revision: &&Revision| revision.progress.served_at.is_some();
        let target = Some(&self.target).filter(served);
        let mut releases: Vec<_> = target.map(|target| target.content.release()).into_iter().collect();
        let mut served: Vec<_> = self.others.iter().filter(served).collect();
        served.sort_by_key(|other| std::cmp::Reverse((other.progress.served_at, other.number)));
        for other in served {
            let (release, is_good) =
                (other.content.release(), self.last_good.as_ref().is_some_and(|good| good.name == other.name));
            if is_good || (!releases.contains(&release) && releases.len() < HISTORY) {
                kept.push(other.clone());
                releases.push(release);
            }
        }
        kept.extend(self.unfinished(&kept));
        kept.sort_by_key(|revision| revision.number);
        kept
    }

    /// Of each release that never served and has changed the data, or has a way back, the newest revision: its hold and what was
    /// applied are not forgotten. Should the spec come back to it, it is another attempt.
    fn unfinished(&self, kept: &[Revision]) -> Vec<Revision> {
        let mut releases: BTreeSet<String> = kept.iter().map(|revision| revision.content.release()).collect();
        let matters = |progress: &Progress| progress.migrated.is_some() || progress.recovery_point.is_some();
        let others =
            self.others.iter().rev().filter(|other| other.progress.served_at.is_none() && matters(&other.progress));
        let newest = others.filter(|other| releases.insert(other.content.release())).take(HISTORY);
        newest.map(|other| Revision { progress: attempted(&other.progress), ..other.clone() }).collect()
    }
}

/// What a new revision knows from the newest one of the same release: who approved it, its way back, what it migrated, and which command
/// of it ran.
pub(super) fn inherited(revisions: &[Revision], release: &str, now: i64) -> Progress {
    let same = revisions.iter().rev().find(|revision| revision.content.release() == release);
    let Some(Progress { approved_by, approved_at, approval_verified, .. }) = same.map(|same| &same.progress) else {
        return Progress { created_at: now, ..Progress::default() };
    };
    let (approved_by, approved_at, approval_verified) = (approved_by.clone(), *approved_at, *approval_verified);
    let known = same.map(|same| attempted(&same.progress)).unwrap_or_default();
    let began = same.and_then(|same| same.progress.began.clone());
    Progress { created_at: now, approved_by, approved_at, approval_verified, began, ..known }
}

/// What stays true of a revision whose rollout is over: its way back, and what it migrated.
fn attempted(of: &Progress) -> Progress {
    Progress {
        created_at: of.created_at,
        recovery_point: of.recovery_point.clone(),
        migrated: of.migrated.clone(),
        data: of.data.clone(),
        applied: of.applied.clone(),
        migration_started_at: of.migration_started_at,
        migrated_at: of.migrated_at,
        ..Progress::default()
    }
}
