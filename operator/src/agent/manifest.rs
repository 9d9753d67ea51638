//! The last object of a backup: what is in it, and how to know that it is whole.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BackupId;

/// The version of the form of a manifest.
pub(super) const VERSION: &str = "backup.rorun.app/v1";
/// How to read the dump: `pg_restore` does.
pub(super) const FORMAT: &str = "pg_dump custom";

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of this form.
    pub api_version: String,
    /// The identifier.
    pub id: BackupId,
    /// When the run was started: the data are of this moment or a little later.
    pub started_at: Timestamp,
    /// When the manifest was written.
    pub created_at: Timestamp,
    /// What made the backup, e.g. `rorun-operator 0.1.0`.
    pub tool: String,
    /// The version of `pg_dump`, as it says it.
    pub pg_dump_version: String,
    /// The version of the server.
    pub server_version: String,
    /// The name of the database.
    pub database: String,
    /// How to read the objects.
    pub format: String,
    /// The objects that belong to it.
    pub objects: Vec<ManifestObject>,
    /// Whose it is: only that owner's retention removes it. 0.1.0 wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The uid of the stack that made it.
    #[serde(default, rename = "stackUID", skip_serializing_if = "Option::is_none")]
    pub stack_uid: Option<String>,
    /// The schemas that were left out by the user's wish: the dump alone does not restore a database that needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_schemas: Vec<String>,
}

/// One object of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestObject {
    /// The key in the bucket.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}
