//! What the operator itself wrote last, so that its own writes neither loop nor repeat while the caches lag behind.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::objects::{Digest, LiveObject, ObjectKey};

/// For how long a write that the cache does not show yet is believed. A watch is rarely later than this; afterwards the API
/// server is asked again, and its answer decides.
pub const BELIEVED_FOR: Duration = Duration::from_secs(5);

type Key = (String, ObjectKey);

#[derive(Debug)]
struct Entry {
    uid: Box<str>,
    version: u64,
    hash: Digest,
    owned: Digest,
    rollout: bool,
    at: Instant,
}

/// What the API server answered to a write.
#[derive(Debug)]
pub struct Answer<'a> {
    /// `metadata.uid`.
    pub uid: &'a str,
    /// `metadata.resourceVersion`.
    pub version: &'a str,
    /// The hash of what was sent.
    pub hash: Digest,
    /// The digest of what was sent, as the caches will have it.
    pub owned: Digest,
    /// Whether pods are replaced by it.
    pub rollout: bool,
}

/// The last write of each object, by namespace and key.
#[derive(Debug, Default)]
pub struct Settled(Mutex<HashMap<Key, Entry>>);

/// What the last write says about an object in the cache.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what was written last.
    Same,
    /// The cache has not seen the last write yet.
    Stale {
        /// Whether pods are replaced by that write.
        rollout: bool,
    },
    /// Nothing.
    Unknown,
}

impl Settled {
    /// Remembers what the API server answered.
    pub fn remember(&self, namespace: &str, key: ObjectKey, answer: &Answer<'_>) {
        let entry = Entry {
            uid: answer.uid.into(),
            version: answer.version.parse().unwrap_or(0),
            hash: answer.hash,
            owned: answer.owned,
            rollout: answer.rollout,
            at: Instant::now(),
        };
        self.lock().insert((namespace.to_owned(), key), entry);
    }

    /// The caches have an object at last. A write that it shows is forgotten, but for one that the server changed on its way:
    /// by its version it is known for what it is, and so it is not written again and again.
    pub fn seen(&self, live: &LiveObject) {
        let mut entries = self.lock();
        // Nothing is written most of the time, and then there is nothing to look up.
        if entries.is_empty() {
            return;
        }
        let place = (live.namespace.to_string(), live.key());
        if entries.get(&place).is_some_and(|entry| {
            live.version >= entry.version && live.uid == entry.uid && live.owned == Some(entry.owned)
        }) {
            entries.remove(&place);
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, namespace: &str, key: &ObjectKey) {
        self.lock().remove(&(namespace.to_owned(), key.clone()));
    }

    /// Compares an object in the cache with the last write.
    pub fn verdict(&self, namespace: &str, key: &ObjectKey, live: Option<&LiveObject>, hash: Digest) -> Verdict {
        let mut entries = self.lock();
        if entries.is_empty() {
            return Verdict::Unknown;
        }
        let place = (namespace.to_owned(), key.clone());
        let Some(entry) = entries.get(&place) else { return Verdict::Unknown };
        if entry.hash != hash {
            return Verdict::Unknown;
        }
        let recent = entry.at.elapsed() < BELIEVED_FOR;
        let Some(live) = live else {
            return if recent { Verdict::Stale { rollout: true } } else { Verdict::Unknown };
        };
        // Versions of one resource can be compared (KEP-5504).
        if live.uid == entry.uid && live.version == entry.version {
            if live.owned == Some(entry.owned) {
                entries.remove(&place);
            }
            Verdict::Same
        } else if live.version < entry.version && recent {
            Verdict::Stale { rollout: entry.rollout }
        } else {
            Verdict::Unknown
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
