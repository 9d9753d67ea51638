//! The reconcile loop: what is read, the order of the steps, and when a stack is looked at again.
//!
//! What enters: events of watches. What leaves: writes through `apply`, and a status. Forbidden here: building objects inline.

mod cache;
mod classes;
mod corrections;
mod credentials;
mod events;
mod evidence;
mod finalize;
pub mod leader;
#[cfg(test)]
mod limits;
mod observe;
mod ownership;
mod passes;
mod patience;
mod policy;
mod questions;
mod reading;
mod reconcile;
mod references;
mod refused;
mod run;
mod seen;
mod storage_classes;
mod told;
mod triggers;
mod watches;
mod watching;

pub use cache::{Cache, StackKey};
pub use patience::Patience;
pub use references::References;
pub use run::{Clients, RunError, Settings, run};
pub use seen::Seen;
pub use triggers::Triggers;
pub use watches::Watches;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kube::{Client, runtime::events::Recorder};

use crate::{
    api::v1alpha1::RorunStackStatus,
    apply::Writer,
    names::Component,
    probe::Prober,
    stack::{ProbeTarget, SecretData},
    telemetry::{Health, Metrics},
};

/// How long is not tried to make anything in a namespace that is being deleted. Most are gone sooner.
const GOING: Duration = Duration::from_secs(10);

/// What cannot be made again.
const DATA: [&str; 2] = ["Secret", "PersistentVolumeClaim"];

/// What every reconcile shares.
pub struct Context {
    client: Client,
    writer: Writer,
    cache: Arc<Cache>,
    references: References,
    storage_classes: storage_classes::StorageClasses,
    prober: Prober<StackKey, ProbeTarget>,
    triggers: Triggers,
    patience: Patience,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// The watches of [`DATA`], as `health` calls them.
    of_data: [String; 2],
    agent_image: String,
    /// See `Settings::resync`.
    resync: Duration,
    memory: Mutex<Memory>,
}

/// What is remembered of a stack between reconciles. Losing it costs at most a few calls.
#[derive(Default)]
struct Memory {
    /// Credentials that were made up and that the cache does not show yet, by uid of the stack.
    minted: HashMap<(String, Component), SecretData>,
    /// The status that was written last, with the version that the API server answered, by uid of the stack.
    statuses: HashMap<String, Told>,
    /// When the API server last refused to make something since the namespace is being deleted, by uid of the stack.
    going: HashMap<String, Instant>,
    /// The workloads of a stack that miss pods, by key.
    missing: HashMap<StackKey, refused::Workloads>,
    /// The classes of Ingresses that were asked for, by name.
    classes: HashMap<String, classes::Answer>,
    /// Whose the backups are, by uid of the stack.
    owners: HashMap<String, ownership::Found>,
    /// Whose turn it is to be corrected.
    corrections: corrections::Turns,
    /// How often in a row a stack could not be brought further, by key.
    attempts: HashMap<StackKey, u32>,
}

/// A status that was written.
struct Told {
    status: RorunStackStatus,
    /// The version that the API server answered.
    version: u64,
    at: Instant,
}

impl Context {
    /// Whether it is not known which volumes and credentials there are. A restore of etcd may have taken them away, and each
    /// kind is listed again at another moment: a volume that is made beside credentials of the other past is without any when
    /// they are listed, and nobody can tell that it is empty.
    fn is_blind(&self) -> bool {
        self.of_data.iter().any(|what| self.health.is_broken(what))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How long not to try to make anything, since the namespace is being deleted: each child that goes is an event, and none
    /// of them is a reason to ask once more.
    fn namespace_goes(&self, uid: &str) -> Option<Duration> {
        let since = *self.memory().going.get(uid)?;
        GOING.checked_sub(since.elapsed())
    }

    /// Stacks were listed. What was written before shows in the list, or has never been: etcd was restored.
    fn listed(&self, since: Instant) {
        self.memory().statuses.retain(|_, told| told.at >= since);
    }

    /// Forgets a stack that is gone.
    fn forget(&self, key: &StackKey, uid: Option<&str>) {
        self.references.forget(key);
        self.prober.forget(key);
        self.triggers.begun(key);
        self.end_turn(key);
        self.metrics.forget_stack(&key.namespace, &key.name);
        let mut memory = self.memory();
        memory.attempts.remove(key);
        memory.missing.remove(key);
        if let Some(uid) = uid {
            memory.minted.retain(|(of, _), _| of != uid);
            memory.statuses.remove(uid);
            memory.going.remove(uid);
            memory.owners.remove(uid);
        }
    }
}
