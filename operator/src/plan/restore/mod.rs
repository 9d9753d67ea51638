//! The restores of a stack: which one goes on, and which step of it comes next.
//!
//! What enters: the RorunRestores that are not over, and what was observed of their Jobs and of the workloads. What leaves: a
//! [`Restores`]. The steps are the rows of one [`TABLE`]; how far a restore is follows from its Jobs, whose names say which step of
//! which restore they are, so a killed operator goes on where the cluster is.

mod attempt;
mod choose;
mod discard;
mod facts;
mod kept;
mod moment;
mod result;
mod seed;
mod table;
#[cfg(test)]
mod tests;

pub use attempt::Kind;
use discard::Discard;
use facts::Facts;
pub use moment::Beside;
pub use result::{RestoreRun, Took};
pub use table::{Row, State, TABLE, diagram};

use super::Step;
use crate::{
    api::v1alpha1::KeptDatabaseStatus,
    names::{Component, Waiting},
    stack::{Observed, RESTORED, RestoreRequest, Stack},
};

/// The key of a command that records which `rorun.app/retry` of its own a restore has obeyed: it, after the key of the restore's uid.
const RETRIED: &str = "restore-retry/";

/// The restores of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restores {
    /// How far each is.
    pub runs: Vec<RestoreRun>,
    /// The one that goes on.
    pub current: Option<Current>,
    /// The kept Cluster that somebody wants deleted.
    pub discard_cluster: Option<String>,
    /// The Job that drops a kept database, which is to run or runs.
    pub discard: Option<(Step, KeptDatabaseStatus)>,
    /// Why the annotation that discards has no effect.
    pub discard_problem: Option<String>,
    /// The Jobs that exist and are kept for reading.
    pub jobs: Vec<String>,
    /// The databases that restores left.
    pub kept: Vec<KeptDatabaseStatus>,
    /// The restores whose recovery points of before stay.
    pub held: Vec<String>,
    /// The recovery points that restores are about to use.
    pub spared: Vec<String>,
    /// A Job of a restore is to run, or runs.
    pub works: bool,
    /// What the database of the stack began with: a point, or data that were found, in words.
    pub seeded: Option<Result<String, String>>,
    /// What is recorded of restores, beside the commands by annotation.
    pub(super) records: Vec<(String, String)>,
    /// Data were changed, and the record of it is not seen yet: the stack still takes them for those of before.
    pub(super) unrecorded: bool,
}

/// A restore that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// What is asked for.
    pub request: RestoreRequest,
    /// How far it is.
    pub state: State,
    /// Which kind of step it takes, and its Job. `None`: the step is none of a Job.
    pub step: Option<(Kind, Step)>,
    /// It fills a stack whose application has not started yet, and starts once it is filled.
    pub first: bool,
    /// What is written beside the live Cluster, or makes another one live.
    pub beside: Beside,
    /// What is told of it.
    pub waiting: Waiting,
}

impl Restores {
    /// Whether releases, dumps and hibernation wait for a restore.
    pub fn holds(&self) -> bool {
        self.current.as_ref().is_some_and(Current::holds)
    }

    /// Whether no pod of the application runs for a restore.
    pub fn stops(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.state.stops() && !current.request.fills)
    }

    /// The Job of the recovery point of what is live, if it is the step that is due.
    pub fn save(&self) -> Option<(&RestoreRequest, &Step)> {
        let current = self.current.as_ref()?;
        current.step.as_ref().filter(|(kind, _)| *kind == Kind::Save).map(|(_, step)| (&current.request, step))
    }
}

impl Current {
    /// Whether objects are restored: all along, or by the step that is due.
    pub fn needs_bucket(&self) -> bool {
        self.request.bucket || matches!(&self.step, Some((Kind::Objects, _)))
    }

    fn holds(&self) -> bool {
        if self.first {
            return self.state != State::Complete;
        }
        self.state.holds() && !(self.request.fills && matches!(self.state, State::Refused | State::Broken))
    }
}

/// Plans the restores of a stack. `foreign`: the Job that works on live data and is none of a restore.
pub(super) fn restores(stack: &Stack, observed: &Observed, foreign: Option<&str>, now: i64) -> Restores {
    // First, since the application of a new stack waits for it.
    let requests = seed::due(stack, observed).into_iter().chain(&observed.restores);
    let mut all: Vec<Facts<'_>> = requests.map(|request| Facts::of(stack, observed, request, now)).collect();
    let chosen = choose::choose(&mut all, foreign);
    let kept = kept::kept(stack, observed, &all);
    let (discard, discard_problem) = discard::discard(stack, observed, &kept, &all);
    let (discard, discard_cluster) = match discard {
        Some(Discard::Database(step, database)) => (Some((step, database)), None),
        Some(Discard::Cluster(name)) => (None, Some(name)),
        None => (None, None),
    };
    let mut restores = Restores {
        seeded: seed::seeded(observed).or_else(|| all.iter().find_map(seed::outcome)),
        jobs: kept::jobs(observed, &all),
        records: records(observed, &all),
        held: all
            .iter()
            .map(|facts| facts.request.uid.clone())
            .chain(kept.iter().map(|of| of.restore_uid.clone()))
            .collect(),
        spared: all.iter().filter_map(spared).collect(),
        kept,
        discard,
        discard_cluster,
        discard_problem,
        ..Restores::default()
    };
    restores.held.sort();
    restores.held.dedup();
    restores.spared.sort();
    restores.spared.dedup();
    for (index, facts) in all.iter().enumerate() {
        let state = facts.state();
        restores.runs.push(facts.run(state));
        if chosen == Some(index) {
            let waiting = facts.current(state);
            let started = observed.releases.served().is_some() || !observed.releases.workloads.is_empty();
            let (request, step) = (facts.request.clone(), facts.step(state));
            let first = request.fills && !started;
            let beside = facts.beside(state, now);
            restores.current = Some(Current { request, state, step, first, beside, waiting });
        }
    }
    restores.unrecorded = is_unrecorded(observed, &restores.records);
    let due = restores.current.as_ref().and_then(|current| current.step.as_ref()).map(|(_, step)| step);
    restores.works = due.into_iter().chain(restores.discard.as_ref().map(|(step, _)| step)).any(|step| !step.exists)
        || attempt::running(observed).is_some();
    restores
}

/// The recovery point that a restore is about to use.
fn spared(facts: &Facts<'_>) -> Option<String> {
    let point = facts.request.point.as_ref().ok()?;
    point.moment.is_none().then(|| point.id.clone())
}

/// What is recorded: that a restore has changed data, so that no other of its name does so again, and what it has obeyed.
fn records(observed: &Observed, all: &[Facts<'_>]) -> Vec<(String, String)> {
    let mut records = Vec::new();
    // Also of one that is gone.
    let named = observed.clusters.named.as_ref().filter(|named| !named.restore.is_empty());
    records.extend(named.map(|named| (format!("{RESTORED}{}", named.restore), named.restore_uid.clone())));
    for facts in all {
        if let Some(outcome) = seed::outcome(facts) {
            records.push(seed::record(outcome));
        }
        if facts.has_changed_data() && !facts.request.seeds() {
            let key = format!("{RESTORED}{}", facts.request.name);
            // Of two of one name the later one counts, else each reconcile would write both.
            records.retain(|(other, _)| *other != key);
            records.push((key, facts.request.uid.clone()));
        }
        if facts.obeys_retry {
            records.push((format!("{RETRIED}{}", facts.request.uid), facts.request.retry.clone()));
        }
    }
    records
}

/// Whether one of these records, of data that were changed, is to be written still.
fn is_unrecorded(observed: &Observed, records: &[(String, String)]) -> bool {
    let commands = observed.handled.as_ref().map(|handled| &handled.commands);
    let known = |key: &String| commands.and_then(|commands| commands.get(key)).map(|command| &command.value);
    records.iter().any(|(key, value)| key.starts_with(RESTORED) && known(key) != Some(value))
}

/// A Job of a restore that runs, as `job/<name>`.
pub(super) fn running(observed: &Observed) -> Option<String> {
    attempt::running(observed).map(|job| format!("job/{}", job.name))
}

/// Whether a dump is one that a restore makes of what is live.
pub(super) fn is_save(stack: &str, observed: &Observed, job: &str) -> bool {
    observed
        .restores
        .iter()
        .any(|request| attempt::names(stack, request, Kind::Save).take(attempt::MOST).any(|name| name == job))
}

/// How far each restore is, of a stack that is being deleted: none goes on.
pub(super) fn last_runs(stack: &str, observed: &Observed) -> Vec<RestoreRun> {
    let message = format!("rorunstack/{stack} is being deleted");
    let waiting = Waiting::new(crate::names::reason::TERMINATING, message);
    observed.restores.iter().map(|request| RestoreRun::waits(request, waiting.clone())).collect()
}

/// The component of a kind of Job: what is live is saved as any backup is.
fn component(kind: Kind) -> Component {
    if kind == Kind::Save { Component::Backup } else { Component::Restore }
}
