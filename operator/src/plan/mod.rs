//! What happens over time: which steps a stack takes now, and which of them are over.
//!
//! What enters: a valid stack, and what was observed of its Jobs, records and commands. What leaves: a [`Plan`]. A step is a Job
//! whose name says what it means, so planning the same step twice is planning it once. Nothing is remembered between two
//! reconciles but what the cluster holds. Forbidden here: the client, the clock, the environment, random numbers.

mod backup;
mod commands;
mod drill;
mod operation;
mod picked;
pub mod release;
mod step;

pub use backup::{BackupResult, BackupRun, BackupRunState};
pub use operation::{Operation, Operations, choose};
pub use picked::picked;
pub use release::Release;
pub use step::{Step, meaning};

use crate::{
    names::{Component, Waiting, annotation, reason},
    stack::{Handled, JobPhase, Observed, Stack},
};

/// The steps of a stack, and the record of the commands that were obeyed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The dumps that somebody asked for: the newest ones, and the one that is to be made.
    pub backups: Vec<Step>,
    /// How far the backup of each RorunBackup is.
    pub backup_runs: Vec<BackupRun>,
    /// The drills that somebody asked for: the newest one, and the one that is to be made.
    pub drills: Vec<Step>,
    /// The commands that were handled. `None`: none ever was.
    pub handled: Option<Handled>,
    /// The release on its way, or the one that serves.
    pub release: Release,
    /// What the stack does now, and what comes next.
    pub operations: Operations,
    /// A Job works on live data, or is to: a deletion of the stack waits for its end.
    pub works_on_data: bool,
    /// No pod runs. Of a suspended stack it is as it was.
    pub hibernates: bool,
    /// No dump begins: a migration runs, or the stack hibernates or wakes.
    pub dumps_paused: bool,
}

impl Plan {
    /// When the plan may be another one though nothing happens, in seconds since 1970.
    pub fn turns_at(&self) -> Option<i64> {
        let words = |run: &BackupRun| match run.state {
            BackupRunState::Runs(_, None) => run.turns_at,
            _ => None,
        };
        self.release.turns_at.into_iter().chain(self.backup_runs.iter().filter_map(words)).min()
    }
}

/// Plans the steps of a stack. `now` is in seconds since 1970: moments that are recorded, and deadlines.
pub fn plan(stack: &Stack, observed: &Observed, now: i64) -> Plan {
    let asked = backup::asked(stack, observed);
    let drill = drill::asked(stack, observed);
    let obeyed = [(&asked, annotation::BACKUP), (&drill, annotation::VERIFY)];
    let exists = |(step, _): &(&Option<Step>, _)| step.as_ref().is_some_and(|step| step.exists);
    let handled = commands::handled(observed, obeyed.into_iter().filter(exists).map(|(_, annotation)| annotation));
    let operations = operations(stack, observed);
    let asleep = observed.releases.workloads.values().any(|there| there.asleep);
    let hibernates = operations.current == Some(Operation::Hibernation) && (!stack.suspend || asleep);
    let release = release::release(stack, observed, hibernates, now);
    let operations = match operations.current {
        None if release.state.has_begun() => Operations { current: Some(Operation::Release), ..operations },
        _ => operations,
    };
    // A suspended stack goes on as it was.
    let sleeps = hibernates || (stack.hibernation.cause.is_some() && !stack.suspend);
    let dumps_paused = release.migration_runs || sleeps || wakes(stack, observed);
    let backup_runs = backup::runs(&stack.name, observed, backup::held(stack, observed).as_ref(), now);
    let backups = backup::steps(asked, &backup_runs, (stack, observed));
    let drills = drill::steps(drill, observed);
    let begins = backups.iter().chain(&release.migration).chain(&release.recovery_point).any(|step| !step.exists);
    let works_on_data = begins || on_live_data(observed).is_some();
    Plan { backups, backup_runs, drills, handled, release, operations, works_on_data, hibernates, dumps_paused }
}

/// What the stack is asked to do beside its releases.
fn operations(stack: &Stack, observed: &Observed) -> Operations {
    let asked = stack.hibernation.cause.map(|_| Operation::Hibernation);
    choose(asked.as_slice(), on_live_data(observed).as_deref())
}

/// How far the backup of each RorunBackup is, of a stack that is being deleted: none begins any more.
pub fn last_backup_runs(stack: &str, observed: &Observed, now: i64) -> Vec<BackupRun> {
    let message = format!("rorunstack/{stack} is being deleted");
    backup::runs(stack, observed, Some(&Waiting::new(reason::TERMINATING, message)), now)
}

/// The Job that works on live data, as `job/<name>`: a dump, or a migration. Nothing ends it half-way.
pub fn on_live_data(observed: &Observed) -> Option<String> {
    let migrations = observed.jobs.iter().filter(|job| job.component == Component::Migration);
    let migration = migrations.filter(|job| job.phase == JobPhase::Running).map(|job| job.name.as_str()).next();
    observed.dump.as_deref().or(migration).map(|job| format!("job/{job}"))
}

/// Whether the application is yet to start after the stack hibernated: dumps begin once it has. One that had no pods since the spec
/// asked for none does not wake.
fn wakes(stack: &Stack, observed: &Observed) -> bool {
    let there = observed.releases.workloads.get(&Component::Api);
    observed.hibernation.slept && there.is_some_and(|there| there.asleep) && stack.api.replicas.floor() > 0
}
