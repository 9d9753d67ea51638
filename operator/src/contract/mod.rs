//! What the operator and the agent promise each other: arguments, environment, paths and the result.
//!
//! The operator writes the pod of a backup with these names, the agent inside it reads them; both are this one binary, but
//! not always of the same release, so a name here changes only together with a fallback.

mod postgres_url;
mod tls_mode;

pub use postgres_url::{PostgresUrl, Written};
pub use tls_mode::{TlsMode, UrlError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The argument that starts the agent.
pub const AGENT: &str = "agent";
/// `agent install <path>`: copies the binary, since the image of the operator has no shell to do it.
pub const INSTALL: &str = "install";
/// `agent dump`: dumps the database into the bucket.
pub const DUMP: &str = "dump";

/// `--prefix`: the folder of the stack's backups in the bucket, ending in a slash.
pub const ARG_PREFIX: &str = "--prefix";
/// `--retention-days`: the age in days at which a dump may be removed.
pub const ARG_RETENTION_DAYS: &str = "--retention-days";
/// `--minimum-kept`: how many good dumps are kept whatever their age.
pub const ARG_MINIMUM_KEPT: &str = "--minimum-kept";
/// `--ca-file`: certificate authorities (PEM) to trust beside the public ones.
pub const ARG_CA_FILE: &str = "--ca-file";

/// The URL of the database, without a pooler.
pub const ENV_DATABASE_URL: &str = "DIRECT_URL";
/// The URL of the S3 service.
pub const ENV_S3_ENDPOINT: &str = "S3_ENDPOINT";
/// The region that requests are signed for.
pub const ENV_S3_REGION: &str = "S3_REGION";
/// The name of the bucket.
pub const ENV_S3_BUCKET: &str = "S3_BUCKET";
/// `true` for `https://endpoint/bucket/key`.
pub const ENV_S3_FORCE_PATH_STYLE: &str = "S3_FORCE_PATH_STYLE";
/// The access key id.
pub const ENV_ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// The secret access key.
pub const ENV_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// The session token of temporary keys.
pub const ENV_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// The folder that the binary is copied to.
pub const BINARY_DIRECTORY: &str = "/opt/rorun";
/// Where the binary is after `agent install`.
pub const BINARY_PATH: &str = "/opt/rorun/rorun-operator";
/// The folder that certificate authorities are mounted at, in pods of the application and of backups alike.
pub const CA_DIRECTORY: &str = "/etc/rorun/ca";
/// The file with the certificate authorities.
pub const CA_PATH: &str = "/etc/rorun/ca/ca.crt";
/// The file with the authority of the database alone: a client that reads one certificate finds the right one.
pub const DATABASE_CA_PATH: &str = CA_PATH;
/// Where the agent writes its result: the kubelet puts it into the pod's status.
pub const TERMINATION_PATH: &str = "/dev/termination-log";

/// The last object of a backup, under `<prefix><id>/`: a backup without it does not count.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The dump, in the custom format of `pg_dump`.
pub const DUMP_FILE: &str = "database.dump";

/// What `agent dump` writes to [`TERMINATION_PATH`] when it is done. At most 4096 bytes, a rule of the kubelet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DumpOutcome {
    /// The manifest is written.
    Complete(DumpRecord),
    /// Nothing counts of this run. The message names what failed, without a secret.
    Failed {
        /// One line for the user.
        message: String,
    },
}

/// One good backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpRecord {
    /// The identifier, e.g. `20261124T021500Z-x7k2p`: sorts by time.
    pub id: String,
    /// When the manifest was written.
    pub at: Timestamp,
    /// The size of the dump in bytes.
    pub size_bytes: i64,
    /// SHA-256 of the dump, in hex.
    pub sha256: String,
    /// `s3://<bucket>/<key of the manifest>`.
    pub location: String,
    /// How many old backups were removed.
    pub removed: u32,
}
