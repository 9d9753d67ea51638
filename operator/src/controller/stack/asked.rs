//! What is asked of a stack beside its spec, and the answers.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::Context;
use crate::{
    api::v1alpha1::{RestoreScope, RestoreTarget, RorunBackup, RorunRestore, RorunStack},
    names::{Component, Waiting, reason},
    plan::{BackupRun, BackupRunState, RestoreRun},
    runtime::ResourceKey,
    stack::{BackupRequest, Observed, PointProblem, RestorePoint, RestoreRequest},
};

/// Why the components of a stack stay as they are for now.
type Held<'a> = &'a std::collections::BTreeMap<Component, Waiting>;

impl Context {
    /// Reads the RorunBackups and RorunRestores of a stack that are not over, and what restores left.
    pub(super) fn observe_asked(&self, cr: &RorunStack, stack: &ResourceKey, observed: &mut Observed) {
        let backup = |of: &Arc<RorunBackup>| BackupRequest { uid: of.uid().unwrap_or_default(), name: of.name_any() };
        observed.backups = self.requests.backups.of(stack).iter().map(backup).collect();
        let told = self.runtime.statuses.last(cr);
        let latest = told.as_ref().and_then(|status| status.backup.as_ref()?.last_successful.as_ref());
        let latest = latest.map(|record| record.id.clone());
        let restore = |of: &Arc<RorunRestore>| self.restore_request(of, stack, latest.as_deref());
        observed.restores = self.requests.restores.of(stack).iter().map(restore).collect();
        observed.kept = told.and_then(|status| status.restore).map(|restore| restore.kept).unwrap_or_default();
    }

    fn restore_request(&self, of: &RorunRestore, stack: &ResourceKey, latest: Option<&str>) -> RestoreRequest {
        let spec = &of.spec;
        let scope = spec.scope.clone().unwrap_or_else(|| vec![RestoreScope::Database]);
        let fills = spec.target == Some(RestoreTarget::Stack);
        RestoreRequest {
            uid: of.uid().unwrap_or_default(),
            name: of.name_any(),
            stack_uid: spec.stack_ref.uid.clone(),
            fills,
            database: scope.contains(&RestoreScope::Database),
            bucket: scope.contains(&RestoreScope::Bucket),
            into: spec.into_secret_ref.clone(),
            point: self.point(of, stack, latest),
        }
    }

    /// The recovery point that a RorunRestore names.
    fn point(
        &self,
        of: &RorunRestore,
        stack: &ResourceKey,
        latest: Option<&str>,
    ) -> Result<RestorePoint, PointProblem> {
        let from = &of.spec.from;
        if let Some(id) = &from.id {
            return Ok(RestorePoint { id: id.clone(), folder: None });
        }
        if let Some(location) = &from.location {
            let wrong = || Waiting::new(reason::INVALID_SPEC, "from.location names no recovery point");
            return RestorePoint::at(location).ok_or_else(|| PointProblem::Final(wrong()));
        }
        if let Some(moment) = &from.point_in_time {
            return Err(PointProblem::Final(between(moment.0, latest)));
        }
        let name = from.backup_ref.as_ref().map(|backup| backup.name.clone()).unwrap_or_default();
        let backup = ResourceKey { namespace: stack.namespace.clone(), name: name.clone() };
        let location = self.requests.point(&backup);
        location.as_deref().and_then(RestorePoint::at).ok_or_else(|| {
            let message = format!("rorunbackup/{name} has no recovery point: it does not exist, or is not complete");
            PointProblem::Waits(Waiting::new(reason::DEPENDENCY_NOT_READY, message))
        })
    }

    /// Tells what is asked of a stack how far it is. `held`: why components of the stack stay as they are for now.
    pub(super) fn tell(&self, stack: &ResourceKey, (backups, restores): (&[BackupRun], &[RestoreRun]), held: Held<'_>) {
        let backup = |run: &BackupRun| {
            let mut run = run.clone();
            if let (BackupRunState::Waits(why), Some(waiting)) = (&mut run.state, held.get(&Component::Backup))
                && why.reason == reason::PROGRESSING
            {
                why.clone_from(waiting);
            }
            (run.uid.clone(), run)
        };
        self.requests.backups.tell(stack, backups.iter().map(backup).collect());
        let restore = |run: &RestoreRun| (run.uid.clone(), run.clone());
        self.requests.restores.tell(stack, restores.iter().map(restore).collect());
    }
}

/// That a moment between two recovery points cannot be restored, and what can be.
fn between(moment: Timestamp, latest: Option<&str>) -> Waiting {
    let nearest = latest.map(|id| format!(", of which the newest known is {id}")).unwrap_or_default();
    let message = format!(
        "the database does not archive its write-ahead log, so the moment {moment} cannot be restored: name a recovery point \
         with from.id instead{nearest}; the others are the folders beside it in the bucket"
    );
    Waiting::new(reason::POINT_IN_TIME_UNSUPPORTED, message)
}
