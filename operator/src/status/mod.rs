//! From what was observed and applied to the status that the user reads. Pure: the clock is passed in.
//!
//! Runs for failures too: whatever a reconcile ends with has a condition with a reason, and the root cause in `Ready`.

mod available;
mod backup;
mod commands;
mod conditions;
mod hibernation;
mod release;
mod requests;
mod restore;
mod root_cause;
mod services;
mod summary;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use hibernation::without_pods_since;
pub use requests::{of_backup, of_restore, stack_not_found};
pub use root_cause::{RootCause, root_cause};

use crate::{
    api::v1alpha1::{BackupStatus, RorunStack, RorunStackStatus, VerifiedRecord},
    names::{Component, Waiting, reason},
    objects::{LiveSet, Readiness},
    plan::{Operations, Release, Restores},
    stack::{Archives, Stack},
};

/// The report that a status is made of.
pub struct Report<'a> {
    /// The resource.
    pub cr: &'a RorunStack,
    /// The status of the last reconcile.
    pub old: Option<RorunStackStatus>,
    /// Its valid form.
    pub stack: &'a Stack,
    /// The release on its way, or the one that serves.
    pub release: &'a Release,
    /// The restores of the stack.
    pub restores: &'a Restores,
    /// What the stack does now, and what comes next.
    pub operations: &'a Operations,
    /// Its live objects.
    pub live: &'a LiveSet,
    /// Whether each component that the spec asks for serves, in the order in which one needs the other.
    pub readiness: Vec<(Component, Readiness)>,
    /// A note on a component that serves.
    pub notes: BTreeMap<Component, String>,
    /// The newest good backup whose pod still exists, with the other results of its run.
    pub backup: Option<BackupStatus>,
    /// The newest drill that found nothing wrong and whose pod still exists.
    pub verified: Option<VerifiedRecord>,
    /// What can be recovered to any moment, as far as the cluster tells.
    pub point_in_time: Option<Archives>,
    /// How many pods each workload asks for that was written just now.
    pub begun: BTreeMap<Component, i32>,
}

/// The status.
pub fn status(report: &Report<'_>, now: Timestamp) -> RorunStackStatus {
    let generation = report.cr.metadata.generation;
    let cause = root_cause(&report.readiness);
    let old = report.old.clone().unwrap_or_default();
    let backup = backup::remembered(&old, report, now);
    let notes = backup::notes(report, backup.as_ref());
    let (hibernated_since, expires_at, expiry) = hibernation::told(report, &old, now);
    let drill = backup::drill_note(backup.as_ref());
    let facts = conditions::facts(report, cause.as_ref(), [notes.as_ref(), drill.as_ref()]);
    let conditions = conditions::merge(&old.conditions, facts, generation, now);
    RorunStackStatus {
        observed_generation: generation,
        hibernated_seconds: hibernation::seconds(&old, &conditions, now),
        conditions,
        environment: Some(report.stack.environment),
        components: summary::components(report, notes.as_ref()),
        services: if report.stack.suspend { old.services } else { services::services(report) },
        endpoints: summary::endpoints(report.stack),
        backup,
        // Of a suspended stack nothing is recorded, so a moment would be another one each time.
        restore: restore::told(report),
        release: if report.stack.suspend { old.release } else { release::told(report, now) },
        hibernated_since,
        expires_at,
        expiry,
    }
}

/// The status of a stack that cannot be reconciled, or cannot be deleted, before its components can be judged.
pub fn stopped(cr: &RorunStack, old: Option<RorunStackStatus>, waiting: &Waiting, now: Timestamp) -> RorunStackStatus {
    let mut status = old.unwrap_or_default();
    let generation = cr.metadata.generation;
    status.observed_generation = generation;
    if let Some(release) = &mut status.release {
        release.retry = release::retry(cr);
    }
    let facts = conditions::stopped(&status.conditions, waiting);
    let conditions = conditions::merge(&status.conditions, facts, generation, now);
    status.hibernated_seconds = hibernation::seconds(&status, &conditions, now);
    status.conditions = conditions;
    status
}

/// The note on a component that serves. The note of an earlier process may contain the rest already.
fn note(report: &Report<'_>, component: Component) -> Option<String> {
    let probed = report.stack.note(component).unwrap_or_default();
    let other = report.notes.get(&component).filter(|other| !probed.contains(other.as_str()));
    let notes: Vec<_> = Some(probed.as_str()).into_iter().chain(other.map(String::as_str)).collect();
    let notes: Vec<_> = notes.into_iter().filter(|note| !note.is_empty()).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Reasons that end only when a user changes something.
pub(crate) const NEEDS_THE_USER: &[reason::Reason] = &[
    reason::REFERENCE_MISSING,
    reason::KEY_MISSING,
    reason::INVALID_VALUE,
    reason::INVALID_SPEC,
    reason::CREDENTIALS_LOST,
    reason::CREDENTIALS_CHANGED,
    reason::VOLUME_TERMINATING,
    reason::NAME_TAKEN,
    reason::APPLY_REFUSED,
    reason::FORBIDDEN,
    reason::UNSUPPORTED,
    reason::CONFIRMATION_REQUIRED,
    reason::PODS_REFUSED,
    reason::SCALED_TO_ZERO,
    reason::INGRESS_CLASS_MISSING,
    reason::ROLLOUT_STUCK,
    reason::ADDRESS_REFUSED,
    reason::TOO_LARGE,
    reason::BACKUPS_UNKNOWN,
    reason::MIGRATION_FAILED,
    reason::RECOVERY_POINT_FAILED,
    reason::SMOKE_TEST_FAILED,
    reason::ROLLED_BACK,
    reason::VERSION_MISMATCH,
    reason::POD_TEMPLATE_REFUSED,
    reason::MISSING_API,
    reason::BACKUP_NOT_SET,
    reason::RESTORE_FAILED,
    reason::ANOTHER_STACK,
    reason::ALREADY_RESTORED,
    reason::SEED_REFUSED,
    reason::POINT_IN_TIME_UNSUPPORTED,
    reason::MOMENT_OUT_OF_REACH,
    reason::LIVE_CLUSTER_UNKNOWN,
    reason::STACK_NOT_FOUND,
    reason::CLUSTER_MODE_MISMATCH,
    reason::DATABASE_STALLED,
    reason::PROVIDER_REFUSED,
];

/// The readiness of each component. A refusal of the API server goes before all else.
pub fn with_refusals(
    readiness: Vec<(Component, Readiness)>,
    refused: &BTreeMap<Component, Waiting>,
) -> Vec<(Component, Readiness)> {
    let worse = |(component, readiness)| match refused.get(&component) {
        Some(waiting) => (component, Readiness::Waiting(waiting.clone())),
        None => (component, readiness),
    };
    readiness.into_iter().map(worse).collect()
}
