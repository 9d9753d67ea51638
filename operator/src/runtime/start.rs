//! Starts the process: the caches, the lease and the control loops; and ends them in order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{FutureExt as _, StreamExt as _, future, future::BoxFuture};
use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{
    Cache, EventPublisher, Reconciled, Requeue, ResourceKey, RetryAfterLayer, Scope, StatusWriter, Triggers,
    children::ChildWatches,
    leader::{Elector, Fence, LeaderConfig, LeaderError, Leadership},
    optional::{OptionalApis, OptionalSettings},
    queue::{ControlLoop, Reconciler},
};
use crate::{
    apply::{Write, WriteThrottle, Writer},
    names::FIELD_MANAGER,
    objects::KINDS,
    telemetry::{ControllerMetrics, Health, Metrics, Role, WriteVerb},
};

/// The settings of the process that every controller shares.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// The namespaces to watch. Empty: all.
    pub namespaces: Vec<String>,
    /// The lease to hold. `None`: there is only one replica.
    pub lease: Option<LeaderConfig>,
    /// How many resources of one type are reconciled at once.
    pub concurrency: u16,
    /// The name of this replica, for Events.
    pub instance: Option<String>,
    /// The kinds of other projects that are used where the cluster serves them.
    pub optional: OptionalSettings,
}

/// The clients: one for the work, one for the lease with short limits and without retries.
pub struct Clients {
    /// For everything but the lease.
    pub work: Client,
    /// For the lease.
    pub lease: Client,
    /// The layer of the client for the work that obeys `Retry-After`.
    pub retry_after: RetryAfterLayer,
}

/// Why the operator stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The lease could not be asked for, or was lost.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// Another replica leads: this one must not go on.
    #[error("failed to renew the lease: leadership is lost, so this process ends and starts again as a standby")]
    LeadershipLost,
    /// The watches ended, which they never should.
    #[error("failed to go on watching: the watches ended")]
    WatchesEnded,
}

/// What a reconciler of one type works with in one scope.
pub struct ControllerRuntime<K: Reconciled> {
    /// The client, for reads.
    pub client: Client,
    /// Writes objects while this process may.
    pub writer: Writer,
    /// How long the API server asked to be left alone.
    pub throttle: WriteThrottle,
    /// The children of all resources.
    pub cache: Arc<Cache>,
    /// Which kinds of other projects can be used.
    pub optional: Arc<OptionalApis>,
    /// Enqueues resources of the type.
    pub triggers: Triggers,
    /// The pauses between retries.
    pub requeue: Requeue,
    /// Writes statuses.
    pub statuses: StatusWriter<K>,
    /// Publishes Events.
    pub events: EventPublisher,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The metrics of this controller.
    pub controller_metrics: ControllerMetrics,
    /// The health of the process.
    pub health: Arc<Health>,
    /// How many resources are reconciled at once.
    pub concurrency: u16,
}

/// A controller that is ready to start: its control loop, and the watches of its own.
pub struct Controller {
    start: Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>,
    watches: Vec<BoxFuture<'static, ()>>,
}

impl Controller {
    /// A controller that reconciles with `reconciler` what its own watch, or `triggered`, enqueues.
    pub fn new<R: Reconciler>(
        reconciler: R,
        scope: &Scope,
        triggered: impl futures::Stream<Item = ResourceKey> + Send + 'static,
    ) -> Self {
        let control_loop = ControlLoop::new(Arc::new(reconciler), scope.clone(), triggered.boxed());
        Self { start: Box::new(|stop| control_loop.run(stop).boxed()), watches: Vec::new() }
    }

    /// The same with a watch that must run as long as the process.
    #[must_use]
    pub fn with_watch(mut self, watch: impl Future<Output = ()> + Send + 'static) -> Self {
        self.watches.push(watch.boxed());
        self
    }
}

/// Whether this process may write: `None` while it does not lead.
type Permit = Arc<Mutex<Option<Fence>>>;

/// What all controllers of the process share.
pub struct Runtime {
    clients: Clients,
    settings: RuntimeSettings,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    permit: Permit,
    writer: Writer,
    cache: Arc<Cache>,
    optional: Arc<OptionalApis>,
    scopes: Vec<Scope>,
}

impl Runtime {
    /// Nothing is watched before [`Self::run`].
    pub fn new(clients: Clients, settings: RuntimeSettings, metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        for kind in KINDS.iter().filter(|kind| kind.is_core()) {
            health.expect_cache(kind.kind);
        }
        let permit = Permit::default();
        let writer = writer(&clients, &metrics, &permit);
        let optional = Arc::new(OptionalApis::new(&settings.optional));
        let scope = |namespace| Scope::new(namespace, health.clone(), optional.clone());
        let scopes = if settings.namespaces.is_empty() {
            vec![scope(None)]
        } else {
            settings.namespaces.iter().map(|namespace| scope(Some(namespace.as_str()))).collect()
        };
        Self { clients, settings, metrics, health, permit, writer, cache: Arc::default(), optional, scopes }
    }

    /// Each namespace that is watched, or one scope for all.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// What a reconciler of a type works with in a scope, and the stream of what its triggers enqueue.
    pub fn controller<K: Reconciled + DeserializeOwned>(
        &self,
    ) -> (ControllerRuntime<K>, impl futures::Stream<Item = ResourceKey> + Send + 'static + use<K>) {
        let (client, metrics) = (self.clients.work.clone(), self.metrics.clone());
        let controller_metrics = metrics.controller(K::CONTROLLER);
        controller_metrics.max_concurrent_reconciles(self.settings.concurrency);
        let (triggers, triggered) = Triggers::new(controller_metrics.clone());
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: self.settings.instance.clone() };
        let runtime = ControllerRuntime {
            writer: self.writer.clone(),
            throttle: self.clients.retry_after.throttle(),
            cache: self.cache.clone(),
            optional: self.optional.clone(),
            triggers,
            requeue: Requeue::new(controller_metrics.clone()),
            statuses: StatusWriter::new(client.clone(), self.writer.clone(), metrics.clone()),
            events: EventPublisher::new(Recorder::new(client.clone(), reporter), self.writer.clone()),
            metrics,
            controller_metrics,
            health: self.health.clone(),
            concurrency: self.settings.concurrency,
            client,
        };
        (runtime, triggered)
    }

    /// Runs the controllers until `shutdown`, then finishes the reconciles that have begun and hands the lease over.
    pub async fn run(self, controllers: Vec<Controller>, shutdown: CancellationToken) -> Result<(), RunError> {
        let (mut starts, mut watches) = (Vec::new(), self.watch_children());
        for controller in controllers {
            starts.push(controller.start);
            watches.extend(controller.watches);
        }
        let start = |stop: &CancellationToken| future::join_all(starts.into_iter().map(|start| start(stop.clone())));
        tokio::select! {
            ended = self.lead(start, &shutdown) => ended,
            _ = future::join_all(watches) => Err(RunError::WatchesEnded),
        }
    }

    /// The watches that fill the cache of children.
    fn watch_children(&self) -> Vec<BoxFuture<'static, ()>> {
        // How many scopes have listed a kind: its cache is synced when all have.
        let counts = Arc::new(Mutex::new(HashMap::<&'static str, usize>::new()));
        let watches = self.scopes.iter().map(|scope| {
            let (health, counts, scopes) = (self.health.clone(), counts.clone(), self.scopes.len());
            let of_scope = scope.clone();
            let synced = move |kind| {
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                let count = counts.entry(kind).or_default();
                *count += 1;
                if *count == scopes {
                    health.cache_synced(kind);
                }
                of_scope.listed();
            };
            let watches = ChildWatches {
                cache: self.cache.clone(),
                settled: self.writer.settled.clone(),
                scope: scope.clone(),
                synced: Arc::new(synced),
                health: self.health.clone(),
                optional: self.optional.clone(),
            };
            watches.run(self.clients.work.clone()).boxed()
        });
        watches.chain(self.optional.clone().discovery(self.clients.work.clone())).collect()
    }

    /// Waits for the lease, runs the control loops, and gives the lease back.
    async fn lead<F: Future>(
        &self,
        start: impl FnOnce(&CancellationToken) -> F,
        shutdown: &CancellationToken,
    ) -> Result<(), RunError> {
        let lease = self.settings.lease.as_ref().map_or("none", |lease| lease.name.as_str());
        let leadership = match self.settings.lease.clone() {
            None => None,
            Some(config) => {
                self.health.set_role(Role::Standby);
                self.metrics.leader(lease, false);
                match Elector::new(self.clients.lease.clone(), config)?.acquire(shutdown).await {
                    Ok(leadership) => Some(leadership),
                    Err(_) if shutdown.is_cancelled() => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        self.health.set_role(Role::Leader);
        self.metrics.leader(lease, true);
        self.permit_writes(Some(leadership.as_ref().map_or_else(Fence::open, Leadership::fence)));
        let stop = shutdown.child_token();
        let lost = async {
            match &leadership {
                Some(leadership) => leadership.lost().cancelled_owned().await,
                None => future::pending().await,
            }
        };
        let ended = tokio::select! {
            _ = start(&stop) => Ok(()),
            () = lost => Err(RunError::LeadershipLost),
        };
        self.health.set_role(Role::Stopping);
        self.permit_writes(None);
        self.metrics.leader(lease, false);
        if let Some(leadership) = leadership
            && ended.is_ok()
        {
            leadership.release().await;
        }
        ended
    }

    fn permit_writes(&self, fence: Option<Fence>) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = fence;
    }
}

fn writer(clients: &Clients, metrics: &Arc<Metrics>, permit: &Permit) -> Writer {
    let (permit, metrics) = (permit.clone(), metrics.clone());
    let may_write = move || permit.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(Fence::is_valid);
    let count = move |kind, verb| {
        metrics.written(
            kind,
            match verb {
                Write::Create => WriteVerb::Create,
                Write::Apply => WriteVerb::Apply,
                Write::Delete => WriteVerb::Delete,
            },
        );
    };
    Writer::new(clients.work.clone(), clients.retry_after.throttle(), may_write, count)
}
