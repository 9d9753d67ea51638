//! One namespace that is watched, or all of them: whether its children are listed, and who hears of their changes.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{ResourceKey, Triggers, optional::OptionalApis, watch};
use crate::{objects::KINDS, telemetry::Health};

/// The kinds of objects that cannot be created again with the same content.
const DATA_KINDS: [&str; 2] = ["Secret", "PersistentVolumeClaim"];

/// A namespace, or all. Clones share what is known of it.
#[derive(Clone)]
pub struct Scope {
    namespace: Option<Arc<str>>,
    /// One permit for each kind that was listed.
    listed: Arc<Semaphore>,
    /// The queues of the types whose resources own children.
    owners: Arc<Mutex<Vec<Triggers>>>,
    health: Arc<Health>,
    optional: Arc<OptionalApis>,
    /// The watches of [`DATA_KINDS`], as `health` names them.
    data_watches: Arc<[String]>,
}

impl Scope {
    /// A scope of which nothing is listed yet. `None`: all namespaces.
    pub(super) fn new(namespace: Option<&str>, health: Arc<Health>, optional: Arc<OptionalApis>) -> Self {
        let data_watches = DATA_KINDS.iter().map(|kind| watch::name(kind, namespace)).collect();
        let (listed, owners) = (Arc::new(Semaphore::new(0)), Arc::default());
        Self { namespace: namespace.map(Arc::from), listed, owners, health, optional, data_watches }
    }

    /// The namespace. `None`: all.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// From now on a change of a child enqueues its owner in this queue.
    pub fn enqueue_owners(&self, triggers: Triggers) {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).push(triggers);
    }

    /// Whether it is unknown which volumes and credentials there are. A restore of etcd may have taken them away, and each kind
    /// is listed again at another moment: a volume that is created beside credentials of the other past has none when they are
    /// listed, and no later list can show that it is empty.
    pub fn data_watches_stale(&self) -> bool {
        self.data_watches.iter().any(|watch| self.health.is_broken(watch))
    }

    /// Waits until every kind of Kubernetes was listed once, and for a while until it is known which kinds of others there are.
    pub(super) async fn synced(&self) {
        let all = KINDS.iter().filter(|kind| kind.is_core()).count();
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        if let Ok(permits) = self.listed.acquire_many(all).await {
            drop(permits);
        }
        self.optional.known(self.namespace()).await;
    }

    /// A kind of Kubernetes was listed for the first time.
    pub(super) fn listed(&self) {
        self.listed.add_permits(1);
    }

    /// A child of this owner changed.
    pub(super) fn child_changed(&self, owner: &ResourceKey) {
        for triggers in &*self.owners.lock().unwrap_or_else(PoisonError::into_inner) {
            triggers.enqueue(owner);
        }
    }
}
