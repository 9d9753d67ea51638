//! The Jobs of a restore: one for each step, and another for each time that it is tried again.

use super::component;
use crate::{
    contract::{DumpOutcome, DumpRecord, RestoreOutcome, RestoreResult},
    names::{Component, ObjectName, Waiting, reason},
    plan::{Step, meaning},
    stack::{JobPhase, Observed, ObservedJob, RestoreRequest},
};

/// How often a step is tried at the most.
pub(super) const MOST: usize = 100;
/// How long after the end of a Job its pod may tell what it said, in seconds: the two come by different watches.
const WORDS_WITHIN: i64 = 10;

/// What a Job of a restore does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `agent restore check`.
    Check,
    /// `agent restore fill`.
    Fill,
    /// `agent restore copy`.
    Copy,
    /// The migration of the serving release, on the copy.
    Migrate,
    /// `agent restore verify`.
    Verify,
    /// `agent dump`, of what is live.
    Save,
    /// `agent restore switch`.
    Switch,
    /// `agent restore objects`.
    Objects,
    /// `agent smoke-test`, of the application.
    Test,
}

impl Kind {
    /// Each.
    pub(super) const ALL: [Self; 9] = [
        Self::Check,
        Self::Fill,
        Self::Copy,
        Self::Migrate,
        Self::Verify,
        Self::Save,
        Self::Switch,
        Self::Objects,
        Self::Test,
    ];

    /// As it stands in the hash that names its Jobs.
    fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Fill => "fill",
            Self::Copy => "copy",
            Self::Migrate => "migrate",
            Self::Verify => "verify",
            Self::Save => "save",
            Self::Switch => "switch",
            Self::Objects => "objects",
            Self::Test => "test",
        }
    }
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Its Job is to run, runs, or cannot start.
    Pending(Step, Option<Waiting>),
    /// It is done.
    Done(Box<Done>),
    /// It cannot be done as things are.
    Refused(Step, reason::Reason, String),
    /// It broke off.
    Failed(Step, String),
}

impl Attempt {
    /// The Job, if the attempt is not done.
    pub(super) fn step(&self) -> Option<&Step> {
        match self {
            Self::Pending(step, _) | Self::Refused(step, ..) | Self::Failed(step, _) => Some(step),
            Self::Done(_) => None,
        }
    }

    /// Whether there is a Job.
    pub(super) fn exists(&self) -> bool {
        self.step().is_none_or(|step| step.exists)
    }
}

/// A step that is done. Moments are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) job: String,
    pub(super) started: i64,
    pub(super) ended: i64,
    /// Its pod told what it said. Else the result is empty.
    pub(super) told: bool,
    /// What the agent said.
    pub(super) result: RestoreResult,
    /// What the agent said of the recovery point of what is live.
    pub(super) saved: Option<DumpRecord>,
}

/// The names of the Jobs of a step, the first attempt first.
pub(super) fn names(stack: &str, request: &RestoreRequest, kind: Kind) -> impl Iterator<Item = String> {
    (0_usize..).map(move |attempt| {
        let attempt = attempt.to_string();
        let mut of = vec!["RorunRestore", &request.uid, kind.as_str(), &attempt];
        // A Cluster that was recovered once more is migrated and read once more.
        of.extend(request.copy_uid.as_deref().filter(|_| matches!(kind, Kind::Migrate | Kind::Verify)));
        let meaning = meaning(&of);
        ObjectName::step(stack, component(kind), &meaning).into()
    })
}

/// When a Job that ended well is taken for done whether or not its pod told what it said.
pub(super) fn turns_at(stack: &str, observed: &Observed, request: &RestoreRequest, now: i64) -> Option<i64> {
    let of = |job: &&ObservedJob| {
        let its = |kind| names(stack, request, kind).take(3).any(|name| name == job.name);
        job.phase == JobPhase::Complete && job.said.is_none() && Kind::ALL.into_iter().any(its)
    };
    let ends = observed.jobs.iter().filter(of).filter_map(|job| Some(job.ended? + WORDS_WITHIN));
    ends.filter(|moment| *moment > now).min()
}

/// The last attempt at a step. `again`: one that broke off is tried once more.
pub(super) fn last(
    stack: &str,
    observed: &Observed,
    of: (&RestoreRequest, Kind),
    (again, now): (bool, i64),
) -> Attempt {
    let mut names = names(stack, of.0, of.1).take(MOST);
    let mut failed = None;
    for name in names.by_ref() {
        let Some(job) = observed.jobs.iter().find(|job| job.name == name) else {
            return match failed {
                Some(attempt) if !again => attempt,
                _ => Attempt::Pending(Step { name, exists: false }, None),
            };
        };
        match ended(job, of.1, now) {
            attempt @ (Attempt::Failed(..) | Attempt::Refused(..)) => failed = Some(attempt),
            attempt => return attempt,
        }
    }
    failed.unwrap_or_else(|| {
        Attempt::Failed(Step { name: String::new(), exists: true }, "it was tried too often".to_owned())
    })
}

fn ended(job: &ObservedJob, kind: Kind, now: i64) -> Attempt {
    let step = Step { name: job.name.clone(), exists: true };
    match &job.phase {
        JobPhase::Running => Attempt::Pending(step, None),
        JobPhase::CannotStart => {
            let message = format!("the pod of job/{0} cannot start: kubectl describe job/{0} and its pods", job.name);
            Attempt::Pending(step, Some(Waiting::new(reason::UNSCHEDULABLE, message)))
        }
        JobPhase::Failed(said) => in_vain(step, kind, said),
        JobPhase::Complete => {
            let ended = job.ended.unwrap_or(now);
            if job.said.is_none() && kind != Kind::Migrate && kind != Kind::Test && now < ended + WORDS_WITHIN {
                return Attempt::Pending(step, None);
            }
            let said = job.said.as_deref().unwrap_or_default();
            let saved = match serde_json::from_str(said) {
                Ok(DumpOutcome::Complete(record)) => Some(record),
                _ => None,
            };
            let result = match serde_json::from_str(said) {
                Ok(RestoreOutcome::Done(result)) => result,
                _ => RestoreResult::default(),
            };
            let told = job.said.is_some();
            Attempt::Done(Box::new(Done { job: job.name.clone(), started: job.created, ended, told, result, saved }))
        }
    }
}

fn in_vain(step: Step, kind: Kind, said: &str) -> Attempt {
    if kind == Kind::Save
        && let Ok(DumpOutcome::Failed { message }) = serde_json::from_str(said)
    {
        return Attempt::Failed(step, message);
    }
    match serde_json::from_str(said) {
        Ok(RestoreOutcome::Refused { reason, message }) => Attempt::Refused(step, reason.as_str(), message),
        Ok(RestoreOutcome::Failed { message }) => Attempt::Failed(step, message),
        _ => Attempt::Failed(step, said.to_owned()),
    }
}

/// A Job of a restore that runs.
pub(super) fn running(observed: &Observed) -> Option<&ObservedJob> {
    observed.jobs.iter().find(|job| job.component == Component::Restore && job.phase == JobPhase::Running)
}
