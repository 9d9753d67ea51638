//! What is asked of a stack beside its spec, and the answers.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::Context;
use crate::{
    api::v1alpha1::{RestoreScope, RestoreTarget, RorunBackup, RorunRestore, RorunStack},
    desired::{begun, known_points},
    names::{Component, Waiting, annotation, reason},
    objects::LiveSet,
    plan::{BackupRun, BackupRunState, RestoreRun},
    runtime::ResourceKey,
    stack::{
        self, BackupRequest, Clusters, Observed, PointProblem, References, RestorePoint, RestoreRequest,
        SanitizeRequest, clusters,
    },
};

/// Why the components of a stack stay as they are for now.
type Held<'a> = &'a std::collections::BTreeMap<Component, Waiting>;

impl Context {
    /// The Secrets that the RorunBackups of a stack name.
    pub(super) fn asked_references(&self, stack: &ResourceKey) -> References {
        let mut found = References::default();
        self.requests.backups.of(stack).iter().for_each(|of| found.add(stack::backup_references(&of.spec)));
        found
    }

    /// Reads the RorunBackups of a stack that are not over. The Secrets that they name are observed before.
    pub(super) fn observe_backups(&self, cr: &RorunStack, stack: &ResourceKey, observed: &mut Observed) {
        let backup = |of: &Arc<RorunBackup>| BackupRequest {
            uid: of.uid().unwrap_or_default(),
            name: of.name_any(),
            sanitize: SanitizeRequest::of(&of.spec, &cr.spec, observed),
        };
        let backups = self.requests.backups.of(stack).iter().map(backup).collect();
        observed.backups = backups;
    }

    /// Reads the RorunRestores of a stack that are not over, and what restores left. A restore to a moment names Secrets.
    pub(super) fn observe_restores(
        &self,
        (cr, stack): (&RorunStack, &ResourceKey),
        live: &LiveSet,
        observed: &mut Observed,
    ) {
        let told = self.runtime.statuses.last(cr);
        let latest = told.as_ref().and_then(|status| status.backup.as_ref()?.last_successful.as_ref());
        let latest = latest.map(|record| record.id.clone());
        let archives = stack::cluster(cr).is_some()
            && cr.spec.backup.as_ref().is_some_and(|backup| backup.point_in_time.is_some());
        let mut points = known_points(live);
        points.extend(latest.filter(|latest| !points.contains(latest)));
        points.sort();
        let known = Known { points, archives, clusters: &observed.clusters };
        let restore = |of: &Arc<RorunRestore>| self.restore_request(of, stack, &known);
        let restores = self.requests.restores.of(stack).iter().map(restore).collect();
        observed.restores = restores;
        observed.kept = told.and_then(|status| status.restore).map(|restore| restore.kept).unwrap_or_default();
    }

    fn restore_request(&self, of: &RorunRestore, stack: &ResourceKey, known: &Known<'_>) -> RestoreRequest {
        let spec = &of.spec;
        let uid = of.uid().unwrap_or_default();
        let copy = known.clusters.find(&clusters::recovered_name(&stack.name, &uid));
        let scope = spec.scope.clone().unwrap_or_else(|| vec![RestoreScope::Database]);
        let fills = spec.target == Some(RestoreTarget::Stack);
        RestoreRequest {
            copy_uid: copy.map(|there| there.uid.clone()),
            uid,
            name: of.name_any(),
            stack_uid: spec.stack_ref.uid.clone(),
            fills,
            database: scope.contains(&RestoreScope::Database),
            bucket: scope.contains(&RestoreScope::Bucket),
            into: spec.into_secret_ref.clone(),
            retry: of.annotations().get(annotation::RETRY).cloned().unwrap_or_default(),
            point: self.point(of, stack, known),
        }
    }

    /// The recovery point that a RorunRestore names.
    fn point(&self, of: &RorunRestore, stack: &ResourceKey, known: &Known<'_>) -> Result<RestorePoint, PointProblem> {
        let from = &of.spec.from;
        if let Some(id) = &from.id {
            return Ok(RestorePoint { id: id.clone(), moment: None, folder: None });
        }
        if let Some(location) = &from.location {
            let wrong = || Waiting::new(reason::INVALID_SPEC, "from.location names no recovery point");
            return RestorePoint::at(location).ok_or_else(|| PointProblem::Final(wrong()));
        }
        if let Some(moment) = &from.point_in_time {
            // One that has begun goes on by what its archive has.
            let begun = of.status.as_ref().is_some_and(|status| status.started_at.is_some());
            let point = (known.archives || begun).then(|| RestorePoint::of_moment(moment.0));
            return point.ok_or_else(|| PointProblem::Final(known.between(moment.0)));
        }
        let name = from.backup_ref.as_ref().map(|backup| backup.name.clone()).unwrap_or_default();
        let backup = ResourceKey { namespace: stack.namespace.clone(), name: name.clone() };
        let location = self.requests.point(&backup);
        // Its point outlives a RorunBackup, so one that was deleted ends no restore of the stack's own point half-way.
        let begun = of.status.as_ref().and_then(|status| status.point.clone());
        let begun = begun.filter(|_| of.spec.target != Some(RestoreTarget::Stack));
        let begun = || begun.map(|id| RestorePoint { id, moment: None, folder: None });
        location.as_deref().and_then(RestorePoint::at).or_else(begun).ok_or_else(|| {
            let message = format!("rorunbackup/{name} has no recovery point: it does not exist, or is not complete");
            PointProblem::Waits(Waiting::new(reason::DEPENDENCY_NOT_READY, message))
        })
    }

    /// Tells RorunBackups how far they are. `held`: why components of the stack stay as they are for now.
    pub(super) fn tell_backups(&self, stack: &ResourceKey, runs: &[BackupRun], held: Held<'_>) {
        let asked = self.requests.backups.of(stack);
        let sanitizes =
            |uid: &str| asked.iter().any(|of| of.spec.sanitize.is_some() && of.uid().as_deref() == Some(uid));
        let backup = |run: &BackupRun| {
            let mut run = run.clone();
            let own = if sanitizes(&run.uid) { held.get(&Component::Sanitize) } else { None };
            let waiting = own.or_else(|| held.get(&Component::Backup));
            if let (BackupRunState::Waits(why), Some(waiting)) = (&mut run.state, waiting)
                && why.reason == reason::PROGRESSING
            {
                why.clone_from(waiting);
            }
            (run.uid.clone(), run)
        };
        self.requests.backups.tell(stack, runs.iter().map(backup).collect());
    }

    /// Tells RorunRestores how far they are. Only once the status of the stack is written: one that is over is never looked at again,
    /// and from then on that status alone says which databases it left.
    pub(super) fn tell_restores(&self, stack: &ResourceKey, runs: &[RestoreRun]) {
        let restore = |run: &RestoreRun| (run.uid.clone(), run.clone());
        self.requests.restores.tell(stack, runs.iter().map(restore).collect());
    }
}

/// What is known of the recovery points of a stack.
struct Known<'a> {
    /// Those that the last run told of, oldest first.
    points: Vec<String>,
    /// The log of the database is archived.
    archives: bool,
    /// The Clusters of the stack.
    clusters: &'a Clusters,
}

impl Known<'_> {
    /// That a RorunRestore does not restore a moment between two recovery points, and what can be done.
    fn between(&self, moment: Timestamp) -> Waiting {
        let message = format!(
            "the database does not archive its write-ahead log, so the moment {moment} cannot be restored: name a recovery point with \
             from.id instead{}; `rorun-operator recovery-points --endpoint URL --bucket BUCKET --prefix FOLDER` lists all of them",
            nearest(&self.points, moment)
        );
        Waiting::new(reason::POINT_IN_TIME_UNSUPPORTED, message)
    }
}

/// The points right before and after a moment, in words. A point is of the moment that it was begun.
fn nearest(points: &[String], moment: Timestamp) -> String {
    let at = points.partition_point(|id| begun(id).is_some_and(|begun| begun <= moment));
    let before = at.checked_sub(1).and_then(|at| points.get(at));
    match (before, points.get(at)) {
        (Some(before), Some(after)) => format!(", of which the nearest are {before}, before it, and {after}, after it"),
        (Some(before), None) => format!(", of which the newest known is {before}, before it"),
        (None, Some(after)) => format!(", of which the oldest known is {after}, after it"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const POINTS: [&str; 3] = ["20261124T021500Z-x7k2p", "20261125T021500Z-aaaaa", "20261126T021500Z-bbbbb"];

    #[rstest]
    #[case::between(
        "2026-11-25T14:03:00Z",
        ", of which the nearest are 20261125T021500Z-aaaaa, before it, and 20261126T021500Z-bbbbb, after it"
    )]
    #[case::of_one(
        "2026-11-25T02:15:00Z",
        ", of which the nearest are 20261125T021500Z-aaaaa, before it, and 20261126T021500Z-bbbbb, after it"
    )]
    #[case::in_another_zone(
        "2026-11-24T03:00:00+02:00",
        ", of which the oldest known is 20261124T021500Z-x7k2p, after it"
    )]
    #[case::later("2026-11-27T00:00:00Z", ", of which the newest known is 20261126T021500Z-bbbbb, before it")]
    fn the_nearest_points_are_named(#[case] moment: Timestamp, #[case] expected: &str) {
        assert_eq!(nearest(&POINTS.map(str::to_owned), moment), expected);
        assert_eq!(nearest(&[], moment), "");
    }
}
