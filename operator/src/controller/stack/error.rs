//! Why a reconcile of a stack failed, for the log and for the metrics.

use crate::{apply::WriteError, runtime::StatusError};

/// Why the cluster could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A Secret or `ConfigMap` that the spec names could not be read.
    #[error("failed to read {0}, which the spec names: {1}")]
    Reference(String, #[source] kube::Error),
    /// The volumes or the credentials of an earlier stack could not be read.
    #[error("failed to look for volumes and credentials of an earlier stack: {0}")]
    Volumes(#[source] kube::Error),
    /// The StorageClass of a volume that is to grow could not be read.
    #[error("failed to read storageclass/{0}, to find out whether it can expand a volume: {1}")]
    StorageClass(String, #[source] kube::Error),
    /// The pods that recover a Cluster could not be listed.
    #[error("failed to list the pods that recover a Cluster: {0}")]
    Recovery(#[source] kube::Error),
    /// A Job that this operator made a moment ago could not be read.
    #[error("failed to read job/{0}, which was made and is not seen yet: {1}")]
    Job(String, #[source] WriteError),
    /// The uid of the namespace could not be read.
    #[error("failed to read the namespace, whose uid tells backups apart: {0}")]
    Namespace(#[source] kube::Error),
}

impl ObserveError {
    /// Whether the operator lacks a right.
    pub(super) fn is_forbidden(&self) -> bool {
        let (Self::Job(_, WriteError::Request(error))
        | Self::Reference(_, error)
        | Self::StorageClass(_, error)
        | Self::Volumes(error)
        | Self::Recovery(error)
        | Self::Namespace(error)) = self
        else {
            return false;
        };
        matches!(error, kube::Error::Api(status) if status.code == 403)
    }
}

/// Why a reconcile failed. What the user has to mend is never an error, but a condition.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    /// The cluster could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The finalizer could not be changed.
    #[error("failed to change the finalizer: {0}")]
    Finalizer(#[from] WriteError),
}

impl ReconcileError {
    /// The step and the variant, for metrics.
    pub(super) fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Observe(ObserveError::Reference(..)) => ("observe", "Reference"),
            Self::Observe(ObserveError::Volumes(_)) => ("observe", "Volumes"),
            Self::Observe(ObserveError::StorageClass(..)) => ("observe", "StorageClass"),
            Self::Observe(ObserveError::Recovery(_)) => ("observe", "Recovery"),
            Self::Observe(ObserveError::Job(..)) => ("observe", "Job"),
            Self::Observe(ObserveError::Namespace(_)) => ("observe", "Namespace"),
            Self::Status(StatusError::Request(_)) => ("status", "Status"),
            Self::Status(StatusError::TimedOut) => ("status", "TimedOut"),
            Self::Finalizer(_) => ("finalize", "Finalizer"),
        }
    }
}
