//! A type of resource that the operator does not know: its type, its reconciler and one line where the controllers are started are
//! all that its controller needs. The runtime brings the watch, the queue, the retries and the status.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResource, CustomResourceExt as _, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        controller::Action,
        wait::{await_condition, conditions},
    },
};
use rorun_operator::{
    runtime::{
        Clients, Controller, ControllerRuntime, Reconciled, Reconciler, ResourceKey, RetryAfterLayer, Runtime,
        RuntimeSettings, StatusError, Triggers, Watched, Written, optional::OptionalSettings,
    },
    telemetry::{Health, HealthLimits, Metrics, logs},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::TIME_LIMIT;

const NAMESPACE: &str = "tickets";
/// The name of the ticket whose first reconcile fails.
const FLAKY: &str = "flaky";

/// The type.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "test.rorun.app", version = "v1", kind = "Ticket", namespaced, status = "TicketStatus")]
struct TicketSpec {
    text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
struct TicketStatus {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

impl Reconciled for Ticket {
    const KIND: &'static str = "Ticket";
    const CONTROLLER: &'static str = "ticket";

    fn from_parts(metadata: ObjectMeta, spec: TicketSpec, status: Option<TicketStatus>) -> Self {
        Self { metadata, spec, status }
    }
}

/// A ticket that is gone, with its uid.
type Forgotten = (ResourceKey, Option<String>);

/// What the reconciler did.
#[derive(Clone, Default)]
struct Record {
    reconciles: Arc<Mutex<HashMap<String, u32>>>,
    forgotten: Arc<Mutex<Vec<Forgotten>>>,
}

impl Record {
    fn count(&self, name: &str) -> u32 {
        lock(&self.reconciles).get(name).copied().unwrap_or(0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test has failed")
}

/// The reconciler: copies the text and the command into the status.
struct Tickets {
    runtime: ControllerRuntime<Ticket>,
    record: Record,
}

#[derive(Debug, thiserror::Error)]
enum TicketError {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("failed on purpose")]
    OnPurpose,
}

impl Tickets {
    async fn copy(&self, ticket: &Ticket) -> Result<Action, TicketError> {
        let count = {
            let mut reconciles = lock(&self.record.reconciles);
            let count = reconciles.entry(ticket.name_any()).or_default();
            *count += 1;
            *count
        };
        if ticket.name_any() == FLAKY && count == 1 {
            return Err(TicketError::OnPurpose);
        }
        let command = ticket.annotations().get("rorun.app/retry").cloned();
        let status = TicketStatus { text: ticket.spec.text.clone(), command };
        if self.runtime.statuses.last(ticket).as_ref() == Some(&status) {
            self.runtime.requeue.reset(&ResourceKey::of(ticket));
            return Ok(Action::await_change());
        }
        match self.runtime.statuses.write(ticket, status).await? {
            Written::Stored | Written::Dropped => Ok(Action::await_change()),
            Written::Conflict => Ok(Action::requeue(self.runtime.requeue.back_off(&ResourceKey::of(ticket)))),
        }
    }
}

impl Reconciler for Tickets {
    type Resource = Ticket;
    type Error = TicketError;

    fn runtime(&self) -> &ControllerRuntime<Ticket> {
        &self.runtime
    }

    fn reconcile<'a>(&'a self, watched: &'a Watched<Ticket>) -> BoxFuture<'a, Result<Action, TicketError>> {
        self.copy(&watched.resource).boxed()
    }

    fn span(watched: &Watched<Ticket>, id: u64) -> Span {
        logs::reconcile_span(NAMESPACE, &watched.name_any(), &watched.uid().unwrap_or_default(), id)
    }

    fn labels(error: &TicketError) -> (&'static str, &'static str) {
        match error {
            TicketError::Status(_) => ("status", "Status"),
            TicketError::OnPurpose => ("copy", "OnPurpose"),
        }
    }

    fn forget(&self, key: &ResourceKey, uid: Option<&str>) {
        lock(&self.record.forgotten).push((key.clone(), uid.map(str::to_owned)));
    }
}

/// The controller of tickets, and the metrics that it counts in.
struct Started {
    record: Record,
    triggers: Triggers,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

fn start(client: &Client) -> Started {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let limits = HealthLimits { longest_reconcile: Duration::MAX, longest_silence: Duration::MAX };
    let health = Arc::new(Health::new(metrics.clone(), limits));
    let clients = Clients { work: client.clone(), lease: client.clone(), retry_after: RetryAfterLayer::default() };
    let settings = RuntimeSettings {
        namespaces: vec![NAMESPACE.to_owned()],
        lease: None,
        concurrency: 2,
        instance: None,
        optional: OptionalSettings::default(),
    };
    let runtime = Runtime::new(clients, settings, metrics.clone(), health);
    let (record, stop) = (Record::default(), CancellationToken::new());
    let (of_tickets, triggered) = runtime.controller::<Ticket>();
    let triggers = of_tickets.triggers.clone();
    let reconciler = Tickets { runtime: of_tickets, record: record.clone() };
    let controllers = vec![Controller::new(reconciler, &runtime.scopes()[0], triggered)];
    let until = stop.clone();
    let running = tokio::spawn(async move { runtime.run(controllers, until).await.expect("it ends in order") });
    Started { record, triggers, metrics, stop, running }
}

pub async fn another_type_costs_its_reconciler_and_one_line(client: &Client) {
    define(client).await;
    let api: Api<Ticket> = Api::namespaced(client.clone(), NAMESPACE);
    create(&api, "before", "there before the operator").await;
    let started = start(client);
    let record = &started.record;
    until_status(&api, "before", "there before the operator", None).await;

    create(&api, "a", "one").await;
    until_status(&api, "a", "one", None).await;
    change(&api, "a", json!({"spec": {"text": "two"}})).await;
    until_status(&api, "a", "two", None).await;
    // Any annotation with the prefix of the operator may be a command.
    change(&api, "a", json!({"metadata": {"annotations": {"rorun.app/retry": "1"}}})).await;
    until_status(&api, "a", "two", Some("1")).await;

    // A retry comes without an event.
    create(&api, FLAKY, "at last").await;
    until_status(&api, FLAKY, "at last", None).await;
    assert!(record.count(FLAKY) > 1);

    // A label enqueues nothing. By the time that a ticket of later is reconciled, the events of before have been handled.
    create(&api, "b", "later").await;
    until_status(&api, "b", "later", None).await;
    let count = record.count("a");
    let labels = json!({"team": "a", "rorun.app/team": "a"});
    let labelled = change(&api, "a", json!({"metadata": {"labels": labels}})).await;
    create(&api, "c", "last").await;
    until_status(&api, "c", "last", None).await;
    assert_eq!(record.count("a"), count);
    assert_eq!(api.get("a").await.expect("it is there").resource_version(), labelled.resource_version());

    // A trigger does, and a reconcile without news writes nothing.
    started.triggers.enqueue(&ResourceKey::of(&labelled));
    until("the trigger is reconciled", async || record.count("a") > count).await;
    assert_eq!(api.get("a").await.expect("it is there").resource_version(), labelled.resource_version());

    api.delete("a", &DeleteParams::default()).await.expect("it is deleted");
    let gone = (ResourceKey::of(&labelled), labelled.uid());
    until("the ticket is forgotten", async || lock(&record.forgotten).contains(&gone)).await;

    started.stop.cancel();
    timeout(TIME_LIMIT, started.running).await.expect("in time").expect("no panic");
    let text = started.metrics.render().expect("metrics");
    for line in [
        "rorun_applied_total{kind=\"Ticket\",verb=\"status\"} 7",
        "rorun_reconcile_errors_total{error=\"OnPurpose\",step=\"copy\"} 1",
        "controller_runtime_reconcile_errors_total{controller=\"ticket\"} 1",
        "workqueue_retries_total{name=\"ticket\"} 1",
        "workqueue_depth{name=\"ticket\"} 0",
        "controller_runtime_max_concurrent_reconciles{controller=\"ticket\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
}

async fn define(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = definitions.create(&PostParams::default(), &Ticket::crd()).await.expect("a definition");
    let name = definition.name_any();
    let established = await_condition(definitions, &name, conditions::is_crd_established());
    timeout(TIME_LIMIT, established).await.expect("in time").expect("it is served");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    let namespace = serde_json::from_value(namespace).expect("a namespace");
    namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
}

async fn create(api: &Api<Ticket>, name: &str, text: &str) {
    let ticket = Ticket::new(name, TicketSpec { text: text.to_owned() });
    api.create(&PostParams::default(), &ticket).await.expect("a ticket");
}

async fn change(api: &Api<Ticket>, name: &str, patch: Value) -> Ticket {
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("it is changed")
}

async fn until_status(api: &Api<Ticket>, name: &str, text: &str, command: Option<&str>) {
    let expected = TicketStatus { text: text.to_owned(), command: command.map(str::to_owned) };
    let shown = |ticket: Option<&Ticket>| ticket.is_some_and(|ticket| ticket.status.as_ref() == Some(&expected));
    let found = timeout(TIME_LIMIT, await_condition(api.clone(), name, shown)).await;
    found.unwrap_or_else(|_| unreachable!("{name} never had the status {expected:?}")).expect("a watch");
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIME_LIMIT, reached).await.unwrap_or_else(|_| unreachable!("in vain until {what}"));
}
