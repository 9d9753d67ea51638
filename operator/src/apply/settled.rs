//! The last writes of the operator itself, so that it neither loops nor repeats them while the caches lag behind.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::objects::{Digest, LiveObject, ObjectKey};

/// How long a write counts that the cache does not show yet. A watch is rarely later than this; afterwards the operator writes
/// again, and the answer of the API server decides.
pub const BELIEVED_FOR: Duration = Duration::from_secs(5);

type Key = (String, ObjectKey);

#[derive(Debug)]
struct LastWrite {
    uid: Box<str>,
    version: u64,
    hash: Digest,
    owned: Digest,
    rollout: bool,
    at: Instant,
}

/// The answer of the API server to a write.
#[derive(Debug)]
pub struct Answer<'a> {
    /// `metadata.uid`.
    pub uid: &'a str,
    /// `metadata.resourceVersion`.
    pub version: &'a str,
    /// The hash of the object that was sent.
    pub hash: Digest,
    /// The digest of the object that was sent, as the caches will compute it.
    pub owned: Digest,
    /// Whether the write replaces pods.
    pub rollout: bool,
}

/// The last write of each object, by namespace and key.
#[derive(Debug, Default)]
pub struct Settled {
    writes: Mutex<HashMap<Key, LastWrite>>,
    /// What runs once and was sent, until the caches show it: it may exist whatever the answer was, or if none came.
    begun: Mutex<HashSet<Key>>,
}

/// How an object in the cache compares with the last write.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object is as it was written last.
    Same,
    /// The cache does not show the last write yet.
    Stale {
        /// Whether that write replaces pods.
        rollout: bool,
    },
    /// There was no such write, or it no longer counts.
    Unknown,
}

impl Settled {
    /// Remembers a write by its answer.
    pub fn remember(&self, namespace: &str, key: ObjectKey, answer: &Answer<'_>) {
        let write = LastWrite {
            uid: answer.uid.into(),
            version: answer.version.parse().unwrap_or(0),
            hash: answer.hash,
            owned: answer.owned,
            rollout: answer.rollout,
            at: Instant::now(),
        };
        self.lock().insert((namespace.to_owned(), key), write);
    }

    /// An object that runs once is about to be sent.
    pub fn begin(&self, namespace: &str, key: &ObjectKey) {
        self.begun().insert((namespace.to_owned(), key.clone()));
    }

    /// What runs once and may exist in a namespace, though the caches have not shown it since it was sent.
    pub fn unseen(&self, namespace: &str) -> Vec<ObjectKey> {
        let begun = self.begun();
        begun.iter().filter(|(of, _)| of == namespace).map(|(_, key)| key.clone()).collect()
    }

    /// The cache shows an object. The write that it shows is forgotten, unless the API server changed the object on its way: such a
    /// write is recognised by its version, so that it is not repeated again and again.
    pub fn observe(&self, live: &LiveObject) {
        let mut begun = self.begun();
        if !begun.is_empty() {
            begun.remove(&(live.namespace.to_string(), live.key()));
        }
        drop(begun);
        let mut writes = self.lock();
        // Most of the time there was no write, and no key has to be made.
        if writes.is_empty() {
            return;
        }
        let place = (live.namespace.to_string(), live.key());
        if writes.get(&place).is_some_and(|write| {
            live.version >= write.version && live.uid == write.uid && live.owned == Some(write.owned)
        }) {
            writes.remove(&place);
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, namespace: &str, key: &ObjectKey) {
        let place = (namespace.to_owned(), key.clone());
        self.begun().remove(&place);
        self.lock().remove(&place);
    }

    /// Compares an object in the cache with the last write.
    pub fn verdict(&self, namespace: &str, key: &ObjectKey, live: Option<&LiveObject>, hash: Digest) -> Verdict {
        let mut writes = self.lock();
        if writes.is_empty() {
            return Verdict::Unknown;
        }
        let place = (namespace.to_owned(), key.clone());
        let Some(write) = writes.get(&place) else { return Verdict::Unknown };
        if write.hash != hash {
            return Verdict::Unknown;
        }
        let recent = write.at.elapsed() < BELIEVED_FOR;
        let Some(live) = live else {
            return if recent { Verdict::Stale { rollout: true } } else { Verdict::Unknown };
        };
        // Versions of one resource can be compared (KEP-5504).
        if live.uid == write.uid && live.version == write.version {
            if live.owned == Some(write.owned) {
                writes.remove(&place);
            }
            Verdict::Same
        } else if live.version < write.version && recent {
            Verdict::Stale { rollout: write.rollout }
        } else {
            Verdict::Unknown
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, LastWrite>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    fn job(name: &str) -> LiveObject {
        let metadata = json!({"name": name, "namespace": "n", "uid": "1", "resourceVersion": "2",
            "labels": {"app.kubernetes.io/instance": "shop"}});
        LiveObject::whole(kind_of("batch", "Job").unwrap(), json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn what_runs_once_is_unseen_from_before_it_is_sent_until_the_caches_show_it() {
        let settled = Settled::default();
        let (one, other) = (job("one"), job("other"));
        settled.begin("n", &one.key());
        settled.begin("n", &other.key());
        assert_eq!(settled.unseen("n").len(), 2);
        assert!(settled.unseen("elsewhere").is_empty());
        settled.observe(&one);
        assert_eq!(settled.unseen("n"), [other.key()]);
        settled.forget("n", &other.key());
        assert!(settled.unseen("n").is_empty());
    }
}
