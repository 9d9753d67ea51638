//! Why a step did not do its work, in one line for the user.

use crate::agent::DumpError;
use crate::agent::checked::{OpenError, ReadError};
use crate::agent::exclusion::Ended;
use crate::agent::pg_restore::{Kind, PgRestoreError};
use crate::contract::RestoreRefusal;
use crate::services::ServiceError;
use crate::services::postgres::{LockError, QueryError};

/// Why a step did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Only a change by the user helps.
    #[error("{message}")]
    Refused {
        /// Why.
        reason: RestoreRefusal,
        /// Why, and what helps.
        message: String,
    },
    /// What a dump could fail with as well.
    #[error(transparent)]
    Agent(DumpError),
    /// The database or the bucket cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Something that another run may not meet again.
    #[error("{0}")]
    Failed(String),
    /// The pod was asked to stop.
    #[error("failed to finish: the pod was told to stop")]
    Stopped,
}

impl From<DumpError> for RestoreError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Stopped => Self::Stopped,
            error => Self::Agent(error),
        }
    }
}

/// A refusal.
pub(super) fn refused(reason: RestoreRefusal, message: impl Into<String>) -> RestoreError {
    RestoreError::Refused { reason, message: message.into() }
}

/// The SQLSTATE of a lack of rights (PostgreSQL documentation, appendix A).
pub(super) const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// That of a disk without room.
const DISK_FULL: &str = "53100";
/// That of an object that is used.
pub(super) const OBJECT_IN_USE: &str = "55006";

impl From<QueryError> for RestoreError {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        match error {
            QueryError::Service(error) => Self::Service(error),
            QueryError::Said { code, .. } if code == INSUFFICIENT_PRIVILEGE => {
                let grant = "grant it to the role of DIRECT_URL";
                refused(RestoreRefusal::RightsMissing, format!("{message}: {grant}"))
            }
            QueryError::Said { code, .. } if code == DISK_FULL => refused(RestoreRefusal::DiskFull, full(&message)),
            QueryError::Said { .. } => Self::Failed(format!("failed to restore: {message}")),
        }
    }
}

impl From<LockError> for RestoreError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Pooled { .. } => refused(RestoreRefusal::PooledConnection, error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl Ended for RestoreError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Service(error) => Self::Service(error),
            ReadError::Corrupt { .. } => {
                refused(RestoreRefusal::PointCorrupt, format!("{error}; restore another recovery point"))
            }
        }
    }
}

impl From<OpenError> for RestoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Read(error) => error.into(),
            OpenError::Sealed { .. } => {
                let way_out = "let its Secret hold an identity of one of the recipients";
                refused(RestoreRefusal::PointEncrypted, format!("{error}: {way_out}"))
            }
        }
    }
}

impl From<PgRestoreError> for RestoreError {
    fn from(error: PgRestoreError) -> Self {
        let message = error.to_string();
        let (reason, way_out) = match error {
            PgRestoreError::Open(error) => return error.into(),
            PgRestoreError::Read(error) => return error.into(),
            PgRestoreError::Stopped => return Self::Stopped,
            PgRestoreError::NoProgram | PgRestoreError::Run(_) => return Self::Failed(message),
            PgRestoreError::Said { kind, .. } => match kind {
                Kind::Connection => return Self::Failed(message),
                Kind::Corrupt => (RestoreRefusal::PointCorrupt, "restore another recovery point"),
                Kind::TooNew => (
                    RestoreRefusal::ImageTooOld,
                    "set backup.image to an image of PostgreSQL that is as new as the one that dumped",
                ),
                Kind::Rights => (
                    RestoreRefusal::RightsMissing,
                    "grant it to the role of DIRECT_URL, or make that role a member of the one that is named",
                ),
                Kind::DiskFull => return refused(RestoreRefusal::DiskFull, full(&message)),
                Kind::Statement => (RestoreRefusal::RestoreErrors, "what is live is unchanged"),
            },
        };
        refused(reason, format!("{message}; {way_out}"))
    }
}

fn full(message: &str) -> String {
    format!("{message}; the server needs room for the database a second time: give it a larger volume")
}
