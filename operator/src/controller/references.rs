//! The user's Secrets and `ConfigMaps`: read when a stack names them, and again when a watch of their metadata says that they
//! changed. Content is kept only of those that a stack names; of all others nothing is kept.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Resource, ResourceExt, api::ApiResource, runtime::watcher};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::{StackKey, Triggers, watching};
use crate::{
    names::is_object_name,
    objects::Received,
    stack::{References as Named, SecretData},
    telemetry::Health,
};

/// The kind, namespace and name of an object of the user.
type Key = (&'static str, String, String);

const SECRET: &str = "Secret";
const CONFIG_MAP: &str = "ConfigMap";

#[derive(Clone, Debug)]
struct Entry {
    version: u64,
    data: Option<SecretData>,
}

#[derive(Debug, Default)]
struct Contents {
    /// What was read.
    known: HashMap<Key, Entry>,
    /// The newest version that the watch told of, of what stacks name: an answer that is older is not kept.
    newest: HashMap<Key, u64>,
    /// Which stacks name an object.
    users: HashMap<Key, BTreeSet<StackKey>>,
    /// What a stack names.
    named: HashMap<StackKey, Vec<Key>>,
}

/// The user's Secrets and `ConfigMaps` that stacks name.
#[derive(Clone)]
pub struct References {
    client: Client,
    triggers: Triggers,
    health: Arc<Health>,
    contents: Arc<Mutex<Contents>>,
}

impl References {
    /// Nothing is read yet.
    pub fn new(client: Client, triggers: Triggers, health: Arc<Health>) -> Self {
        Self { client, triggers, health, contents: Arc::default() }
    }

    /// Remembers what a stack names, and forgets what none names any more.
    pub fn set(&self, stack: &StackKey, named: &Named) {
        let secrets = named.secrets.iter().map(|name| (SECRET, stack.namespace.clone(), name.clone()));
        let maps = named.config_maps.iter().map(|name| (CONFIG_MAP, stack.namespace.clone(), name.clone()));
        let keys: Vec<Key> = secrets.chain(maps).collect();
        let mut contents = self.lock();
        // So it is in nearly every pass.
        if contents.named.get(stack).is_some_and(|former| *former == keys) {
            return;
        }
        let former = contents.named.insert(stack.clone(), keys.clone()).unwrap_or_default();
        for key in former.into_iter().filter(|key| !keys.contains(key)) {
            contents.release(&key, stack);
        }
        for key in keys {
            contents.users.entry(key).or_default().insert(stack.clone());
        }
    }

    /// Forgets a stack.
    pub fn forget(&self, stack: &StackKey) {
        let mut contents = self.lock();
        for key in contents.named.remove(stack).unwrap_or_default() {
            contents.release(&key, stack);
        }
    }

    /// The data of a Secret. `None`: it does not exist.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretData>, kube::Error> {
        let key = (SECRET, namespace.to_owned(), name.to_owned());
        self.read::<Secret>(key, |secret| {
            secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
        })
        .await
    }

    /// The data of a `ConfigMap`. `None`: it does not exist.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<SecretData>, kube::Error> {
        let key = (CONFIG_MAP, namespace.to_owned(), name.to_owned());
        self.read::<ConfigMap>(key, |map| {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0))).collect()
        })
        .await
    }

    async fn read<K>(&self, key: Key, data: impl FnOnce(K) -> SecretData) -> Result<Option<SecretData>, kube::Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        // A request for it would be about something else, or could not be sent at all.
        if !is_object_name(&key.2) {
            return Ok(None);
        }
        if let Some(entry) = self.lock().known.get(&key) {
            return Ok(entry.data.clone());
        }
        let before = self.lock().newest.get(&key).copied();
        let found = Api::<K>::namespaced(self.client.clone(), &key.1).get_opt(&key.2).await?;
        let entry = match found {
            Some(object) => Entry { version: version(&object), data: Some(data(object)) },
            None => Entry { version: 0, data: None },
        };
        let answer = entry.data.clone();
        let mut contents = self.lock();
        let newest = contents.newest.get(&key).copied();
        // What was not there when it was asked for may have been made, and told by the watch, before the answer came.
        let current = if entry.data.is_some() { entry.version >= newest.unwrap_or(0) } else { newest == before };
        if contents.users.contains_key(&key) && current {
            contents.known.insert(key, entry);
        }
        Ok(answer)
    }

    /// Watches the metadata of Secrets and `ConfigMaps` in a namespace, or in all, until the future is dropped.
    pub async fn watch(self, scope: Option<String>) {
        futures::future::join(
            self.watch_kind::<Secret>(SECRET, scope.as_deref()),
            self.watch_kind::<ConfigMap>(CONFIG_MAP, scope.as_deref()),
        )
        .await;
    }

    async fn watch_kind<K: Resource<DynamicType = ()>>(&self, kind: &'static str, scope: Option<&str>) {
        let resource = ApiResource::erase::<K>(&());
        let api: Api<Received<false>> = match scope {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let what = watching::name(&format!("metadata of {kind}"), scope);
        let events = watching::watch(api, watcher::Config::default(), self.health.clone(), what);
        pin_mut!(events);
        let mut listed: HashSet<Key> = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    let key = key(kind, &object);
                    self.listed(&key, version(&object));
                    // Only what a stack names is of interest.
                    if self.lock().users.contains_key(&key) {
                        listed.insert(key);
                    }
                }
                Ok(watcher::Event::InitDone) => self.gone_unless(kind, scope, &listed),
                Ok(watcher::Event::Apply(object)) => self.changed(&key(kind, &object), version(&object)),
                Ok(watcher::Event::Delete(object)) => self.invalidate(&key(kind, &object)),
                Err(error) => warn!(kind, %error, "failed to watch metadata; it is tried again"),
            }
        }
    }

    /// A list counts, also with an older version: etcd may have been restored.
    fn listed(&self, key: &Key, version: u64) {
        {
            let mut contents = self.lock();
            if let Some(entry) = contents.known.get(key).filter(|entry| entry.data.is_some() && entry.version > version)
            {
                let restored = entry.version;
                contents.known.remove(key);
                contents.newest.remove(key);
                warn!(kind = key.0, namespace = key.1, name = key.2, version, restored, "listed with an older version");
            }
        }
        self.changed(key, version);
    }

    fn changed(&self, key: &Key, version: u64) {
        {
            let mut contents = self.lock();
            if !contents.users.contains_key(key) {
                return;
            }
            contents.newest.insert(key.clone(), version);
            if contents.known.get(key).is_some_and(|entry| entry.data.is_some() && entry.version >= version) {
                return;
            }
        }
        self.invalidate(key);
    }

    fn gone_unless(&self, kind: &'static str, scope: Option<&str>, listed: &HashSet<Key>) {
        let gone: Vec<Key> = self
            .lock()
            .known
            .iter()
            .filter(|(key, entry)| {
                key.0 == kind
                    && scope.is_none_or(|scope| scope == key.1)
                    && entry.data.is_some()
                    && !listed.contains(*key)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.invalidate(key);
        }
    }

    fn invalidate(&self, key: &Key) {
        let users = {
            let mut contents = self.lock();
            contents.known.remove(key);
            contents.users.get(key).cloned().unwrap_or_default()
        };
        for stack in &users {
            self.triggers.send(stack);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn release(&mut self, key: &Key, stack: &StackKey) {
        if let Some(users) = self.users.get_mut(key) {
            users.remove(stack);
            if users.is_empty() {
                self.users.remove(key);
                self.known.remove(key);
                self.newest.remove(key);
            }
        }
    }
}

fn key(kind: &'static str, object: &Received<false>) -> Key {
    let metadata = &object.metadata;
    (kind, metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}
