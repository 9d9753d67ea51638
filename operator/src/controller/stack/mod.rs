//! The controller of `RorunStack`.
//!
//! What enters: a stack as the watch delivered it. What leaves: writes through `apply`, and a status. Forbidden here: building
//! objects inline.

mod asked;
mod classes;
mod cluster;
mod configuration;
mod corrections;
mod credentials;
mod delete;
mod error;
mod events;
mod evidence;
mod finalizer;
#[cfg(test)]
mod limits;
mod observe;
mod optional;
mod ownership;
mod pods_refused;
mod policy;
mod probes;
mod reconcile;
mod report;
mod steps;
mod storage_classes;
mod unseen;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use kube::{
    ResourceExt as _,
    api::ObjectMeta,
    runtime::{controller::Action, watcher},
};
use tracing::Span;

use super::{Settings, requests::Requests};
use crate::{
    api::v1alpha1::{RorunStack, RorunStackSpec, RorunStackStatus},
    names::Component,
    probe::Prober,
    runtime::{
        Controller, ControllerRuntime, Reconciled, Reconciler, ResourceKey, Runtime, Scope, Watched,
        references::References,
    },
    services::Network,
    stack::{ProbeTarget, SecretData},
    telemetry::logs,
};
use configuration::Configurations;
use error::ReconcileError;
use reconcile::reconcile;

/// How long no object is created in a namespace that is being deleted. Most namespaces are gone sooner.
const NAMESPACE_TERMINATING: Duration = Duration::from_secs(10);

/// A stack as the watch delivered it.
type WatchedStack = Watched<RorunStack>;

impl Reconciled for RorunStack {
    const KIND: &'static str = "RorunStack";
    const CONTROLLER: &'static str = "rorunstack";

    fn from_parts(metadata: ObjectMeta, spec: RorunStackSpec, status: Option<RorunStackStatus>) -> Self {
        Self { metadata, spec, status: status.filter(RorunStackStatus::is_observed) }
    }
}

/// The controller of stacks in a scope. `one_reader` is shared by the controllers of all scopes.
pub(super) fn controller(
    runtime: &Runtime,
    scope: &Scope,
    settings: &Settings,
    (one_reader, requests): (&Arc<tokio::sync::Mutex<()>>, &Arc<Requests>),
) -> Controller {
    let (runtime, triggered) = runtime.controller::<RorunStack>();
    requests.stacks.enqueue_in(runtime.triggers.clone());
    scope.enqueue_owners(runtime.triggers.clone());
    let references = References::new(runtime.client.clone(), runtime.triggers.clone(), runtime.health.clone());
    let watch = references.clone().watch(scope.namespace().map(str::to_owned));
    let answered = runtime.triggers.clone();
    let context = Context {
        configurations: Configurations::new(references.clone(), one_reader.clone()),
        references,
        storage_classes: storage_classes::StorageClasses::default(),
        prober: prober(settings.network.clone(), &runtime, move |stack| answered.enqueue(stack)),
        agent_image: settings.agent_image.clone(),
        approvals_verified: settings.approvals_verified,
        resync: settings.resync,
        memory: Mutex::default(),
        requests: requests.clone(),
        runtime,
    };
    Controller::new(context, scope, triggered).with_watch(watch)
}

/// What asks the services, and shows how long their answers take.
fn prober(
    network: Network,
    runtime: &ControllerRuntime<RorunStack>,
    on_change: impl Fn(&ResourceKey) + Send + Sync + 'static,
) -> Prober<ResourceKey, ProbeTarget> {
    let metrics = runtime.metrics.clone();
    let clock = || super::clock::now().as_second();
    Prober::new(network, clock, on_change).with_measures(move |stack: &ResourceKey, service: &ProbeTarget, of| {
        metrics.service_answered((&stack.namespace, &stack.name), service.label(), (of.latency, of.clock_ahead));
    })
}

/// What every reconcile of a stack shares.
struct Context {
    runtime: ControllerRuntime<RorunStack>,
    requests: Arc<Requests>,
    references: References,
    configurations: Configurations,
    storage_classes: storage_classes::StorageClasses,
    prober: Prober<ResourceKey, ProbeTarget>,
    agent_image: String,
    approvals_verified: bool,
    /// See `Settings::resync`.
    resync: Duration,
    memory: Mutex<Memory>,
}

/// What is remembered of stacks between reconciles. Losing it costs at most a few calls.
#[derive(Default)]
struct Memory {
    /// Credentials that were generated and that the cache does not show yet, by uid of the stack.
    minted: HashMap<(String, Component), SecretData>,
    /// When the API server last refused to create an object since the namespace is being deleted, by uid of the stack.
    namespace_terminating: HashMap<String, Instant>,
    /// The workloads of a stack that miss pods, by key.
    missing: HashMap<ResourceKey, pods_refused::Workloads>,
    /// The classes of Ingresses that were asked for, by name.
    classes: HashMap<String, classes::Answer>,
    /// The owner of the backups of a stack, by uid of the stack.
    owners: HashMap<String, ownership::Found>,
    /// The stack whose pods are corrected, and those that wait.
    corrections: corrections::Corrections,
}

impl Reconciler for Context {
    type Resource = RorunStack;
    type Error = ReconcileError;

    fn runtime(&self) -> &ControllerRuntime<RorunStack> {
        &self.runtime
    }

    fn reconcile<'a>(&'a self, watched: &'a WatchedStack) -> BoxFuture<'a, Result<Action, ReconcileError>> {
        reconcile(watched, self).boxed()
    }

    fn span(watched: &WatchedStack, id: u64) -> Span {
        let key = ResourceKey::of(watched);
        logs::reconcile_span(&key.namespace, &key.name, &watched.uid().unwrap_or_default(), id)
    }

    fn labels(error: &ReconcileError) -> (&'static str, &'static str) {
        error.labels()
    }

    fn seen(&self, event: &watcher::Event<WatchedStack>) {
        self.requests.stack_seen(event);
    }

    fn forget(&self, key: &ResourceKey, uid: Option<&str>) {
        self.references.forget(key);
        self.runtime.optional.forget(key);
        self.configurations.forget(key);
        self.prober.forget(key);
        self.end_correction(key);
        self.runtime.metrics.forget_stack(&key.namespace, &key.name);
        let mut memory = self.memory();
        memory.missing.remove(key);
        if let Some(uid) = uid {
            memory.minted.retain(|(of, _), _| of != uid);
            memory.namespace_terminating.remove(uid);
            memory.owners.remove(uid);
        }
    }
}

impl Context {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long no object is to be created, since the namespace is being deleted: each child that goes is an event, and none of
    /// them is a reason to try again.
    fn namespace_terminates(&self, uid: &str) -> Option<Duration> {
        let since = *self.memory().namespace_terminating.get(uid)?;
        NAMESPACE_TERMINATING.checked_sub(since.elapsed())
    }

    /// The API server refused to create an object since the namespace is being deleted.
    fn note_namespace_terminating(&self, uid: &str) {
        self.memory().namespace_terminating.insert(uid.to_owned(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use kube::Resource as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_watched_stack_is_the_stack_without_managed_fields() {
        let mut object = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {
                "name": "shop", "namespace": "n", "uid": "1", "resourceVersion": "7", "generation": 2,
                "labels": {"team": "a"}, "annotations": {"rorun.app/confirm-delete": "shop"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "2"}],
                "finalizers": ["rorun.app/data"],
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            },
            "spec": {"environment": "Development", "api": {"image": "a"}},
            "status": {"observedGeneration": 1, "conditions": []},
        });
        let expected: RorunStack = serde_json::from_value(object.clone()).unwrap();
        object["metadata"]["managedFields"] =
            json!([{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
        let watched: WatchedStack = serde_json::from_str(&object.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&*watched.resource).unwrap(), serde_json::to_value(&expected).unwrap());
        assert!(serde_json::from_value::<WatchedStack>(json!({"spec": {}})).is_err(), "a stack has metadata");
        assert_eq!(RorunStack::KIND, RorunStack::kind(&()));
        assert_eq!(RorunStack::CONTROLLER, RorunStack::KIND.to_lowercase());
    }

    #[test]
    fn the_reconcile_key_changes_with_what_a_reconcile_reads_and_with_nothing_else() {
        let object = json!({
            "metadata": {"name": "shop", "generation": 1, "resourceVersion": "7"},
            "spec": {"environment": "Development", "api": {"image": "a"}},
        });
        let key = |path: [&str; 2], value: serde_json::Value| {
            let mut object = object.clone();
            object[path[0]][path[1]] = value;
            serde_json::from_value::<WatchedStack>(object).unwrap().reconcile_key().unwrap()
        };
        let same = key(["metadata", "name"], json!("shop"));
        for (path, value) in [
            (["metadata", "labels"], json!({"team": "a", "rorun.app/team": "a"})),
            (["metadata", "annotations"], json!({"team": "a", "rorun.application/retry": "1"})),
            (["metadata", "resourceVersion"], json!("8")),
        ] {
            assert_eq!(key(path, value), same, "{path:?}");
        }
        let command = |name: &str, value: &str| key(["metadata", "annotations"], json!({name: value}));
        // Also commands that this version does not know.
        let commands = ["confirm-delete", "adopt-backups", "retry", "approve", "of-a-later-release"];
        for name in commands.map(|name| format!("rorun.app/{name}")) {
            assert_ne!(command(&name, "1"), same, "{name}");
            assert_ne!(command(&name, "1"), command(&name, "2"), "{name}: a value that changes is another command");
        }
        assert_ne!(command("rorun.app/retry", "1"), command("rorun.app/backup", "1"));
        for (path, value) in [
            (["metadata", "generation"], json!(2)),
            (["metadata", "finalizers"], json!(["rorun.app/data"])),
            (["metadata", "deletionTimestamp"], json!("2026-01-02T00:00:00Z")),
            // With the same generation, as after a restore of etcd.
            (["spec", "suspend"], json!(true)),
            (["status", "conditions"], json!([])),
        ] {
            assert_ne!(key(path, value), same, "{path:?}");
        }
    }
}
