//! Writes the status of a resource, to exactly the resource that was reconciled, and remembers it until the watch shows it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

use super::Reconciled;
use crate::{
    apply::{WRITE_LIMIT, Writer},
    names::FIELD_MANAGER,
    telemetry::{Metrics, WriteVerb},
};

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The status is stored.
    Stored,
    /// The resource is gone, or this process may no longer write: there is no status to store.
    Dropped,
    /// The resource changed after the reconcile began, or is another one of the same name.
    Conflict,
}

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The API server refused it, or could not be reached.
    #[error("failed to write the status: {0}")]
    Request(#[source] kube::Error),
    /// The API server did not answer in time.
    #[error("failed to write the status within {} s", WRITE_LIMIT.as_secs())]
    TimedOut,
}

/// Writes the statuses of one type.
pub struct StatusWriter<K: Reconciled> {
    client: Client,
    writer: Writer,
    metrics: Arc<Metrics>,
    /// The last status of each resource that the watch may not show yet, by uid.
    written: Mutex<HashMap<String, Remembered<K::Status>>>,
}

/// A status that was written.
struct Remembered<Status> {
    status: Status,
    /// The version that the API server answered.
    version: u64,
    at: Instant,
}

impl<K: Reconciled + DeserializeOwned> StatusWriter<K> {
    /// Nothing is written yet. `writer` is asked whether this process may write.
    pub fn new(client: Client, writer: Writer, metrics: Arc<Metrics>) -> Self {
        Self { client, writer, metrics, written: Mutex::default() }
    }

    /// The newest status that is known: that of the watch, or the one that was written last, until the watch shows it.
    pub fn last(&self, resource: &K) -> Option<K::Status> {
        let seen = version(resource);
        match self.written().entry(resource.uid().unwrap_or_default()) {
            Entry::Occupied(written) if written.get().version > seen => Some(written.get().status.clone()),
            Entry::Occupied(written) => {
                written.remove();
                resource.status().cloned()
            }
            Entry::Vacant(_) => resource.status().cloned(),
        }
    }

    /// Writes a status by server-side apply. The API server compares no uid when it applies a status, but it compares versions,
    /// so the version is the precondition.
    pub async fn write(&self, resource: &K, status: K::Status) -> Result<Written, StatusError> {
        let Some(permission) = self.writer.permitted().await else { return Ok(Written::Dropped) };
        let api = Api::<K>::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default());
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {
                "name": resource.name_any(),
                "uid": resource.uid(),
                "resourceVersion": self.last_version(resource),
            },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let (name, patch) = (resource.name_any(), Patch::Apply(&body));
        let answer = timeout(WRITE_LIMIT, api.patch_status(&name, &params, &patch)).await;
        drop(permission);
        let stored = match answer.map_err(|_| StatusError::TimedOut)? {
            Ok(stored) => stored,
            Err(kube::Error::Api(refusal)) if refusal.code == 404 => return Ok(Written::Dropped),
            Err(kube::Error::Api(refusal)) if refusal.code == 409 => return Ok(Written::Conflict),
            Err(error) => return Err(StatusError::Request(error)),
        };
        self.metrics.written(K::KIND, WriteVerb::Status);
        let remembered = Remembered { status, version: version(&stored), at: Instant::now() };
        self.written().insert(resource.uid().unwrap_or_default(), remembered);
        Ok(Written::Stored)
    }

    /// All resources were listed, beginning at this moment. The list shows each status that was written before; one that it does
    /// not show is lost, because etcd was restored.
    pub fn listed(&self, since: Instant) {
        self.written().retain(|_, written| written.at >= since);
    }

    /// Forgets a resource that is gone.
    pub fn forget(&self, uid: &str) {
        self.written().remove(uid);
    }

    /// The newest version of a resource that is known: that of the watch, or the one that its last status gave it.
    fn last_version(&self, resource: &K) -> Option<String> {
        let seen = resource.resource_version();
        let written = self.written();
        let last = written.get(resource.meta().uid.as_deref().unwrap_or_default());
        let newer =
            last.filter(|last| seen.as_ref().is_none_or(|seen| seen.parse().is_ok_and(|seen| last.version > seen)));
        newer.map_or(seen.clone(), |last| Some(last.version.to_string()))
    }

    fn written(&self) -> MutexGuard<'_, HashMap<String, Remembered<K::Status>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(resource: &impl ResourceExt) -> u64 {
    resource.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}
