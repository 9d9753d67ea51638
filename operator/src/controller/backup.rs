//! What `RorunBackup` asks of a stack. Its controller is that of every such type.

use jiff::Timestamp;
use kube::{api::ObjectMeta, runtime::watcher::Event};

use super::requests::{Asked, Request, Requests, is_true};
use crate::{
    api::v1alpha1::{RorunBackup, RorunBackupSpec, RorunBackupStatus},
    names::Waiting,
    plan::{BackupRun, BackupRunState},
    runtime::{Reconciled, Watched},
    status,
};

impl Reconciled for RorunBackup {
    const KIND: &'static str = "RorunBackup";
    const CONTROLLER: &'static str = "rorunbackup";
    const REQUIRED: bool = false;

    fn from_parts(metadata: ObjectMeta, spec: RorunBackupSpec, status: Option<RorunBackupStatus>) -> Self {
        Self { metadata, spec, status: status.filter(RorunBackupStatus::is_observed) }
    }
}

impl Request for RorunBackup {
    type Answer = BackupRun;

    fn stack(&self) -> &str {
        &self.spec.stack_ref.name
    }

    fn is_over(&self) -> bool {
        self.status.as_ref().is_some_and(|status| is_true(&status.conditions, &["Complete", "Failed"]))
    }

    fn is_final(answer: &BackupRun) -> bool {
        matches!(answer.state, BackupRunState::Complete(_) | BackupRunState::Failed(_))
    }

    fn asked(requests: &Requests) -> &Asked<Self> {
        &requests.backups
    }

    fn seen(requests: &Requests, event: &Event<Watched<Self>>) {
        requests.backup_seen(event);
    }

    fn told(
        &self,
        old: Option<&RorunBackupStatus>,
        answer: Result<Option<&BackupRun>, &Waiting>,
        now: Timestamp,
    ) -> RorunBackupStatus {
        status::of_backup(self, old, answer, now)
    }
}
