//! What `RorunRestore` asks of a stack. Its controller is that of every such type.

use jiff::Timestamp;
use kube::{api::ObjectMeta, runtime::watcher::Event};

use super::requests::{Asked, Request, Requests, is_true};
use crate::{
    api::v1alpha1::{RestoreTarget, RorunRestore, RorunRestoreSpec, RorunRestoreStatus},
    names::Waiting,
    plan::RestoreRun,
    runtime::{Reconciled, Watched},
    status,
};

impl Reconciled for RorunRestore {
    const KIND: &'static str = "RorunRestore";
    const CONTROLLER: &'static str = "rorunrestore";
    const REQUIRED: bool = false;

    fn from_parts(metadata: ObjectMeta, spec: RorunRestoreSpec, status: Option<RorunRestoreStatus>) -> Self {
        Self { metadata, spec, status: status.filter(RorunRestoreStatus::is_observed) }
    }
}

impl Request for RorunRestore {
    type Answer = RestoreRun;

    fn stack(&self) -> &str {
        &self.spec.stack_ref.name
    }

    /// A new stack that could not be filled does not start before somebody has looked at it.
    fn is_over(&self) -> bool {
        let ends: &[&str] = match self.spec.target {
            Some(RestoreTarget::Stack) => &["Complete"],
            _ => &["Complete", "Failed"],
        };
        self.status.as_ref().is_some_and(|status| is_true(&status.conditions, ends))
    }

    fn is_final(answer: &RestoreRun) -> bool {
        answer.waiting.is_none()
    }

    fn asked(requests: &Requests) -> &Asked<Self> {
        &requests.restores
    }

    fn seen(requests: &Requests, event: &Event<Watched<Self>>) {
        requests.restore_seen(event);
    }

    fn told(
        &self,
        old: Option<&RorunRestoreStatus>,
        answer: Result<Option<&RestoreRun>, &Waiting>,
        now: Timestamp,
    ) -> RorunRestoreStatus {
        status::of_restore(self, old, answer, now)
    }
}
