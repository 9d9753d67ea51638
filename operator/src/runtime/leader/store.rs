//! The store of the Lease: the API server, or memory in tests.

use std::{fmt, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};

use crate::names::FIELD_MANAGER;

use super::LeaderConfig;

/// Why a request had no effect, or may have had none.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The lease is not the one that was read: it was created, changed or deleted since.
    #[error("the lease was written by another process")]
    Conflict,
    /// No answer in time. The request may have had its effect.
    #[error("no answer within {0:?}")]
    Slow(Duration),
    /// The API server refused, or was not reached.
    #[error(transparent)]
    Failed(#[from] Box<kube::Error>),
}

/// One Lease, written under the condition that it has not changed since it was read.
pub(super) trait LeaseStore: fmt::Debug + Send + Sync {
    fn get(&self) -> BoxFuture<'_, Result<Option<Lease>, StoreError>>;
    fn create(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, StoreError>>;
    fn replace(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, StoreError>>;
}

/// Bounds a request here as well, because the time-outs of a client start anew with each byte.
pub(super) async fn timely<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(limit, request).await.unwrap_or(Err(StoreError::Slow(limit)))
}

/// The Lease at the API server.
pub(super) struct KubeLeases {
    leases: Api<Lease>,
    name: String,
    params: PostParams,
}

impl KubeLeases {
    pub(super) fn new(client: Client, config: &LeaderConfig) -> Self {
        let leases = Api::namespaced(client, &config.namespace);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        Self { leases, name: config.name.clone(), params }
    }
}

impl fmt::Debug for KubeLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeLeases").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LeaseStore for KubeLeases {
    fn get(&self) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        async { self.leases.get_opt(&self.name).await.map_err(|error| Box::new(error).into()) }.boxed()
    }

    fn create(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, StoreError>> {
        async move { self.leases.create(&self.params, &lease).await.map_err(|error| refused(error, &[409])) }.boxed()
    }

    fn replace(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, StoreError>> {
        async move {
            let replaced = self.leases.replace(&self.name, &self.params, &lease).await;
            // 404: the lease that was read has been deleted. On a creation it would mean that the namespace is missing.
            replaced.map_err(|error| refused(error, &[409, 404]))
        }
        .boxed()
    }
}

fn refused(error: kube::Error, conflicts: &[u16]) -> StoreError {
    match error {
        kube::Error::Api(status) if conflicts.contains(&status.code) => StoreError::Conflict,
        error => Box::new(error).into(),
    }
}
