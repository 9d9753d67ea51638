//! The only place that writes objects.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, Preconditions},
};
use serde_json::Value;
use tokio::time::timeout;

use super::{Settled, WritePermit, WriteThrottle};
use crate::{
    names::{FIELD_MANAGER, HANDOVER_MANAGER},
    objects::{self, LiveObject, ObjectKind},
};

/// A version that no object has: etcd's first revision is 1, before the first write. An apply with it makes the object or,
/// if one of the name exists, is refused with a conflict.
const ABSENT: &str = "1";

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// This process is no longer the leader, or ends.
    #[error("failed to write: leadership is lost, or the process ends")]
    NotPermitted,
    /// The API server did not answer in time. The watches will show whether it wrote.
    #[error("failed to write within {} s", WRITE_LIMIT.as_secs())]
    TimedOut,
    /// The API server refused, or could not be reached.
    #[error(transparent)]
    Request(#[from] kube::Error),
}

/// How an object was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It was created.
    Create,
    /// It was changed.
    Apply,
    /// It was deleted.
    Delete,
}

/// The longest that a write may take: after the renew deadline (10 s) and before the lease ends (15 s) a former leader's last
/// write must be over.
pub const WRITE_LIMIT: Duration = Duration::from_secs(4);

/// Writes objects while this process may write.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    may_write: Arc<dyn Fn() -> bool + Send + Sync>,
    throttle: WriteThrottle,
    /// The last write of each object.
    pub settled: Arc<Settled>,
    count: Arc<dyn Fn(&'static str, Write) + Send + Sync>,
}

impl Writer {
    /// A writer. It calls `may_write` before each request, and `count` with kind and verb after each that succeeded; while the API
    /// server has too much to do, `throttle` says when it may write.
    pub fn new(
        client: Client,
        throttle: WriteThrottle,
        may_write: impl Fn() -> bool + Send + Sync + 'static,
        count: impl Fn(&'static str, Write) + Send + Sync + 'static,
    ) -> Self {
        Self { client, throttle, may_write: Arc::new(may_write), settled: Arc::default(), count: Arc::new(count) }
    }

    fn api(&self, kind: &ObjectKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &api_resource(kind))
    }

    /// Waits for the permit to write, which the caller drops when the answer is there. `None`: this process no longer leads, or
    /// ends before it gets one. Code that writes without this type asks here, and takes no longer than the limit, as
    /// [`Self::limited`] does.
    pub async fn permitted(&self) -> Option<WritePermit> {
        // Leadership may end during the wait, so it is checked afterwards.
        self.throttle.permit().await.filter(|_| (self.may_write)())
    }

    /// Sends a write of the caller's own, within the limit. It is not sent when this process may not write. Boxed, so that
    /// the future of a reconcile is not as large as that of a request.
    pub fn limited<'a, T: Send>(
        &'a self,
        write: impl Future<Output = Result<T, kube::Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, WriteError>> {
        async move {
            let _permit = self.permitted().await.ok_or(WriteError::NotPermitted)?;
            let answer = timeout(WRITE_LIMIT, write).await;
            Ok(answer.map_err(|_| WriteError::TimedOut)??)
        }
        .boxed()
    }

    /// Creates an object. A conflict: one of the name exists.
    pub(super) async fn create(&self, kind: &'static ObjectKind, body: Value) -> Result<ObjectMeta, WriteError> {
        let created = self.patch(kind, body, ("resourceVersion", ABSENT), FIELD_MANAGER).await?;
        (self.count)(kind.kind, Write::Create);
        Ok(created)
    }

    /// Changes an object, if it still is the same one.
    pub(super) async fn change(
        &self,
        kind: &'static ObjectKind,
        mut body: Value,
        live: &LiveObject,
        exactly: bool,
    ) -> Result<ObjectMeta, WriteError> {
        if exactly {
            set(&mut body, "resourceVersion", &live.version.to_string());
        }
        let changed = self.patch(kind, body, ("uid", &live.uid), FIELD_MANAGER).await?;
        (self.count)(kind.kind, Write::Apply);
        Ok(changed)
    }

    /// Hands the replicas over to an autoscaler: while another field manager owns the field, giving it up does not reset it.
    pub(super) async fn hand_over_replicas(&self, live: &LiveObject, replicas: i64) -> Result<(), WriteError> {
        let body = serde_json::json!({
            "apiVersion": live.kind.api_version(),
            "kind": live.kind.kind,
            "metadata": {"name": *live.name, "namespace": *live.namespace},
            "spec": {"replicas": replicas},
        });
        self.patch(live.kind, body, ("uid", &live.uid), HANDOVER_MANAGER).await.map(drop)
    }

    /// Replaces the desired fields as a whole, lists included, and removes all field managers, so that the next apply owns the
    /// fields again. The version of the object that was observed is the precondition.
    pub(super) async fn reset(
        &self,
        kind: &'static ObjectKind,
        body: &Value,
        live: &LiveObject,
    ) -> Result<(), WriteError> {
        let mut body = body.clone();
        set(&mut body, "uid", &live.uid);
        set(&mut body, "resourceVersion", &live.version.to_string());
        // An empty item makes the API server forget all field managers.
        body["metadata"]["managedFields"] = serde_json::json!([{}]);
        let api = self.api(kind, &live.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(&body));
        self.limited(api.patch_metadata(&live.name, &params, &patch)).await?;
        (self.count)(kind.kind, Write::Apply);
        Ok(())
    }

    async fn patch(
        &self,
        kind: &'static ObjectKind,
        mut body: Value,
        (field, value): (&str, &str),
        manager: &str,
    ) -> Result<ObjectMeta, WriteError> {
        set(&mut body, field, value);
        let text = |path: &str| objects::at(&body, path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let params = PatchParams::apply(manager).force();
        // Only the metadata of the answer are used.
        let (api, patch) = (self.api(kind, &namespace), Patch::Apply(&body));
        Ok(self.limited(api.patch_metadata(&name, &params, &patch)).await?.metadata)
    }

    /// Reads one object that the caches do not show.
    pub async fn get(
        &self,
        kind: &'static ObjectKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<LiveObject>, WriteError> {
        let found = self.api(kind, namespace).get_opt(name).await?;
        Ok(found.and_then(|object| LiveObject::whole(kind, serde_json::to_value(object).ok()?)))
    }

    /// Deletes an object if it still is exactly the one that was observed.
    pub(super) async fn delete(&self, live: &LiveObject) -> Result<(), WriteError> {
        let preconditions =
            Preconditions { uid: Some(live.uid.to_string()), resource_version: Some(live.version.to_string()) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let api = self.api(live.kind, &live.namespace);
        match self.limited(api.delete(&live.name, &params)).await {
            Ok(_) => (self.count)(live.kind.kind, Write::Delete),
            Err(WriteError::Request(kube::Error::Api(status))) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn set(body: &mut Value, field: &str, value: &str) {
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(field.to_owned(), Value::String(value.to_owned()));
    }
}

/// The resource of a kind, for requests.
pub fn api_resource(kind: &ObjectKind) -> ApiResource {
    ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    }
}
