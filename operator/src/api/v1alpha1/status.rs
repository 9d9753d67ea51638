//! What the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw and did at `observedGeneration`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RorunStackStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` with the root cause in its message, `Available`, one `<Component>Ready` for each component that the spec asks
    /// for, `BackupHealthy`, and, only while true, `Reconciling`, `Stalled` and `Suspended`. Sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The environment whose defaults are in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<super::Environment>,
    /// A row for each component that the spec asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub components: Vec<ComponentStatus>,
    /// Where the stack is reached from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The backups of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,
}

/// One component as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// `api`, `ocr`, `admin`, `database`, `redis`, `bucket`, `ingress` or `backup`.
    pub name: String,
    /// Whether it serves.
    pub ready: bool,
    /// Ready and wanted pods, e.g. `2/3`. Absent if the component has no pods of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<String>,
    /// How many pods are wanted now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many pods are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The image that the spec leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What it waits for, or what it cannot do. Empty if all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// URLs from outside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// The API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// The admin panel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// The OCR service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocr: Option<String>,
}

/// The backups of the database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// The newest backup whose manifest was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful: Option<BackupRecord>,
    /// Whose the stack's backups are: `<uid of the namespace>/<name of the stack>`. Its retention removes no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The uid of the stack that `owner` was found out for.
    #[serde(default, rename = "stackUID", skip_serializing_if = "Option::is_none")]
    pub stack_uid: Option<String>,
    /// Whether dumps have ever gone to the embedded bucket, wherever they go now: then `deletionPolicy: Delete` keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_embedded_bucket: Option<bool>,
    /// Somebody else who has backups in the same place. `rorun.app/adopt-backups` makes them the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<String>,
    /// How many backups in the same place have no owner, as those of release 0.1.0. They are never removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_owner: Option<i64>,
    /// Why old backups were not removed. Absent if all went well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_removed: Option<String>,
    /// The value of the annotation `rorun.app/adopt-backups` that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<String>,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<String>,
    /// Why the newest dump ran without the lock that excludes migrations. Absent if it held the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_locked: Option<String>,
}

/// One good backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRecord {
    /// The identifier, which is also the name of its folder in the bucket.
    pub id: String,
    /// When it was complete.
    pub at: Time,
    /// The size of the dump in bytes.
    pub size_bytes: i64,
    /// Where the manifest is: `s3://<bucket>/<key>`.
    pub location: String,
}
