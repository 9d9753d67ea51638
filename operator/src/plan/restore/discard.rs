//! A kept database that somebody wants dropped: the annotation `rorun.app/discard` is its name.

use super::facts::Facts;
use crate::{
    api::v1alpha1::KeptDatabaseStatus,
    contract::RestoreOutcome,
    names::{Component, ObjectName, annotation},
    plan::{Step, meaning},
    stack::{JobPhase, Observed, Stack, clusters::is_cluster_name},
};

/// What is given up.
pub(super) enum Discard {
    /// A database, by a Job.
    Database(Step, KeptDatabaseStatus),
    /// A Cluster.
    Cluster(String),
}

/// What drops a database or deletes a Cluster that is kept, until it is gone; and why the annotation has no effect.
pub(super) fn discard(
    stack: &Stack,
    observed: &Observed,
    kept: &[KeptDatabaseStatus],
    all: &[Facts<'_>],
) -> (Option<Discard>, Option<String>) {
    let Some(wanted) = observed.annotations.get(annotation::DISCARD) else { return (None, None) };
    let Some(database) = kept.iter().find(|database| database.name == *wanted) else { return (None, None) };
    if let Some(open) = all.iter().find(|facts| facts.request.uid == database.restore_uid && !facts.is_refused()) {
        let message = format!(
            "{} of {wanted} waits until rorunrestore/{}, which uses it, is complete or deleted",
            annotation::DISCARD,
            open.request.name
        );
        return (None, Some(message));
    }
    if is_cluster_name(&stack.name, wanted) {
        return discard_cluster(stack, observed, wanted);
    }
    let name = job_of(&stack.name, database);
    let job = observed.jobs.iter().find(|job| job.name == name);
    let problem = job.and_then(|job| match &job.phase {
        JobPhase::Failed(said) => Some(format!(
            "{wanted} was not dropped: job/{name}: {}; delete that Job, and it is tried again",
            words(said)
        )),
        _ => None,
    });
    if problem.is_some() || stack.suspend || stack.hibernation.cause.is_some() {
        return (None, problem);
    }
    (Some(Discard::Database(Step { name, exists: job.is_some() }, database.clone())), None)
}

/// Never the live one, nor any while nothing says which is live.
fn discard_cluster(stack: &Stack, observed: &Observed, wanted: &str) -> (Option<Discard>, Option<String>) {
    let clusters = &observed.clusters;
    let kept = clusters.find(wanted).is_some_and(|there| !there.deleting);
    let other = clusters.named.is_some() && clusters.live(&stack.name).is_ok_and(|live| live != wanted);
    let gone = kept && other && !stack.suspend && stack.hibernation.cause.is_none();
    (gone.then(|| Discard::Cluster(wanted.to_owned())), None)
}

/// The Job that drops a database.
pub(super) fn job_of(stack: &str, database: &KeptDatabaseStatus) -> String {
    let meaning = meaning(&["discard", &database.restore_uid, &database.name]);
    ObjectName::step(stack, Component::Restore, &meaning).into()
}

fn words(said: &str) -> String {
    match serde_json::from_str(said) {
        Ok(RestoreOutcome::Refused { message, .. } | RestoreOutcome::Failed { message }) => message,
        _ => said.to_owned(),
    }
}
