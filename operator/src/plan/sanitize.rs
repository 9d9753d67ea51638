//! The points that are sanitized: by a RorunBackup, one after the other. Their Jobs touch nothing of the stack but the bucket of its
//! backups, so releases, dumps and restores go on beside them.

use super::{BackupRun, Step};
use crate::{
    names::Component,
    stack::{BackupRequest, JobPhase, Observed, ObservedJob, Stack},
};

/// The points of a stack that are sanitized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sanitizes {
    /// The RorunBackup whose Job is to be made, or goes on.
    pub current: Option<(BackupRequest, Step)>,
    /// The Jobs that exist and are kept for reading.
    pub jobs: Vec<String>,
}

/// Whether a Job is one of these, and has not ended.
pub(super) fn goes_on(job: &ObservedJob) -> bool {
    job.component == Component::Sanitize && matches!(job.phase, JobPhase::Running | JobPhase::CannotStart)
}

/// Plans them. `runs`: how far each RorunBackup is.
pub(super) fn sanitizes(stack: &Stack, observed: &Observed, runs: &[BackupRun]) -> Sanitizes {
    let history = stack.backup.as_ref().map_or(0, |backup| backup.history);
    let mut jobs: Vec<&ObservedJob> = observed.jobs.iter().filter(|job| job.component == Component::Sanitize).collect();
    jobs.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
    let there = |name: &str| jobs.iter().any(|job| job.name == name);
    let current = observed.backups.iter().filter(|request| request.sanitize.is_some()).find_map(|request| {
        let run = runs.iter().find(|run| run.uid == request.uid)?;
        let on = jobs.iter().any(|job| job.name == run.job && goes_on(job));
        (on || run.is_due()).then(|| (request.clone(), Step { name: run.job.clone(), exists: there(&run.job) }))
    });
    let stays = |(index, job): &(usize, &&ObservedJob)| {
        *index < history || goes_on(job) || runs.iter().any(|run| run.job == job.name)
    };
    let jobs = jobs.iter().enumerate().filter(stays).map(|(_, job)| job.name.clone()).collect();
    Sanitizes { current, jobs }
}
