//! The watches that fill the cache: one for each kind of [`KINDS`], selected by label.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt, pin_mut, stream::FuturesUnordered};
use kube::{Api, Client, ResourceExt, runtime::watcher};
use tracing::{debug, warn};

use super::{Cache, Triggers, watching};
use crate::{
    apply::{Settled, api_resource},
    names::{FIELD_MANAGER, label},
    objects::{KINDS, LiveObject, ObjectKey, ObjectKind, Received},
    telemetry::Health,
};

/// What a watch works on.
#[derive(Clone)]
pub struct Watches {
    /// Where objects are kept.
    pub cache: Arc<Cache>,
    /// What was written last, which a deletion makes void.
    pub settled: Arc<Settled>,
    /// Who hears of changes.
    pub triggers: Triggers,
    /// Called when a watch has listed for the first time, with its kind.
    pub synced: Arc<dyn Fn(&'static str) + Send + Sync>,
    /// Who hears of watches that are broken.
    pub health: Arc<Health>,
}

impl Watches {
    /// Watches every kind in a namespace, or in all, until the future is dropped.
    pub async fn run(self, client: Client, scope: Option<String>) {
        let all = KINDS.iter().map(|kind| self.clone().watch(client.clone(), kind, scope.clone()));
        // Not joined, which would look at every watch at each event of one.
        all.collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    async fn watch(self, client: Client, kind: &'static ObjectKind, scope: Option<String>) {
        let resource = api_resource(kind);
        let api: Api<Received> = match &scope {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let config = watcher::Config::default().labels(&format!("{}={FIELD_MANAGER}", label::MANAGED_BY));
        let events = watching::watch(api, config, self.health.clone(), watching::name(kind.kind, scope.as_deref()));
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
                    for (key, stack) in self.cache.retain(kind, scope.as_deref(), &listed) {
                        self.settled.forget(&stack.namespace, &key);
                        self.triggers.send(&stack);
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
        self.settled.seen(&live);
        let (namespace, key) = (live.namespace.clone(), live.key());
        let concerned = self.cache.put(live);
        if concerned.len() > 1 {
            // It left a stack for another: what was written last says nothing about what that stack has now.
            self.settled.forget(&namespace, &key);
        }
        for stack in &concerned {
            self.triggers.send(stack);
        }
    }

    fn remove(&self, kind: &'static ObjectKind, object: &Received) {
        let key = ObjectKey { kind: kind.kind, name: object.name_any() };
        let namespace = object.namespace().unwrap_or_default();
        debug!(kind = kind.kind, namespace, name = key.name, "gone");
        self.settled.forget(&namespace, &key);
        if let Some(stack) = self.cache.remove(&namespace, &key) {
            self.triggers.send(&stack);
        }
    }
}
