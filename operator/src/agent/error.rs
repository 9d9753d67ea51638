//! Why a dump failed, in one line for the user.

use std::io;
use std::path::PathBuf;

use crate::services::ServiceError;
use crate::services::postgres::LockError;

/// What to do about an error of `pg_dump`, to follow it.
fn advice(said: &str) -> &'static str {
    if said.contains("permission denied for ") {
        "; grant the user of DIRECT_URL the right to read it, or leave its schema out with backup.excludeSchemas"
    } else {
        ""
    }
}

/// Why nothing counts of a run.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The database or the bucket cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The lock that excludes migrations cannot be had, or was lost.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The certificate authorities cannot be read.
    #[error("failed to read the certificate authorities {}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificate that the URL names, or its key, cannot be read.
    #[error("failed to read the client certificate {}: {source}", path.display())]
    ClientCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whether the lock is held cannot be told to the probe.
    #[error("failed to write {}: {source}", path.display())]
    LockFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The signals of the process cannot be watched.
    #[error("failed to watch for signals: {source}")]
    Signals {
        /// Why.
        source: io::Error,
    },
    /// The image has no `pg_dump`.
    #[error("failed to find pg_dump in this image; set spec.backup.image to an image of PostgreSQL")]
    NoPgDump,
    /// `pg_dump` cannot be run.
    #[error("failed to run pg_dump: {source}")]
    Run {
        /// Why.
        source: io::Error,
    },
    /// `pg_dump` says that it failed.
    #[error("failed to dump the database: {status}: {said}{}", advice(said))]
    PgDump {
        /// How it ended.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// `pg_dump` says that all is well, and wrote nothing.
    #[error("failed to dump the database: pg_dump wrote nothing")]
    Empty,
    /// The bucket has something else than what was sent.
    #[error("failed to verify {key}: {sent} bytes were sent, the bucket has {}", found.map_or("no such object".to_owned(), |size| size.to_string()))]
    Size {
        /// The object.
        key: String,
        /// What was sent.
        sent: u64,
        /// What is there.
        found: Option<u64>,
    },
    /// Another run has the same identifier.
    #[error("failed to write {key}: there is one already")]
    Exists {
        /// The object.
        key: String,
    },
    /// The manifest is not JSON.
    #[error("failed to write {key}: {source}")]
    Manifest {
        /// The object.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The dump cannot be encrypted.
    #[error("failed to encrypt the dump for backup.recipients: {source}")]
    Encrypt {
        /// Why.
        source: io::Error,
    },
    /// A point that is to be copied is not what its manifest says.
    #[error("failed to copy {key}: {why}")]
    Copy {
        /// The object.
        key: String,
        /// Why.
        why: String,
    },
    /// A variable of the operator is not what the contract says.
    #[error("failed to read the variable {name}: {source}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The pod was asked to stop.
    #[error("failed to finish: the pod was told to stop, and the upload was taken back")]
    Stopped,
}
