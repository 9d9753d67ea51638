//! What happens over time: which steps a stack takes now, and which of them are over.
//!
//! What enters: a valid stack, and what was observed of its Jobs, records and commands. What leaves: a [`Plan`]. A step is a Job
//! whose name says what it means, so planning the same step twice is planning it once. Nothing is remembered between two
//! reconciles but what the cluster holds. Forbidden here: the client, the clock, the environment, random numbers.

mod backup;
mod bucket_rules;
mod commands;
mod drill;
mod operation;
mod picked;
mod preflight;
pub mod release;
pub mod restore;
mod sanitize;
mod step;

pub use backup::{BackupResult, BackupRun, BackupRunState};
use operation::choose;
pub use operation::{Operation, Operations};
pub use picked::picked;
pub use release::{Pause, Release};
pub use restore::{RestoreRun, Restores};
pub use sanitize::Sanitizes;
pub use step::Step;

pub use crate::names::meaning;
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
    /// The points that are sanitized.
    pub sanitizes: Sanitizes,
    /// The drills that somebody asked for: the newest one, and the one that is to be made.
    pub drills: Vec<Step>,
    /// The commands that were handled. `None`: none ever was.
    pub handled: Option<Handled>,
    /// The Job that sets the rules of the bucket.
    pub bucket_rules: Vec<Step>,
    /// The Job that asks services from the place of the pods.
    pub preflight: Option<Step>,
    /// The release on its way, or the one that serves.
    pub release: Release,
    /// The restores of the stack.
    pub restores: Restores,
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
    /// When the plan may be another one though nothing happens, in seconds since 1970. Some may be over: a suspended stack gives nothing
    /// up at its deadline, which must not hide a later moment.
    pub fn turns_at(&self) -> impl Iterator<Item = i64> {
        let words = |run: &BackupRun| match run.state {
            BackupRunState::Runs(_, None) => run.turns_at,
            _ => None,
        };
        self.release
            .turns_at
            .into_iter()
            .chain(self.backup_runs.iter().filter_map(words))
            .chain(self.restores.runs.iter().filter_map(|run| run.turns_at))
    }
}

/// Plans the steps of a stack. `now` is in seconds since 1970: moments that are recorded, and deadlines.
pub fn plan(stack: &Stack, observed: &Observed, now: i64) -> Plan {
    let restores = restore::restores(stack, observed, foreign(stack, observed).as_deref(), now);
    let may_begin = |step: &Step| step.exists || !restores.holds();
    let asked = backup::asked(stack, observed).filter(may_begin);
    let drill = drill::asked(stack, observed).filter(may_begin);
    let obeyed = [(&asked, annotation::BACKUP), (&drill, annotation::VERIFY)];
    let obeyed = obeyed.into_iter().filter(|(step, _)| step.as_ref().is_some_and(|step| step.exists));
    let obeyed = obeyed.filter_map(|(_, annotation)| {
        let value = observed.annotations.get(annotation)?;
        Some((annotation.to_owned(), value.clone()))
    });
    let retry = observed.annotations.get(annotation::RETRY).map(|value| (annotation::RETRY.to_owned(), value.clone()));
    let handled = commands::handled(observed, obeyed.chain(retry).chain(restores.records.clone()));
    let operations = operations(stack, observed, &restores);
    let asleep = observed.releases.workloads.values().any(|there| there.asleep);
    let hibernates = operations.current == Some(Operation::Hibernation) && (!stack.suspend || asleep);
    // Nothing starts on a database that is being filled, though the spec does not ask for that any more.
    let started = observed.releases.served().is_some() || !observed.releases.workloads.is_empty();
    let fills = !started && restore::running(observed).is_some();
    // A release that was migrated before a switch would begin to serve data that it did not migrate.
    let pause = match (restores.holds() || restores.unrecorded || fills, hibernates) {
        (true, _) => Pause::Restore,
        (false, true) => Pause::Hibernation,
        (false, false) => Pause::None,
    };
    let release = release::release(stack, observed, pause, now);
    let operations = match operations.current {
        None if release.state.has_begun() => Operations { current: Some(Operation::Release), ..operations },
        _ => operations,
    };
    // A suspended stack goes on as it was.
    let sleeps = hibernates || (stack.hibernation.cause.is_some() && !stack.suspend);
    let dumps_paused = release.migration_runs || sleeps || wakes(stack, observed) || restores.holds();
    let held = backup::held(stack, observed).or_else(|| held_by(&restores));
    let backup_runs = backup::runs(&stack.name, observed, held.as_ref(), now);
    let backups = backup::steps(asked, &backup_runs, (stack, observed));
    let sanitizes = sanitize::sanitizes(stack, observed, &backup_runs);
    let drills = drill::steps(drill, observed);
    let bucket_rules = bucket_rules::steps(stack, observed, sleeps);
    let preflight = preflight::step(stack, sleeps);
    let begins = backups.iter().chain(&release.migration).chain(&release.recovery_point).any(|step| !step.exists);
    let works_on_data = begins || restores.works || on_live_data(observed).is_some();
    Plan {
        backups,
        backup_runs,
        sanitizes,
        drills,
        handled,
        bucket_rules,
        preflight,
        release,
        restores,
        operations,
        works_on_data,
        hibernates,
        dumps_paused,
    }
}

/// What the stack is asked to do beside its releases.
fn operations(stack: &Stack, observed: &Observed, restores: &Restores) -> Operations {
    let restore = restores.holds().then_some(Operation::Restore);
    let asked: Vec<_> = stack.hibernation.cause.map(|_| Operation::Hibernation).into_iter().chain(restore).collect();
    // The Jobs of a restore are its own.
    let job = if restores.holds() { foreign(stack, observed) } else { on_live_data(observed) };
    choose(&asked, job.as_deref())
}

/// That no backup begins while a restore goes on.
fn held_by(restores: &Restores) -> Option<Waiting> {
    let current = restores.current.as_ref().filter(|_| restores.holds())?;
    let message = format!("it begins once {} is complete, or no longer changes data", current.request.subject());
    Some(Waiting::new(reason::DEPENDENCY_NOT_READY, message))
}

/// The Job that works on live data, and is none of a restore.
fn foreign(stack: &Stack, observed: &Observed) -> Option<String> {
    let dump = observed.dump.as_deref().filter(|job| !restore::is_save(&stack.name, observed, job));
    dump.or(migration(observed)).map(|job| format!("job/{job}"))
}

/// The plan of a stack that is being deleted: nothing begins any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastPlan {
    /// The deletion, or what it waits for.
    pub operations: Operations,
    /// How far the backup of each RorunBackup is.
    pub backup_runs: Vec<BackupRun>,
    /// How far each RorunRestore is.
    pub restore_runs: Vec<RestoreRun>,
}

/// Plans the end of a stack. Whatever else it is asked for, its deletion goes first, and waits for the Job alone that works on live data.
pub fn last_plan(stack: &str, observed: &Observed, now: i64) -> LastPlan {
    let sleeps = observed.hibernation.cause.map(|_| Operation::Hibernation);
    let restores = observed.restores.first().map(|_| Operation::Restore);
    let asked: Vec<_> = sleeps.into_iter().chain(restores).chain([Operation::Deletion]).collect();
    let message = format!("rorunstack/{stack} is being deleted");
    LastPlan {
        operations: choose(&asked, on_live_data(observed).as_deref()),
        backup_runs: backup::runs(stack, observed, Some(&Waiting::new(reason::TERMINATING, message)), now),
        restore_runs: restore::last_runs(stack, observed),
    }
}

/// The Job that works on live data, as `job/<name>`: a dump, a migration, or a step of a restore. Nothing ends it half-way.
fn on_live_data(observed: &Observed) -> Option<String> {
    let job = observed.dump.as_deref().or(migration(observed)).map(|job| format!("job/{job}"));
    job.or_else(|| restore::running(observed))
}

fn migration(observed: &Observed) -> Option<&str> {
    let migrations = observed.jobs.iter().filter(|job| job.component == Component::Migration);
    migrations.filter(|job| job.phase == JobPhase::Running).map(|job| job.name.as_str()).next()
}

/// Whether the application is yet to start after the stack hibernated: dumps begin once it has. One that had no pods since the spec
/// asked for none does not wake.
fn wakes(stack: &Stack, observed: &Observed) -> bool {
    let there = observed.releases.workloads.get(&Component::Api);
    observed.hibernation.slept && there.is_some_and(|there| there.asleep) && stack.api.replicas.floor() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Cause, ObservedJob, RestorePoint, RestoreRequest};

    #[test]
    fn a_deletion_goes_before_whatever_else_is_asked_for_and_waits_for_live_data_alone() {
        let mut observed = Observed::default();
        observed.hibernation.cause = Some(Cause::Spec);
        observed.restores = vec![RestoreRequest {
            uid: "1".to_owned(),
            name: "back".to_owned(),
            stack_uid: None,
            fills: false,
            database: true,
            bucket: false,
            into: None,
            retry: String::new(),
            copy_uid: None,
            point: Ok(RestorePoint::default()),
        }];
        let plan = last_plan("shop", &observed, 0);
        assert_eq!(plan.operations, Operations { current: Some(Operation::Deletion), next: None });
        assert_eq!(plan.restore_runs.len(), 1, "it is told that it does not go on");
        let job = |name: &str, component| ObservedJob {
            name: name.to_owned(),
            component,
            created: 0,
            said: None,
            begun: None,
            phase: JobPhase::Running,
            ended: None,
        };
        observed.jobs = vec![job("shop-drill-1", Component::Drill)];
        assert_eq!(last_plan("shop", &observed, 0).operations.next, None, "a drill touches no live data");
        observed.jobs.push(job("shop-migration-1", Component::Migration));
        let next = Some((Operation::Deletion, "job/shop-migration-1".to_owned()));
        assert_eq!(last_plan("shop", &observed, 0).operations, Operations { current: None, next });
    }
}
