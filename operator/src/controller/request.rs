//! The controller of a resource that asks something of a stack: it writes the status, from what the reconcile of the stack answers.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use kube::{
    ResourceExt as _,
    runtime::{controller::Action, watcher::Event},
};
use tracing::Span;

use super::{
    clock,
    requests::{Request, Requests},
};
use crate::{
    runtime::{Controller, ControllerRuntime, Reconciler, ResourceKey, Runtime, Scope, StatusError, Watched, Written},
    status,
    telemetry::logs,
};

/// The controller of such a type in a scope.
pub(super) fn controller<K: Request>(runtime: &Runtime, scope: &Scope, requests: &Arc<Requests>) -> Controller {
    let (runtime, triggered) = runtime.controller::<K>();
    K::asked(requests).enqueue_in(runtime.triggers.clone());
    Controller::new(Context { runtime, requests: requests.clone() }, scope, triggered)
}

struct Context<K: Request> {
    runtime: ControllerRuntime<K>,
    requests: Arc<Requests>,
}

impl<K: Request> Context<K> {
    async fn reconcile(&self, cr: &K) -> Result<Action, StatusError> {
        let old = self.runtime.statuses.last(cr);
        if cr.is_over() || cr.meta().deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let key = ResourceKey::of(cr);
        let stack = ResourceKey { namespace: key.namespace.clone(), name: cr.stack().to_owned() };
        let told = K::asked(&self.requests).answer(&cr.uid().unwrap_or_default());
        let answer = match self.requests.stacks.uid(&stack).await {
            None if !told.as_ref().is_some_and(K::is_final) => Err(status::stack_not_found(&stack.name)),
            _ => Ok(told),
        };
        let status = cr.told(old.as_ref(), answer.as_ref().map(Option::as_ref), clock::now());
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

impl<K: Request> Reconciler for Context<K> {
    type Resource = K;
    type Error = StatusError;

    fn runtime(&self) -> &ControllerRuntime<K> {
        &self.runtime
    }

    fn reconcile<'a>(&'a self, watched: &'a Watched<K>) -> BoxFuture<'a, Result<Action, StatusError>> {
        self.reconcile(&watched.resource).boxed()
    }

    fn span(watched: &Watched<K>, id: u64) -> Span {
        let key = ResourceKey::of(watched);
        logs::reconcile_span(&key.namespace, &key.name, &watched.uid().unwrap_or_default(), id)
    }

    fn labels(error: &StatusError) -> (&'static str, &'static str) {
        match error {
            StatusError::Request(_) => ("status", "Status"),
            StatusError::TimedOut => ("status", "TimedOut"),
        }
    }

    fn seen(&self, event: &Event<Watched<K>>) {
        K::seen(&self.requests, event);
    }

    fn is_not_served(&self) {
        K::asked(&self.requests).not_served();
    }

    fn forget(&self, _: &ResourceKey, uid: Option<&str>) {
        if let Some(uid) = uid {
            K::asked(&self.requests).forget(uid);
        }
    }
}
