//! The watches that fill the cache of children: one for each kind of [`KINDS`], selected by label. Kinds of Kubernetes are watched
//! without end; one of another project while the cluster serves it, and what happens to its watch concerns nothing else.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt as _, Stream, StreamExt, pin_mut, stream::FuturesUnordered};
use kube::{Api, Client, ResourceExt, runtime::watcher};
use tracing::{debug, info, warn};

use super::{
    Cache, Scope,
    optional::{ApiState, OptionalApis},
    watch,
};
use crate::{
    apply::{Settled, api_resource},
    names::{FIELD_MANAGER, label},
    objects::{KINDS, LiveObject, ObjectKey, ObjectKind, Received},
    telemetry::Health,
};

/// What follows an error of a watch.
enum Next {
    /// The watch is tried again.
    GoOn,
    /// The watch ends.
    End,
}

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
    /// Which kinds of other projects the cluster serves.
    pub optional: Arc<OptionalApis>,
}

impl ChildWatches {
    /// Watches every kind until the future is dropped.
    pub async fn run(self, client: Client) {
        let kinds = KINDS.iter().filter(|kind| self.optional.is_watched(kind));
        let all = kinds.map(|kind| {
            let (this, client) = (self.clone(), client.clone());
            if kind.is_core() {
                this.watch(client, kind).boxed()
            } else {
                this.watch_while_served(client, kind).boxed()
            }
        });
        // Not joined, which would poll every watch at each event of one.
        all.collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    async fn watch(self, client: Client, kind: &'static ObjectKind) {
        let (api, config) = self.of_kind(client, kind);
        let name = watch::name(kind.key, self.scope.namespace());
        let events = watch::watch(api, config, self.health.clone(), name);
        let mut first = true;
        let listed = || {
            if std::mem::take(&mut first) {
                (self.synced)(kind.key);
            }
        };
        self.follow(kind, events, listed, |_| Next::GoOn).await;
    }

    /// Watches a kind of another project whenever the cluster serves it.
    async fn watch_while_served(self, client: Client, kind: &'static ObjectKind) {
        let mut served = self.optional.served();
        loop {
            loop {
                let state = served.borrow_and_update().state(kind);
                let begins = state == ApiState::Listing;
                self.note(kind, state);
                if begins {
                    break;
                }
                if served.changed().await.is_err() {
                    return;
                }
            }
            info!(kind = kind.key, namespace = self.scope.namespace(), "the cluster serves the kind: its watch begins");
            tokio::select! {
                () = self.watch_until_gone(client.clone(), kind) => self.optional.gone(kind),
                _ = served.wait_for(|served| served.state(kind) == ApiState::Absent) => {}
            }
            info!(kind = kind.key, namespace = self.scope.namespace(), "the cluster no longer serves the kind");
            self.retain(kind, &HashSet::new());
        }
    }

    /// Watches until the API server says that there is no such kind.
    async fn watch_until_gone(&self, client: Client, kind: &'static ObjectKind) {
        let (api, config) = self.of_kind(client, kind);
        let listed = AtomicBool::new(false);
        let works = || {
            listed.store(true, Ordering::Relaxed);
            self.optional.works();
            self.note(kind, ApiState::Watched);
        };
        let failed = |error: &watcher::Error| match watch::refusal(error) {
            Some(status) if status.code == 404 => Next::End,
            Some(status) if status.code == 403 => {
                self.note(kind, ApiState::Forbidden(status.message.clone()));
                Next::GoOn
            }
            // What was listed stays true for all that is known.
            _ if listed.load(Ordering::Relaxed) => Next::GoOn,
            _ => {
                self.note(kind, ApiState::Failed(error.to_string()));
                Next::GoOn
            }
        };
        self.follow(kind, watch::endless(api, config), works, failed).await;
    }

    /// What is known of a kind of another project in this scope; those that use it are enqueued when it changes.
    fn note(&self, kind: &'static ObjectKind, state: ApiState) {
        for user in self.optional.note(kind, self.scope.namespace(), state) {
            self.scope.child_changed(&user);
        }
    }

    fn of_kind(&self, client: Client, kind: &ObjectKind) -> (Api<Received>, watcher::Config) {
        let resource = api_resource(kind);
        let api = match self.scope.namespace() {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        (api, watcher::Config::default().labels(&format!("{}={FIELD_MANAGER}", label::MANAGED_BY)))
    }

    /// Fills the cache with what a watch delivers, and calls `works` after each list. `failed` says whether an error ends it.
    async fn follow(
        &self,
        kind: &'static ObjectKind,
        events: impl Stream<Item = watcher::Result<watcher::Event<Received>>> + Send,
        mut works: impl FnMut() + Send,
        failed: impl Fn(&watcher::Error) -> Next + Send,
    ) {
        pin_mut!(events);
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.insert((object.namespace().unwrap_or_default(), object.name_any()));
                    self.put(kind, object);
                }
                Ok(watcher::Event::InitDone) => {
                    self.retain(kind, &std::mem::take(&mut listed));
                    works();
                }
                Ok(watcher::Event::Apply(object)) => self.put(kind, object),
                Ok(watcher::Event::Delete(object)) => self.remove(kind, &object),
                Err(error) => match failed(&error) {
                    Next::End => return,
                    Next::GoOn => warn!(kind = kind.key, %error, "failed to watch; it is tried again"),
                },
            }
        }
    }

    /// Removes from the cache what a list did not have.
    fn retain(&self, kind: &'static ObjectKind, listed: &HashSet<(String, String)>) {
        for (key, owner) in self.cache.retain(kind, self.scope.namespace(), listed) {
            self.settled.forget(&owner.namespace, &key);
            self.scope.child_changed(&owner);
        }
    }

    fn put(&self, kind: &'static ObjectKind, object: Received) {
        let Some(live) = LiveObject::new(kind, object) else { return };
        debug!(kind = kind.key, namespace = &*live.namespace, name = &*live.name, version = live.version, "seen");
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
        let key = ObjectKey { kind: kind.key, name: object.name_any() };
        let namespace = object.namespace().unwrap_or_default();
        debug!(kind = kind.key, namespace, name = key.name, "gone");
        self.settled.forget(&namespace, &key);
        if let Some(owner) = self.cache.remove(&namespace, &key) {
            self.scope.child_changed(&owner);
        }
    }
}
