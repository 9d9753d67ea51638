//! The last object of a backup: what is in it, and how to know that it is whole.

use std::collections::BTreeMap;

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
    /// The environment of that stack. Earlier releases wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What must not leave the environment was changed or removed by the user's SQL: other environments may take it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sanitized: bool,
    /// The point that was sanitized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sanitized_from: Option<BackupId>,
    /// The uid of the `RorunBackup` that asked for it, so that a pod which is made again makes no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_for: Option<String>,
    /// The schemas that were left out by the user's wish: the dump alone does not restore a database that needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_schemas: Vec<String>,
    /// What the database held, in the dump's own snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// The objects of the application's bucket, if the point has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketHalf>,
    /// The spec of the stack. It is none of `objects`: an agent of an earlier release copies all of these and knows no other file, so it
    /// copies the point without its spec, and such a copy is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<ManifestObject>,
    /// The images that served when the operator last told it, by workload, with the digests that it knew: several where pods ran
    /// several under one tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, Vec<String>>,
    /// Which of several all pods ran when the operator last told it, by workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub running: BTreeMap<String, String>,
    /// The keys of age that the dump and the spec are encrypted for. A checksum is that of what is in the bucket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
}

/// What a database held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Contents {
    /// How many rows each table has, by its quoted name.
    pub rows: BTreeMap<String, u64>,
    /// Likewise of large tables, as the server estimates it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub estimated: BTreeMap<String, u64>,
    /// Extensions with their versions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, String>,
    /// The roles of the server, without its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Materialized views, and whether each was populated.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub materialized_views: BTreeMap<String, bool>,
    /// The size of the database in bytes, with its indexes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_bytes: Option<u64>,
    /// How many large objects there are.
    pub large_objects: u64,
    /// The newest migration that Prisma has finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_migration: Option<String>,
    /// The encoding.
    pub encoding: String,
    /// Why numbers are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_counted: Option<String>,
}

/// The objects of the application's bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketHalf {
    /// The name of the bucket.
    pub bucket: String,
    /// The URL of its service.
    pub endpoint: String,
    /// How many objects are listed.
    pub count: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The bucket that they were replicated to, if that was proven when the point was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
}

impl BucketHalf {
    /// Whether versions that are listed can be in a bucket of this name: a replication keeps the ids of versions.
    pub(super) fn is_of(&self, bucket: &str) -> bool {
        self.bucket == bucket || self.replica.as_deref() == Some(bucket)
    }
}

impl Contents {
    /// How many rows there are, as far as that is known.
    pub fn total_rows(&self) -> u64 {
        self.rows.values().chain(self.estimated.values()).sum()
    }
}

impl Manifest {
    /// The object of a file of the folder, wherever the folder was copied to.
    pub fn object(&self, file: &str) -> Option<&ManifestObject> {
        let ending = format!("{}/{file}", self.id);
        self.objects.iter().find(|object| object.key.ends_with(&ending))
    }
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
