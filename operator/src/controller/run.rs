//! Starts everything: watches, the lease, the controller; and ends it in order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, future};
use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use tokio_util::sync::CancellationToken;

use super::{
    Cache, Context, DATA, Memory, Patience, References, StackKey, Triggers, Watches,
    leader::{Elector, Fence, LeaderConfig, LeaderError, Leadership},
    passes::Loop,
    watching,
};
use crate::{
    apply::{Write, Writer},
    names::FIELD_MANAGER,
    objects::KINDS,
    probe::Prober,
    services::Network,
    stack::ProbeTarget,
    telemetry::{Health, Metrics, Role, WriteVerb},
};

/// What `run` is started with.
pub struct Settings {
    /// The namespaces to watch. Empty: all.
    pub namespaces: Vec<String>,
    /// The lease to hold. `None`: there is only one replica.
    pub lease: Option<LeaderConfig>,
    /// How many stacks are reconciled at once.
    pub concurrency: u16,
    /// How often a settled stack is looked at without a cause, against a lost event. It costs no call.
    pub resync: Duration,
    /// The image of the operator itself, for the agent in backup pods.
    pub agent_image: String,
    /// How the services of stacks are reached.
    pub network: Network,
    /// The name of this replica, for events.
    pub instance: Option<String>,
}

/// The clients: one for the work, one for the lease with short limits and without retries.
pub struct Clients {
    /// For everything but the lease.
    pub work: Client,
    /// For the lease.
    pub lease: Client,
    /// What the answers to the client of the work are told to, a layer of it.
    pub patience: Patience,
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

/// Runs until `shutdown`, then finishes what is under way and hands the lease over.
pub async fn run(
    clients: Clients,
    settings: Settings,
    (metrics, health): (Arc<Metrics>, Arc<Health>),
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    for kind in &KINDS {
        health.expect_cache(kind.kind);
    }
    let awaited = Arc::new(Mutex::new(HashMap::<&'static str, usize>::new()));
    let permit = Permit::default();
    let (writer, cache) = (writer(&clients, &metrics, &permit), Arc::new(Cache::default()));
    let scopes: Vec<Option<String>> = if settings.namespaces.is_empty() {
        vec![None]
    } else {
        settings.namespaces.iter().cloned().map(Some).collect()
    };
    let reading = Arc::default();
    let (clients, settings, metrics, health) = (&clients, &settings, &metrics, &health);
    let shared = Shared { clients, settings, metrics, health, awaited, writer, cache, reading };
    let (loops, watches): (Vec<_>, Vec<_>) = scopes.into_iter().map(|scope| shared.scope(scope)).unzip();
    let watches = future::join_all(watches);
    let work = lead(&shared, loops, &permit, &shutdown);
    tokio::select! {
        ended = work => ended,
        _ = watches => Err(RunError::WatchesEnded),
    }
}

/// Whether this process may write: `None` while it does not lead.
type Permit = Arc<Mutex<Option<Fence>>>;

fn writer(clients: &Clients, metrics: &Arc<Metrics>, permit: &Permit) -> Writer {
    let (permit, metrics) = (permit.clone(), metrics.clone());
    let may_write =
        move || permit.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref().is_some_and(Fence::is_valid);
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
    Writer::new(clients.work.clone(), clients.patience.turns(), may_write, count)
}

/// Waits for the lease, runs the loops, and gives the lease back.
async fn lead(
    shared: &Shared<'_>,
    loops: Vec<Loop>,
    permit: &Permit,
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let lease_name = shared.settings.lease.as_ref().map_or("none", |lease| lease.name.as_str()).to_owned();
    let leadership = match shared.settings.lease.clone() {
        None => None,
        Some(config) => {
            shared.health.set_role(Role::Standby);
            shared.metrics.leader(&lease_name, false);
            match Elector::new(shared.clients.lease.clone(), config)?.acquire(shutdown).await {
                Ok(leadership) => Some(leadership),
                Err(_) if shutdown.is_cancelled() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    };
    shared.health.set_role(Role::Leader);
    shared.metrics.leader(&lease_name, true);
    let set = |value| *permit.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = value;
    set(Some(leadership.as_ref().map_or_else(Fence::open, Leadership::fence)));
    let stop = shutdown.child_token();
    let lost = async {
        match &leadership {
            Some(leadership) => leadership.lost().cancelled_owned().await,
            None => future::pending().await,
        }
    };
    let running = future::join_all(loops.into_iter().map(|one| one.run(stop.clone())));
    let ended = tokio::select! {
        _ = running => Ok(()),
        () = lost => Err(RunError::LeadershipLost),
    };
    shared.health.set_role(Role::Stopping);
    set(None);
    shared.metrics.leader(&lease_name, false);
    if let Some(leadership) = leadership
        && ended.is_ok()
    {
        leadership.release().await;
    }
    ended
}

/// What every namespace's loop shares.
struct Shared<'a> {
    clients: &'a Clients,
    settings: &'a Settings,
    metrics: &'a Arc<Metrics>,
    health: &'a Arc<Health>,
    /// How many scopes have listed a kind: it is synced when all have.
    awaited: Arc<Mutex<HashMap<&'static str, usize>>>,
    writer: Writer,
    cache: Arc<Cache>,
    /// See `References::reading`.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Shared<'_> {
    /// Who asks services looks at a stack again when an answer changes.
    fn prober(&self, triggers: &Triggers) -> Prober<StackKey, ProbeTarget> {
        let triggers = triggers.clone();
        Prober::new(self.settings.network.clone(), move |stack| triggers.send(stack))
    }

    /// The loop of a namespace, or of all, and the watches that feed it.
    fn scope(&self, scope: Option<String>) -> (Loop, impl Future<Output = ()> + use<>) {
        let client = self.clients.work.clone();
        let (triggers, triggered) = Triggers::new(self.metrics.clone());
        let references = References::new(client.clone(), triggers.clone(), self.health.clone(), self.reading.clone());
        let (health, awaited, scopes) =
            (self.health.clone(), self.awaited.clone(), self.settings.namespaces.len().max(1));
        let synced = Arc::new(tokio::sync::Semaphore::new(0));
        let done = synced.clone();
        let watches = Watches {
            cache: self.cache.clone(),
            settled: self.writer.settled.clone(),
            triggers: triggers.clone(),
            health: self.health.clone(),
            synced: Arc::new(move |kind| {
                let mut listed = awaited.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let count = listed.entry(kind).or_default();
                *count += 1;
                if *count == scopes {
                    health.cache_synced(kind);
                }
                done.add_permits(1);
            }),
        };
        let feed = {
            let (references, scope, client) = (references.clone(), scope.clone(), client.clone());
            async move {
                future::join(watches.run(client, scope.clone()), references.watch(scope)).await;
            }
        };
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: self.settings.instance.clone() };
        let context = Arc::new(Context {
            writer: self.writer.clone(),
            cache: self.cache.clone(),
            references,
            storage_classes: super::storage_classes::StorageClasses::default(),
            prober: self.prober(&triggers),
            triggers,
            patience: self.clients.patience.clone(),
            recorder: Recorder::new(client.clone(), reporter),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            of_data: DATA.map(|kind| watching::name(kind, scope.as_deref())),
            agent_image: self.settings.agent_image.clone(),
            resync: self.settings.resync,
            memory: Mutex::new(Memory::default()),
            client,
        });
        let one = Loop {
            context,
            scope,
            synced,
            health: self.health.clone(),
            concurrency: self.settings.concurrency,
            triggered: triggered.boxed(),
        };
        (one, feed)
    }
}
