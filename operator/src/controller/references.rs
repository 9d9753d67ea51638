//! The user's Secrets and `ConfigMaps`: read when a stack names them, and again when a watch of their metadata says that they
//! changed. Content is kept only of Secrets whose values the operator itself uses, and only under the keys that are named; of
//! what a workload's `env` and `envFrom` name a hash is kept (`reading`), and of all others nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Resource, ResourceExt, api::ApiResource, runtime::watcher};
use tracing::warn;

use super::{StackKey, Triggers, reading::Hashed, watching};
use crate::{
    names::{is_object_name, label},
    objects::Received,
    stack::{References as Named, SecretData, SecretTraits},
    telemetry::Health,
};

/// The kind, namespace and name of an object of the user.
pub(super) type Key = (&'static str, String, String);

pub(super) const SECRET: &str = "Secret";
pub(super) const CONFIG_MAP: &str = "ConfigMap";

/// How much of one Secret is kept: a bundle of all public certificate authorities is half of it.
const VALUES_MAX: usize = 512 * 1024;

/// What is known of an object.
#[derive(Clone, Debug)]
struct Entry {
    version: u64,
    exists: bool,
    /// The keys whose values are kept, if the object has them.
    keys: BTreeSet<String>,
    values: SecretData,
    traits: SecretTraits,
}

/// What is known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// It was not read, or changed since.
    Nothing,
    /// It does not exist.
    Absent,
    /// It exists, in this version.
    Version(u64),
}

/// What a stack needs of a Secret.
pub(super) struct Found {
    /// The values under the keys that it needs.
    pub(super) values: SecretData,
    /// What else is known of it.
    pub(super) traits: SecretTraits,
}

/// An object as it was read.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub(super) version: u64,
    pub(super) data: SecretData,
    for_s3: bool,
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    /// What was read.
    known: HashMap<Key, Entry>,
    /// The newest version that the watch told of, of what stacks name: an answer that is older is not kept.
    newest: HashMap<Key, u64>,
    /// How often it was told that an object is gone, of what stacks name: an answer that was asked for before is not kept.
    gone: HashMap<Key, u64>,
    /// Which stacks name an object, and the keys of it that they need.
    users: HashMap<Key, BTreeMap<StackKey, BTreeSet<String>>>,
    /// What a stack names.
    named: HashMap<StackKey, Vec<(Key, BTreeSet<String>)>>,
    /// What the workloads of a stack were configured with.
    pub(super) hashed: HashMap<StackKey, Hashed>,
}

/// The user's Secrets and `ConfigMaps` that stacks name.
#[derive(Clone)]
pub struct References {
    client: Client,
    triggers: Triggers,
    health: Arc<Health>,
    contents: Arc<Mutex<Contents>>,
    /// Held while the sources of a stack are in memory: those of one at a time.
    pub(super) reading: Arc<tokio::sync::Mutex<()>>,
}

impl References {
    /// Nothing is read yet. `reading` is shared by all that read.
    pub fn new(client: Client, triggers: Triggers, health: Arc<Health>, reading: Arc<tokio::sync::Mutex<()>>) -> Self {
        Self { client, triggers, health, contents: Arc::default(), reading }
    }

    /// Remembers what a stack names, and forgets what none names any more.
    pub fn set(&self, stack: &StackKey, named: &Named) {
        let needed = |name: &String| named.keys.get(name).cloned().unwrap_or_default();
        let secrets = named.secrets.iter().map(|name| ((SECRET, stack.namespace.clone(), name.clone()), needed(name)));
        let maps = named.config_maps.iter().map(|name| (CONFIG_MAP, stack.namespace.clone(), name.clone()));
        let keys: Vec<_> = secrets.chain(maps.map(|key| (key, BTreeSet::new()))).collect();
        let mut contents = self.lock();
        // So it is in nearly every pass.
        if contents.named.get(stack).is_some_and(|former| *former == keys) {
            return;
        }
        let former = contents.named.insert(stack.clone(), keys.clone()).unwrap_or_default();
        for (key, _) in former.into_iter().filter(|(key, _)| keys.iter().all(|(kept, _)| kept != key)) {
            contents.release(&key, stack);
        }
        for (key, needed) in keys {
            contents.users.entry(key).or_default().insert(stack.clone(), needed);
        }
    }

    /// Forgets a stack.
    pub fn forget(&self, stack: &StackKey) {
        let mut contents = self.lock();
        contents.hashed.remove(stack);
        for (key, _) in contents.named.remove(stack).unwrap_or_default() {
            contents.release(&key, stack);
        }
    }

    /// What a Secret holds under some keys. `None`: it does not exist.
    pub(super) async fn secret(
        &self,
        namespace: &str,
        name: &str,
        keys: &BTreeSet<String>,
    ) -> Result<Option<Found>, kube::Error> {
        let key = (SECRET, namespace.to_owned(), name.to_owned());
        if let Some(entry) = self.lock().known.get(&key).filter(|entry| !entry.exists || keys.is_subset(&entry.keys)) {
            return Ok(entry.found(keys));
        }
        let Some(whole) = self.read(&key).await? else { return Ok(None) };
        Ok(Entry::of(&whole, keys.clone()).found(keys))
    }

    /// Reads an object, and keeps of it what stacks need. `None`: it does not exist.
    pub(super) async fn read(&self, key: &Key) -> Result<Option<Whole>, kube::Error> {
        // A request for it would be about something else, or could not be sent at all.
        if !is_object_name(&key.2) {
            return Ok(None);
        }
        let told = |contents: &Contents| (contents.newest.get(key).copied(), contents.gone.get(key).copied());
        let (newest_before, gone_before) = told(&self.lock());
        let found = if key.0 == SECRET { self.read_secret(key).await? } else { self.read_config_map(key).await? };
        let mut contents = self.lock();
        let (newest, gone) = told(&contents);
        // What was not there when it was asked for may have been made, and told by the watch, before the answer came; what was
        // there may be gone, of which nothing else would tell as long as it is believed.
        let current = match &found {
            Some(whole) => whole.version >= newest.unwrap_or(0) && gone == gone_before,
            None => newest == newest_before,
        };
        if let Some(users) = contents.users.get(key).filter(|_| current) {
            let keys: BTreeSet<String> = users.values().flatten().cloned().collect();
            let entry = found.as_ref().map_or_else(Entry::absent, |whole| Entry::of(whole, keys));
            contents.known.insert(key.clone(), entry);
        }
        Ok(found)
    }

    async fn read_secret(&self, key: &Key) -> Result<Option<Whole>, kube::Error> {
        let found = Api::<Secret>::namespaced(self.client.clone(), &key.1).get_opt(&key.2).await?;
        Ok(found.map(|secret| Whole {
            version: version(&secret),
            for_s3: secret.labels().get(label::S3).is_some_and(|value| value == "true"),
            data: secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect(),
        }))
    }

    async fn read_config_map(&self, key: &Key) -> Result<Option<Whole>, kube::Error> {
        let found = Api::<ConfigMap>::namespaced(self.client.clone(), &key.1).get_opt(&key.2).await?;
        Ok(found.map(|map| {
            let version = version(&map);
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            Whole { version, for_s3: false, data: text.chain(binary).collect() }
        }))
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
                Ok(watcher::Event::Delete(object)) => self.gone(&key(kind, &object)),
                Err(error) => warn!(kind, %error, "failed to watch metadata; it is tried again"),
            }
        }
    }

    /// A list counts, also with an older version: etcd may have been restored.
    fn listed(&self, key: &Key, version: u64) {
        {
            let mut contents = self.lock();
            if let Some(entry) = contents.known.get(key).filter(|entry| entry.exists && entry.version > version) {
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
            if contents.known.get(key).is_some_and(|entry| entry.exists && entry.version >= version) {
                return;
            }
        }
        self.invalidate(key);
    }

    fn gone_unless(&self, kind: &'static str, scope: Option<&str>, listed: &HashSet<Key>) {
        let contents = self.lock();
        let missing = |key: &&Key| key.0 == kind && scope.is_none_or(|scope| scope == key.1) && !listed.contains(*key);
        // One that is being read was known to nobody, and may be gone all the same.
        let missing: Vec<Key> = contents.users.keys().filter(missing).cloned().collect();
        let absent = |key: &&Key| contents.known.get(*key).is_some_and(|entry| !entry.exists);
        let gone: Vec<Key> = missing.iter().filter(|key| !absent(key)).cloned().collect();
        drop(contents);
        for key in &gone {
            self.gone(key);
        }
    }

    /// The watch tells that an object is gone: also an answer under way is of the past.
    fn gone(&self, key: &Key) {
        {
            let mut contents = self.lock();
            if contents.users.contains_key(key) {
                *contents.gone.entry(key.clone()).or_default() += 1;
            }
        }
        self.invalidate(key);
    }

    fn invalidate(&self, key: &Key) {
        let users = {
            let mut contents = self.lock();
            contents.known.remove(key);
            contents.users.get(key).map(|users| users.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
        };
        for stack in &users {
            self.triggers.send(stack);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn absent() -> Self {
        let (keys, values, traits) = (BTreeSet::new(), SecretData::new(), SecretTraits::default());
        Self { version: 0, exists: false, keys, values, traits }
    }

    fn of(whole: &Whole, keys: BTreeSet<String>) -> Self {
        let kept = whole.data.iter().filter(|(key, _)| keys.contains(*key));
        let size: usize = kept.clone().map(|(_, value)| value.len()).sum();
        let too_large = size > VALUES_MAX;
        let values = if too_large { SecretData::new() } else { kept.map(|(k, v)| (k.clone(), v.clone())).collect() };
        let traits = SecretTraits { for_s3: whole.for_s3, too_large };
        Self { version: whole.version, exists: true, keys, values, traits }
    }

    fn found(&self, keys: &BTreeSet<String>) -> Option<Found> {
        let values = self.values.iter().filter(|(key, _)| keys.contains(*key));
        let values = values.map(|(key, value)| (key.clone(), value.clone())).collect();
        self.exists.then_some(Found { values, traits: self.traits })
    }
}

impl Contents {
    /// What is known of an object now.
    pub(super) fn knowledge(&self, key: &Key) -> Knowledge {
        match self.known.get(key) {
            Some(entry) if entry.exists => Knowledge::Version(entry.version),
            Some(_) => Knowledge::Absent,
            None => Knowledge::Nothing,
        }
    }

    fn release(&mut self, key: &Key, stack: &StackKey) {
        if let Some(users) = self.users.get_mut(key) {
            users.remove(stack);
            if users.is_empty() {
                self.users.remove(key);
                self.known.remove(key);
                self.newest.remove(key);
                self.gone.remove(key);
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

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use http::{Request, Response};
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::telemetry::{HealthLimits, Metrics};

    const NAME: &str = "settings";

    /// Answers the first question with a Secret, when it is allowed to, and says of all others that there is none.
    #[derive(Clone)]
    struct Answers {
        asked: Arc<Semaphore>,
        allowed: Arc<Semaphore>,
        count: Arc<AtomicUsize>,
    }

    impl Answers {
        fn client(&self) -> Client {
            let answers = self.clone();
            let answer = move |_: Request<Body>| {
                let answers = answers.clone();
                async move {
                    let first = answers.count.fetch_add(1, Ordering::Relaxed) == 0;
                    answers.asked.add_permits(1);
                    if first {
                        answers.allowed.acquire().await.expect("it stays open").forget();
                    }
                    let secret = json!({"apiVersion": "v1", "kind": "Secret",
                        "metadata": {"name": NAME, "namespace": "n", "resourceVersion": "7"}, "data": {"KEY": "eA=="}});
                    let none = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404,
                        "reason": "NotFound", "message": "there is none"});
                    let (code, body) = if first { (200, secret) } else { (404, none) };
                    let answer = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
                    Ok::<_, std::convert::Infallible>(answer.expect("an answer"))
                }
            };
            Client::new(tower::service_fn(answer), "n")
        }
    }

    /// By a watch, and by a list that does not hold it.
    #[rstest]
    #[case::by_an_event(|references: &References, key: &Key| references.gone(key))]
    #[case::by_a_list(|references: &References, _: &Key| references.gone_unless(SECRET, None, &HashSet::new()))]
    #[tokio::test]
    async fn what_is_deleted_while_it_is_read_is_not_believed_to_be_there(#[case] deleted: fn(&References, &Key)) {
        let answers =
            Answers { asked: Arc::new(Semaphore::new(0)), allowed: Arc::new(Semaphore::new(0)), count: Arc::default() };
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let limits = HealthLimits { longest_reconcile: Duration::MAX, longest_silence: Duration::MAX };
        let health = Arc::new(Health::new(metrics.clone(), limits));
        let (triggers, _looks) = Triggers::new(metrics);
        let references = References::new(answers.client(), triggers, health, Arc::default());
        let stack = StackKey { namespace: "n".to_owned(), name: "shop".to_owned() };
        let keys = BTreeSet::from(["KEY".to_owned()]);
        let named = Named {
            secrets: BTreeSet::from([NAME.to_owned()]),
            keys: BTreeMap::from([(NAME.to_owned(), keys.clone())]),
            ..Named::default()
        };
        references.set(&stack, &named);

        let reading = tokio::spawn({
            let (references, keys) = (references.clone(), keys.clone());
            async move { references.secret("n", NAME, &keys).await }
        });
        answers.asked.acquire().await.expect("it stays open").forget();
        deleted(&references, &(SECRET, "n".to_owned(), NAME.to_owned()));
        answers.allowed.add_permits(1);
        // The pass that asked is given what was answered; the deletion has asked for another one.
        assert!(reading.await.expect("no panic").expect("an answer").is_some());
        let again = references.secret("n", NAME, &keys).await.expect("an answer");
        assert!(again.is_none(), "it was believed to be there");
        assert_eq!(answers.count.load(Ordering::Relaxed), 2);
    }
}
