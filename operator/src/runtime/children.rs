//! The watches that fill the cache of children: one for each kind of [`KINDS`], selected by label.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt, pin_mut, stream::FuturesUnordered};
use kube::{Api, Client, ResourceExt, runtime::watcher};
use tracing::{debug, warn};

use super::{Cache, Scope, watch};
use crate::{
    apply::{Settled, api_resource},
    names::{FIELD_MANAGER, label},
    objects::{KINDS, LiveObject, ObjectKey, ObjectKind, Received},
    telemetry::Health,
};

/// The watches of one scope.
#[derive(Clone)]
pub struct ChildWatches {
    /// The cache that they fill.
    pub cache: Arc<Cache>,
    /// The last writes, of which a deletion makes one void.
    pub settled: Arc<Settled>,
    /// The scope, which enqueues the owner of an object that changes.
    pub scope: Scope,
    /// Called when a watch has listed for the first time, with its kind.
    pub synced: Arc<dyn Fn(&'static str) + Send + Sync>,
    /// The health of the process, of which a broken watch is a part.
    pub health: Arc<Health>,
}

impl ChildWatches {
    /// Watches every kind until the future is dropped.
    pub async fn run(self, client: Client) {
        let all = KINDS.iter().map(|kind| self.clone().watch(client.clone(), kind));
        // Not joined, which would poll every watch at each event of one.
        all.collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    async fn watch(self, client: Client, kind: &'static ObjectKind) {
        let (resource, namespace) = (api_resource(kind), self.scope.namespace());
        let api: Api<Received> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let config = watcher::Config::default().labels(&format!("{}={FIELD_MANAGER}", label::MANAGED_BY));
        let events = watch::watch(api, config, self.health.clone(), watch::name(kind.kind, namespace));
        pin_mut!(events);
        let mut listed = HashSet::new();
        let mut first = true;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.insert((object.namespace().unwrap_or_default(), object.name_any()));
                    self.put(kind, object);
                }
                Ok(watcher::Event::InitDone) => {
                    for (key, owner) in self.cache.retain(kind, namespace, &listed) {
                        self.settled.forget(&owner.namespace, &key);
                        self.scope.child_changed(&owner);
                    }
                    listed = HashSet::new();
                    if std::mem::take(&mut first) {
                        (self.synced)(kind.kind);
                    }
                }
                Ok(watcher::Event::Apply(object)) => self.put(kind, object),
                Ok(watcher::Event::Delete(object)) => self.remove(kind, &object),
                Err(error) => warn!(kind = kind.kind, %error, "failed to watch; it is tried again"),
            }
        }
    }

    fn put(&self, kind: &'static ObjectKind, object: Received) {
        let Some(live) = LiveObject::new(kind, object) else { return };
        debug!(kind = kind.kind, namespace = &*live.namespace, name = &*live.name, version = live.version, "seen");
        self.settled.observe(&live);
        let (namespace, key) = (live.namespace.clone(), live.key());
        let owners = self.cache.put(live);
        if owners.len() > 1 {
            // Its label names another owner now: the last write says nothing about the objects of that owner.
            self.settled.forget(&namespace, &key);
        }
        for owner in &owners {
            self.scope.child_changed(owner);
        }
    }

    fn remove(&self, kind: &'static ObjectKind, object: &Received) {
        let key = ObjectKey { kind: kind.kind, name: object.name_any() };
        let namespace = object.namespace().unwrap_or_default();
        debug!(kind = kind.kind, namespace, name = key.name, "gone");
        self.settled.forget(&namespace, &key);
        if let Some(owner) = self.cache.remove(&namespace, &key) {
            self.scope.child_changed(&owner);
        }
    }
}
