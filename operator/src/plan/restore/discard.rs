//! A kept database that somebody wants dropped: the annotation `rorun.app/discard` is its name. That of a Cluster comes with its uid:
//! a name is used again, and an annotation that was left over must not delete the one that has it next.

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
    let of_cluster = wanted.split_once('/').filter(|(name, _)| is_cluster_name(&stack.name, name));
    let (wanted, uid) = of_cluster.map_or((wanted.as_str(), None), |(name, uid)| (name, Some(uid)));
    let Some(database) = kept.iter().find(|database| database.name == wanted) else { return (None, None) };
    if let Some(open) = all.iter().find(|facts| facts.request.uid == database.restore_uid && !facts.is_refused()) {
        let message = format!(
            "{} of {wanted} waits until rorunrestore/{}, which uses it, is complete or deleted",
            annotation::DISCARD,
            open.request.name
        );
        return (None, Some(message));
    }
    if is_cluster_name(&stack.name, wanted) {
        return discard_cluster(stack, observed, (wanted, uid));
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

/// Never the live one, nor any while nothing says which is live, nor another one than was meant.
fn discard_cluster(
    stack: &Stack,
    observed: &Observed,
    (wanted, uid): (&str, Option<&str>),
) -> (Option<Discard>, Option<String>) {
    let clusters = &observed.clusters;
    let other = clusters.named.is_some() && clusters.live(&stack.name).is_ok_and(|live| live != wanted);
    let Some(there) = clusters.find(wanted).filter(|there| other && !there.deleting) else { return (None, None) };
    if uid != Some(&there.uid) {
        let meant = if uid.is_some() { "another one of that name" } else { "it without its uid" };
        let message = format!(
            "cluster/{wanted} is kept: {} means {meant}; {} deletes it",
            annotation::DISCARD,
            there.discarded_by()
        );
        return (None, Some(message));
    }
    let awake = !stack.suspend && stack.hibernation.cause.is_none();
    (awake.then(|| Discard::Cluster(wanted.to_owned())), None)
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
