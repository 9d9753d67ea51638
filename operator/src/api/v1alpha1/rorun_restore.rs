//! `RorunRestore`: the data of a recovery point become those of a stack.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NOT_OBSERVED;

/// The data of a recovery point become those of a stack. Like a Job it runs once and keeps its result.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[expect(clippy::duplicated_attributes, reason = "each column has a type of its own")]
#[kube(
    group = "rorun.app",
    version = "v1alpha1",
    kind = "RorunRestore",
    plural = "rorunrestores",
    shortname = "rrestore",
    category = "rorun",
    namespaced,
    status = "RorunRestoreStatus",
    derive = "PartialEq",
    doc = "The data of a recovery point become those of a stack: restored beside the live data, checked, and then switched over. What was there before is kept. Like a Job it runs once and keeps its result.",
    printcolumn(name = "Stack", type_ = "string", description = "The stack", json_path = ".spec.stackRef.name"),
    printcolumn(
        name = "Target",
        type_ = "string",
        description = "Whether the data of the stack are replaced, or a new stack is filled",
        json_path = ".spec.target"
    ),
    printcolumn(name = "Phase", type_ = "string", description = "How far the restore is", json_path = ".status.phase"),
    printcolumn(name = "Point", type_ = "string", description = "The recovery point", json_path = ".status.point"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        description = "What the restore waits for, or how it ended",
        json_path = ".status.conditions[?(@.type==\"Complete\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf")
        .message("spec cannot change, since a RorunRestore runs once: create another one for another restore"),
    validation = Rule::new("(has(self.target) && self.target == 'Stack') || has(self.stackRef.uid)")
        .message("target InPlace needs stackRef.uid, the uid of the stack whose data are replaced, so that the same manifest replaces those of no other: kubectl get rstack NAME -o jsonpath='{.metadata.uid}'"),
    validation = Rule::new("!has(self.target) || self.target != 'Stack' || !has(self.scope) || self.scope.exists(s, s == 'Database')")
        .message("target Stack fills a database: leave scope out, or let it hold Database; the objects alone are restored with target InPlace"),
    validation = Rule::new("!has(self.intoSecretRef) || !has(self.target) || self.target == 'InPlace'")
        .message("intoSecretRef is for target InPlace: leave it out, a new stack is filled in its own database"),
    validation = Rule::new("!has(self.intoSecretRef) || !has(self.scope) || !self.scope.exists(s, s == 'Bucket')")
        .message("with intoSecretRef nothing is switched, so the objects of the bucket stay: leave Bucket out of scope"),
    validation = Rule::new("!has(self.from.pointInTime) || (!has(self.intoSecretRef) && (!has(self.target) || self.target == 'InPlace') && (!has(self.scope) || self.scope == ['Database']))")
        .message("from.pointInTime restores the database of the stack that archived it: use scope [Database], target InPlace, and no intoSecretRef"),
)]
pub struct RorunRestoreSpec {
    /// The stack of this namespace whose data are replaced, or that is filled.
    pub stack_ref: RestoredStack,
    /// The recovery point.
    pub from: RestoreSource,
    /// What is restored: `Database`, `Bucket` or both. Defaults to `[Database]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub scope: Option<Vec<RestoreScope>>,
    /// `InPlace`: the data of a stack that serves are replaced, and what was there before is kept. `Stack`: a new stack is filled before
    /// its application starts for the first time; one that holds data refuses it. Defaults to `InPlace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RestoreTarget>,
    /// The key of a Secret with the URL of an empty database on the same server: for a role that may not create and rename databases.
    /// The restore ends once that database is verified; then let the Secret of the stack name it. Defaults to none: a database
    /// beside the live one, which takes its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into_secret_ref: Option<RestoreKey>,
}

/// A stack of the same namespace, perhaps of just this uid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredStack {
    /// The name of the RorunStack.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Its `metadata.uid`. A stack of another uid is left as it is. Required by `target: InPlace`. Defaults to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub uid: Option<String>,
}

/// A recovery point: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.backupRef), has(self.id), has(self.pointInTime), has(self.location)].filter(set, set).size() == 1")
    .message("set exactly one of backupRef, id, pointInTime and location, e.g. `id: 20261129T101500Z-b9x2m`"))]
pub struct RestoreSource {
    /// The recovery point of a RorunBackup of this namespace. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<RestoredBackup>,
    /// The identifier of a recovery point of the stack itself, e.g. `20261129T101500Z-b9x2m`. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = "^[0-9]{8}T[0-9]{6}Z-[a-z0-9]{5}$"))]
    pub id: Option<String>,
    /// A moment with its zone, e.g. `2026-11-29T14:02:59Z`. It takes a database that archives its write-ahead log by
    /// `backup.pointInTime`, and restores into another Cluster. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time: Option<Time>,
    /// The URL of a recovery point, with or without its manifest, e.g. `s3://dumps/backups/shop/rorun/20261129T101500Z-b9x2m/`.
    /// The stack reaches its bucket by the service and the keys of its own backups. With `target: InPlace` it must be a point of
    /// the stack itself. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = "^s3://[^/]+/([^/]+/)*[0-9]{8}T[0-9]{6}Z-[a-z0-9]{5}(/|/manifest[.]json)?$")
    )]
    pub location: Option<String>,
}

/// A RorunBackup of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredBackup {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The key of a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreKey {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestoreScope {
    /// The database.
    Database,
    /// The objects of the bucket, as new versions.
    Bucket,
}

/// Where the data go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestoreTarget {
    /// Into the stack that serves.
    #[default]
    InPlace,
    /// Into a new stack.
    Stack,
}

/// How far a restore is, and what it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RorunRestoreStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// A condition for each step that is done, `Complete`, and `Failed` once it ended in vain; `Reconciling` while it waits or runs,
    /// and `Stalled` while it needs somebody. Sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The state of the restore, as `docs/restore.md` draws them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The identifier of the recovery point, or the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    /// Rows of the restored tables, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// How many tables were restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<i64>,
    /// How many objects were changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<i64>,
    /// The recovery point of what was live before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<String>,
    /// The database or Cluster that was live before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// When the first Job began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the application was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// When the restore was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// How long it took from its first Job to its end, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// What was not as it should be and does not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl RorunRestoreStatus {
    /// Whether an operator has written it.
    pub fn is_observed(&self) -> bool {
        self.observed_generation != Some(NOT_OBSERVED)
    }
}

/// What restores leave beside the live data of a stack, and the restore that goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StackRestoreStatus {
    /// The RorunRestore that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The databases and Clusters that restores left, until the annotation `rorun.app/discard` is the name of one, of a Cluster `<name>/<uid>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptDatabaseStatus>,
}

/// A database, or a Cluster, that a restore left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptDatabaseStatus {
    /// The name of the database on its server, or of the Cluster.
    pub name: String,
    /// Its size, or that of the volume of each server of the Cluster.
    pub size_bytes: i64,
    /// The name of the RorunRestore.
    pub restore: String,
    /// The uid of the RorunRestore.
    #[serde(rename = "restoreUID")]
    pub restore_uid: String,
}
