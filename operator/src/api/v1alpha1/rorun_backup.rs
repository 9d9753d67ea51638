//! `RorunBackup`: one recovery point of a stack, made now.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NOT_OBSERVED;

/// One recovery point of a stack, made now. Like a Job it runs once and keeps its result: make another one for another backup.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[expect(clippy::duplicated_attributes, reason = "each column has a type of its own")]
#[kube(
    group = "rorun.app",
    version = "v1alpha1",
    kind = "RorunBackup",
    plural = "rorunbackups",
    shortname = "rbackup",
    category = "rorun",
    namespaced,
    status = "RorunBackupStatus",
    derive = "PartialEq",
    doc = "One recovery point of a stack, made now. Like a Job it runs once and keeps its result. The recovery point stays when the RorunBackup is deleted.",
    printcolumn(name = "Stack", type_ = "string", description = "The stack", json_path = ".spec.stackRef.name"),
    printcolumn(name = "Phase", type_ = "string", description = "How far the backup is", json_path = ".status.phase"),
    printcolumn(name = "ID", type_ = "string", description = "The recovery point", json_path = ".status.id"),
    printcolumn(
        name = "Seconds",
        type_ = "integer",
        description = "How long it took",
        json_path = ".status.durationSeconds"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        description = "What the backup waits for, or how it ended",
        json_path = ".status.conditions[?(@.type==\"Complete\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf")
    .message("spec cannot change, since a RorunBackup runs once: create another one for another backup"))]
pub struct RorunBackupSpec {
    /// The stack of this namespace that is backed up. It needs `spec.backup`.
    pub stack_ref: StackReference,
}

/// A stack of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StackReference {
    /// The name of the RorunStack.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// How far a backup is, and the recovery point that it made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RorunBackupStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Complete`, and `Failed` once it failed; `Reconciling` while it waits or runs, and `Stalled` while it needs somebody. Sorted
    /// by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// `Pending`, `Running`, `Complete` or `Failed`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The Job that makes the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The identifier of the recovery point, which is also the name of its folder in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The URL of its manifest: `s3://<bucket>/<key>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The size of the dump in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// When the Job began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the backup was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// How long the Job took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
}

impl RorunBackupStatus {
    /// Whether an operator has written it.
    pub fn is_observed(&self) -> bool {
        self.observed_generation != Some(NOT_OBSERVED)
    }
}
