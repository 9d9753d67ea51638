//! The user's Secrets and `ConfigMaps`: read when a resource names them, and again when a watch of their metadata shows that they
//! changed. The cache holds values only of Secrets that the operator itself uses, and only under the keys that are named; of all
//! other objects nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Resource, ResourceExt, api::ApiResource, runtime::watcher};
use tracing::warn;

use super::{ResourceKey, Triggers, watch};
use crate::{
    names::{is_object_name, label},
    objects::Received,
    telemetry::Health,
};

/// The kind, namespace and name of an object of the user.
pub type ObjectReference = (&'static str, String, String);

/// The decoded members of a Secret or `ConfigMap`.
pub type Members = BTreeMap<String, Vec<u8>>;

/// The kind of Secrets.
pub const SECRET: &str = "Secret";
/// The kind of `ConfigMaps`.
pub const CONFIG_MAP: &str = "ConfigMap";

/// The most that is cached of one Secret, in bytes: a bundle of all public certificate authorities is half of it.
const VALUES_MAX: usize = 512 * 1024;

/// The objects that a resource names.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The Secrets, each with the keys whose values are needed. Of a Secret without keys only its existence is needed.
    pub secrets: BTreeMap<String, BTreeSet<String>>,
    /// The `ConfigMaps`.
    pub config_maps: BTreeSet<String>,
}

/// A cached object.
#[derive(Clone, Debug)]
struct CachedObject {
    version: u64,
    exists: bool,
    /// The keys whose values are cached, if the object has them.
    keys: BTreeSet<String>,
    values: Members,
    s3: bool,
    too_large: bool,
}

/// What the cache knows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It was not read, or has changed since.
    Nothing,
    /// It does not exist.
    Absent,
    /// It exists, in this version.
    Version(u64),
}

/// The part of a Secret that a resource needs.
pub struct Found {
    /// The values under the keys that it needs.
    pub values: Members,
    /// Whether its label says that it holds keys of S3.
    pub s3: bool,
    /// Whether the values were left out because they are too large to be cached.
    pub too_large: bool,
}

/// An object as it was read.
#[derive(Debug, Default)]
pub struct WholeObject {
    /// Its version.
    pub version: u64,
    /// All of its members.
    pub data: Members,
    s3: bool,
}

#[derive(Debug, Default)]
struct Contents {
    /// The objects that were read.
    cached: HashMap<ObjectReference, CachedObject>,
    /// The newest version that the watch showed, of objects that are named: an older answer is not cached.
    newest: HashMap<ObjectReference, u64>,
    /// How often the watch showed that an object is gone, of objects that are named: an answer to a request of before is not cached.
    gone: HashMap<ObjectReference, u64>,
    /// Which resources name an object, and the keys of it that they need.
    users: HashMap<ObjectReference, BTreeMap<ResourceKey, BTreeSet<String>>>,
    /// The objects that a resource names.
    named: HashMap<ResourceKey, Vec<(ObjectReference, BTreeSet<String>)>>,
}

/// The user's Secrets and `ConfigMaps` that resources name. Clones share the cache.
#[derive(Clone)]
pub struct References {
    client: Client,
    triggers: Triggers,
    health: Arc<Health>,
    contents: Arc<Mutex<Contents>>,
}

impl References {
    /// Nothing is read yet. A change of an object enqueues the resources that name it.
    pub fn new(client: Client, triggers: Triggers, health: Arc<Health>) -> Self {
        Self { client, triggers, health, contents: Arc::default() }
    }

    /// Remembers the objects that a resource names, and forgets those that no resource names any more.
    pub fn set(&self, user: &ResourceKey, needs: Needs) {
        let of_namespace = |kind, name| (kind, user.namespace.clone(), name);
        let secrets = needs.secrets.into_iter().map(|(name, keys)| (of_namespace(SECRET, name), keys));
        let maps = needs.config_maps.into_iter().map(|name| (of_namespace(CONFIG_MAP, name), BTreeSet::new()));
        let named: Vec<_> = secrets.chain(maps).collect();
        let mut contents = self.lock();
        // Nearly every reconcile names the same objects as the one before.
        if contents.named.get(user).is_some_and(|former| *former == named) {
            return;
        }
        let former = contents.named.insert(user.clone(), named.clone()).unwrap_or_default();
        for (object, _) in former.into_iter().filter(|(object, _)| named.iter().all(|(other, _)| other != object)) {
            contents.release(&object, user);
        }
        for (object, keys) in named {
            contents.users.entry(object).or_default().insert(user.clone(), keys);
        }
    }

    /// Forgets a resource.
    pub fn forget(&self, user: &ResourceKey) {
        let mut contents = self.lock();
        for (object, _) in contents.named.remove(user).unwrap_or_default() {
            contents.release(&object, user);
        }
    }

    /// What the cache knows of an object now.
    pub fn knowledge(&self, key: &ObjectReference) -> Knowledge {
        match self.lock().cached.get(key) {
            Some(cached) if cached.exists => Knowledge::Version(cached.version),
            Some(_) => Knowledge::Absent,
            None => Knowledge::Nothing,
        }
    }

    /// The values of a Secret under some keys. `None`: it does not exist.
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
        keys: &BTreeSet<String>,
    ) -> Result<Option<Found>, kube::Error> {
        let key = (SECRET, namespace.to_owned(), name.to_owned());
        let suffices = |cached: &&CachedObject| !cached.exists || keys.is_subset(&cached.keys);
        if let Some(cached) = self.lock().cached.get(&key).filter(suffices) {
            return Ok(cached.found(keys));
        }
        let Some(whole) = self.read(&key).await? else { return Ok(None) };
        Ok(CachedObject::of(&whole, keys.clone()).found(keys))
    }

    /// Reads an object, and caches the part that resources need. `None`: it does not exist.
    pub async fn read(&self, key: &ObjectReference) -> Result<Option<WholeObject>, kube::Error> {
        // A request for such a name would be about another object, or could not be sent at all.
        if !is_object_name(&key.2) {
            return Ok(None);
        }
        let watched = |contents: &Contents| (contents.newest.get(key).copied(), contents.gone.get(key).copied());
        let (newest_before, gone_before) = watched(&self.lock());
        let found = if key.0 == SECRET { self.read_secret(key).await? } else { self.read_config_map(key).await? };
        let mut contents = self.lock();
        let (newest, gone) = watched(&contents);
        // The watch may have been faster than the answer: an object that the API server did not find may have been created since,
        // and one that it found may be deleted, which no later event would show.
        let current = match &found {
            Some(whole) => whole.version >= newest.unwrap_or(0) && gone == gone_before,
            None => newest == newest_before,
        };
        if let Some(users) = contents.users.get(key).filter(|_| current) {
            let keys: BTreeSet<String> = users.values().flatten().cloned().collect();
            let cached = found.as_ref().map_or_else(CachedObject::absent, |whole| CachedObject::of(whole, keys));
            contents.cached.insert(key.clone(), cached);
        }
        Ok(found)
    }

    async fn read_secret(&self, key: &ObjectReference) -> Result<Option<WholeObject>, kube::Error> {
        let found = Api::<Secret>::namespaced(self.client.clone(), &key.1).get_opt(&key.2).await?;
        Ok(found.map(|secret| WholeObject {
            version: version(&secret),
            s3: secret.labels().get(label::S3).is_some_and(|value| value == "true"),
            data: secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect(),
        }))
    }

    async fn read_config_map(&self, key: &ObjectReference) -> Result<Option<WholeObject>, kube::Error> {
        let found = Api::<ConfigMap>::namespaced(self.client.clone(), &key.1).get_opt(&key.2).await?;
        Ok(found.map(|map| {
            let version = version(&map);
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            WholeObject { version, s3: false, data: text.chain(binary).collect() }
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
        let name = watch::name(&format!("metadata of {kind}"), scope);
        let events = watch::watch(api, watcher::Config::default(), self.health.clone(), name);
        pin_mut!(events);
        let mut listed: HashSet<ObjectReference> = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    let key = key(kind, &object);
                    self.listed(&key, version(&object));
                    // Only objects that a resource names are of interest.
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

    /// A list replaces what is cached, also with an older version: etcd may have been restored.
    fn listed(&self, key: &ObjectReference, version: u64) {
        {
            let mut contents = self.lock();
            if let Some(cached) = contents.cached.get(key).filter(|cached| cached.exists && cached.version > version) {
                let restored = cached.version;
                contents.cached.remove(key);
                contents.newest.remove(key);
                warn!(kind = key.0, namespace = key.1, name = key.2, version, restored, "listed with an older version");
            }
        }
        self.changed(key, version);
    }

    fn changed(&self, key: &ObjectReference, version: u64) {
        {
            let mut contents = self.lock();
            if !contents.users.contains_key(key) {
                return;
            }
            contents.newest.insert(key.clone(), version);
            if contents.cached.get(key).is_some_and(|cached| cached.exists && cached.version >= version) {
                return;
            }
        }
        self.invalidate(key);
    }

    fn gone_unless(&self, kind: &'static str, scope: Option<&str>, listed: &HashSet<ObjectReference>) {
        let contents = self.lock();
        let missing = |key: &&ObjectReference| {
            key.0 == kind && scope.is_none_or(|scope| scope == key.1) && !listed.contains(*key)
        };
        // Also an object that is being read, and is not cached yet, may be gone.
        let missing: Vec<ObjectReference> = contents.users.keys().filter(missing).cloned().collect();
        let absent = |key: &&ObjectReference| contents.cached.get(*key).is_some_and(|cached| !cached.exists);
        let gone: Vec<ObjectReference> = missing.iter().filter(|key| !absent(key)).cloned().collect();
        drop(contents);
        for key in &gone {
            self.gone(key);
        }
    }

    /// The watch shows that an object is gone: also an answer that is under way is outdated.
    fn gone(&self, key: &ObjectReference) {
        {
            let mut contents = self.lock();
            if contents.users.contains_key(key) {
                *contents.gone.entry(key.clone()).or_default() += 1;
            }
        }
        self.invalidate(key);
    }

    fn invalidate(&self, key: &ObjectReference) {
        let users = {
            let mut contents = self.lock();
            contents.cached.remove(key);
            contents.users.get(key).map(|users| users.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
        };
        for user in &users {
            self.triggers.enqueue(user);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedObject {
    fn absent() -> Self {
        let (keys, values) = (BTreeSet::new(), Members::new());
        Self { version: 0, exists: false, keys, values, s3: false, too_large: false }
    }

    fn of(whole: &WholeObject, keys: BTreeSet<String>) -> Self {
        let needed = whole.data.iter().filter(|(key, _)| keys.contains(*key));
        let size: usize = needed.clone().map(|(_, value)| value.len()).sum();
        let too_large = size > VALUES_MAX;
        let values = if too_large { Members::new() } else { needed.map(|(k, v)| (k.clone(), v.clone())).collect() };
        Self { version: whole.version, exists: true, keys, values, s3: whole.s3, too_large }
    }

    fn found(&self, keys: &BTreeSet<String>) -> Option<Found> {
        let values = self.values.iter().filter(|(key, _)| keys.contains(*key));
        let values = values.map(|(key, value)| (key.clone(), value.clone())).collect();
        self.exists.then_some(Found { values, s3: self.s3, too_large: self.too_large })
    }
}

impl Contents {
    /// A resource no longer names an object: the cache drops it if no other resource does.
    fn release(&mut self, key: &ObjectReference, user: &ResourceKey) {
        if let Some(users) = self.users.get_mut(key) {
            users.remove(user);
            if users.is_empty() {
                self.users.remove(key);
                self.cached.remove(key);
                self.newest.remove(key);
                self.gone.remove(key);
            }
        }
    }
}

fn key(kind: &'static str, object: &Received<false>) -> ObjectReference {
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

    /// An API server that answers the first request with a Secret, once it is allowed to, and all others with 404.
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
    #[case::by_an_event(|references: &References, key: &ObjectReference| references.gone(key))]
    #[case::by_a_list(|references: &References, _: &ObjectReference| references.gone_unless(SECRET, None, &HashSet::new()))]
    #[tokio::test]
    async fn an_object_that_is_deleted_while_it_is_read_is_not_cached(
        #[case] deleted: fn(&References, &ObjectReference),
    ) {
        let answers =
            Answers { asked: Arc::new(Semaphore::new(0)), allowed: Arc::new(Semaphore::new(0)), count: Arc::default() };
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let limits = HealthLimits { longest_reconcile: Duration::MAX, longest_silence: Duration::MAX };
        let health = Arc::new(Health::new(metrics.clone(), limits));
        let (triggers, _enqueued) = Triggers::new(metrics.controller("test"));
        let references = References::new(answers.client(), triggers, health);
        let user = ResourceKey { namespace: "n".to_owned(), name: "shop".to_owned() };
        let keys = BTreeSet::from(["KEY".to_owned()]);
        let secrets = BTreeMap::from([(NAME.to_owned(), keys.clone())]);
        references.set(&user, Needs { secrets, ..Needs::default() });

        let reading = tokio::spawn({
            let (references, keys) = (references.clone(), keys.clone());
            async move { references.secret("n", NAME, &keys).await }
        });
        answers.asked.acquire().await.expect("it stays open").forget();
        deleted(&references, &(SECRET, "n".to_owned(), NAME.to_owned()));
        answers.allowed.add_permits(1);
        // The reconcile that asked gets the answer; the deletion has enqueued another one.
        assert!(reading.await.expect("no panic").expect("an answer").is_some());
        let again = references.secret("n", NAME, &keys).await.expect("an answer");
        assert!(again.is_none(), "it was cached");
        assert_eq!(answers.count.load(Ordering::Relaxed), 2);
    }
}
