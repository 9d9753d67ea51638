//! What restores leave: databases beside the live one, and Jobs for reading.

use super::{Kind, attempt, discard, facts::Facts};
use crate::{
    api::v1alpha1::KeptDatabaseStatus,
    contract,
    names::Component,
    stack::{ExistingCluster, JobPhase, Observed, ObservedJob, Stack, clusters::is_cluster_name},
};

/// How many Jobs of restores are kept for reading.
const HISTORY: usize = 40;

/// The databases that restores left: those that the last status tells, and what is known of the restores that are not over; without
/// those that were dropped.
pub(super) fn kept(stack: &Stack, observed: &Observed, all: &[Facts<'_>]) -> Vec<KeptDatabaseStatus> {
    let mut kept = observed.kept.clone();
    kept.retain(|database| !is_cluster_name(&stack.name, &database.name));
    let live = stack.connection.as_ref().and_then(|connection| {
        contract::PostgresUrl::parse(&connection.direct_url).ok().map(|url| url.database().to_owned())
    });
    let renames = |facts: &&Facts<'_>| !facts.request.fills && facts.request.into.is_none() && facts.recovery.is_none();
    for facts in all.iter().filter(renames) {
        let uid = &facts.request.uid;
        let named = |made: fn(&str, &str) -> String| live.as_deref().map(|live| made(live, uid)).unwrap_or_default();
        let (copy, before) = (named(contract::copy_database), named(contract::kept_database));
        // It takes the name of the live database by the switch.
        let told = facts.done(Kind::Copy).and_then(|copied| copied.result.database.clone());
        kept.retain(|database| database.name != copy && Some(&database.name) != told.as_ref());
        let entry = |name: String, bytes: u64| KeptDatabaseStatus {
            name,
            size_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            restore: facts.request.name.clone(),
            restore_uid: uid.clone(),
        };
        let left = match (facts.done(Kind::Switch), facts.done(Kind::Copy)) {
            (Some(switched), _) => {
                let told = switched.result.kept.clone();
                Some(told.map_or_else(|| entry(before, 0), |told| entry(told.name, told.size_bytes)))
            }
            (None, Some(copied)) => {
                let name = copied.result.database.clone().unwrap_or(copy);
                Some(entry(name, copied.result.bytes.unwrap_or_default()))
            }
            (None, None) => None,
        };
        let is_new =
            |left: &KeptDatabaseStatus| !left.name.is_empty() && kept.iter().all(|other| other.name != left.name);
        if let Some(left) = left.filter(is_new) {
            kept.push(left);
        }
    }
    kept.retain(|database| !is_dropped(&stack.name, observed, database));
    kept.extend(clusters(stack, observed, all));
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    kept
}

/// The Clusters that are there and not live: those that were, and those that are recovered.
fn clusters(stack: &Stack, observed: &Observed, all: &[Facts<'_>]) -> Vec<KeptDatabaseStatus> {
    let clusters = &observed.clusters;
    let Ok(live) = clusters.live(&stack.name) else {
        let before = observed.kept.iter().filter(|of| is_cluster_name(&stack.name, &of.name));
        return before.cloned().collect();
    };
    let entry = |existing: &ExistingCluster| {
        let uses = |facts: &&Facts<'_>| {
            let recovery = facts.recovery.as_ref();
            recovery.is_some_and(|of| of.cluster == existing.name || of.kept() == Some(&*existing.name))
        };
        let open = all.iter().find(uses).map(|facts| (facts.request.name.clone(), facts.request.uid.clone()));
        let told = observed.kept.iter().find(|of| of.name == existing.name);
        let told = told.map(|of| (of.restore.clone(), of.restore_uid.clone()));
        let named = clusters.named.as_ref().filter(|named| named.before() == Some(&*existing.name));
        let named = named.map(|named| (named.restore.clone(), named.restore_uid.clone()));
        let (restore, restore_uid) = open.or(named).or(told).unwrap_or_default();
        KeptDatabaseStatus { name: existing.name.clone(), size_bytes: existing.size_bytes, restore, restore_uid }
    };
    clusters.existing.iter().filter(|existing| existing.name != live).map(entry).collect()
}

/// Whether its Job is complete.
fn is_dropped(stack: &str, observed: &Observed, database: &KeptDatabaseStatus) -> bool {
    let name = discard::job_of(stack, database);
    observed.jobs.iter().any(|job| job.name == name && job.phase == JobPhase::Complete)
}

/// The newest Jobs of restores, those that run, and every one of a restore that is not over.
pub(super) fn jobs(observed: &Observed, all: &[Facts<'_>]) -> Vec<String> {
    let mut jobs: Vec<&ObservedJob> = observed.jobs.iter().filter(|job| job.component == Component::Restore).collect();
    jobs.sort_by(|a, b| (b.created, &b.name).cmp(&(a.created, &a.name)));
    let open = |job: &ObservedJob| {
        all.iter().any(|facts| {
            Kind::ALL.into_iter().any(|kind| {
                attempt::names(&facts.stack.name, facts.request, kind).take(attempt::MOST).any(|name| name == job.name)
            })
        })
    };
    let stays = |(index, job): &(usize, &ObservedJob)| *index < HISTORY || job.phase == JobPhase::Running || open(job);
    jobs.into_iter().enumerate().filter(stays).map(|(_, job)| job.name.clone()).collect()
}
