//! The controller of `RorunRestore`: it writes the status, from what the reconcile of the stack answers.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use kube::{
    ResourceExt as _,
    api::ObjectMeta,
    runtime::{controller::Action, watcher::Event},
};
use tracing::Span;

use super::{
    clock,
    requests::{Request as _, Requests},
};
use crate::{
    api::v1alpha1::{RorunRestore, RorunRestoreSpec, RorunRestoreStatus},
    runtime::{
        Controller, ControllerRuntime, Reconciled, Reconciler, ResourceKey, Runtime, Scope, StatusError, Watched,
        Written,
    },
    status,
    telemetry::logs,
};

impl Reconciled for RorunRestore {
    const KIND: &'static str = "RorunRestore";
    const CONTROLLER: &'static str = "rorunrestore";
    const REQUIRED: bool = false;

    fn from_parts(metadata: ObjectMeta, spec: RorunRestoreSpec, status: Option<RorunRestoreStatus>) -> Self {
        Self { metadata, spec, status }
    }
}

/// The controller of RorunRestores in a scope.
pub(super) fn controller(runtime: &Runtime, scope: &Scope, requests: &Arc<Requests>) -> Controller {
    let (runtime, triggered) = runtime.controller::<RorunRestore>();
    requests.restores.enqueue_in(runtime.triggers.clone());
    Controller::new(Context { runtime, requests: requests.clone() }, scope, triggered)
}

struct Context {
    runtime: ControllerRuntime<RorunRestore>,
    requests: Arc<Requests>,
}

impl Context {
    async fn reconcile(&self, cr: &RorunRestore) -> Result<Action, StatusError> {
        let old = self.runtime.statuses.last(cr);
        if cr.is_over() || cr.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let key = ResourceKey::of(cr);
        let stack = ResourceKey { namespace: key.namespace.clone(), name: cr.spec.stack_ref.name.clone() };
        let answer = match self.requests.stacks.uid(&stack).await {
            None => Err(status::stack_not_found(&stack.name)),
            Some(_) => Ok(self.requests.restores.answer(&cr.uid().unwrap_or_default())),
        };
        let status = status::of_restore(cr, old.as_ref(), answer.as_ref().map(Option::as_ref), clock::now());
        if old.as_ref() == Some(&status) {
            self.runtime.requeue.reset(&key);
            return Ok(Action::await_change());
        }
        Ok(match self.runtime.statuses.write(cr, status).await? {
            Written::Stored | Written::Dropped => Action::await_change(),
            Written::Conflict => Action::requeue(self.runtime.requeue.back_off(&key)),
        })
    }
}

impl Reconciler for Context {
    type Resource = RorunRestore;
    type Error = StatusError;

    fn runtime(&self) -> &ControllerRuntime<RorunRestore> {
        &self.runtime
    }

    fn reconcile<'a>(&'a self, watched: &'a Watched<RorunRestore>) -> BoxFuture<'a, Result<Action, StatusError>> {
        self.reconcile(&watched.resource).boxed()
    }

    fn span(watched: &Watched<RorunRestore>, id: u64) -> Span {
        let key = ResourceKey::of(watched);
        logs::reconcile_span(&key.namespace, &key.name, &watched.uid().unwrap_or_default(), id)
    }

    fn labels(error: &StatusError) -> (&'static str, &'static str) {
        match error {
            StatusError::Request(_) => ("status", "Status"),
            StatusError::TimedOut => ("status", "TimedOut"),
        }
    }

    fn seen(&self, event: &Event<Watched<RorunRestore>>) {
        self.requests.restore_seen(event);
    }

    fn is_not_served(&self) {
        self.requests.restores.not_served();
    }

    fn forget(&self, _: &ResourceKey, uid: Option<&str>) {
        if let Some(uid) = uid {
            self.requests.restores.forget(uid);
        }
    }
}
