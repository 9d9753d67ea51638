//! `RorunBackup`: one recovery point of a stack, made now.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ExternalBucket, NOT_OBSERVED, text};

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
#[x_kube(
    validation = Rule::new("self == oldSelf")
        .message("spec cannot change, since a RorunBackup runs once: create another one for another backup"),
    validation = Rule::new("has(self.sanitize) == has(self.destination)")
        .message("set both sanitize and destination, where the sanitized point goes, or neither: a backup without sanitize goes to backup.destination of the stack"),
)]
pub struct RorunBackupSpec {
    /// The stack of this namespace that is backed up. It needs `spec.backup`.
    pub stack_ref: StackReference,
    /// The newest recovery point of the stack is restored into a PostgreSQL of its own, in a pod of its own, changed by this, and
    /// becomes a point that stacks of other environments may take. Neither the stack nor its point is changed. Defaults to none: a
    /// backup of the database as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sanitize: Option<Sanitize>,
    /// Where the sanitized point goes. Required by `sanitize`. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<SanitizedDestination>,
}

/// The statements that take out what must not leave the environment: exactly one of `sql`, `sqlConfigMapRef` and `command`. They
/// run in one transaction, without `BEGIN` and `COMMIT`, and one that fails leaves no point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.sql), has(self.sqlConfigMapRef), has(self.command)].filter(set, set).size() == 1")
    .message("set exactly one of sql, sqlConfigMapRef and command, e.g. `sql: UPDATE users SET email = 'user' || id || '@example.invalid'`"))]
pub struct Sanitize {
    /// The statements, at most 64 KiB. Defaults to those of `sqlConfigMapRef`, or of `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub sql: Option<String>,
    /// A ConfigMap of this namespace with the statements, at most 100 KiB. Defaults to `sql`, or `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_config_map_ref: Option<ConfigMapKey>,
    /// A program that prints the statements to its standard output, at most 1 MiB of UTF-8 text within 10 minutes. It runs before the
    /// database is restored, and has no keys and no data. Defaults to `sql`, or `sqlConfigMapRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<SanitizeCommand>,
    /// The folders of the stack's bucket whose objects the point has as well, e.g. `public/`: all of them, as they are, in the versions
    /// that the recovery point lists, so `backup.includeBucket` is needed. Defaults to none: the point has the database alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)), extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = text::folders()))]
    pub object_prefixes: Vec<String>,
}

/// A program that prints statements. With another exit code than 0 there is no point, and the end of what it wrote to its standard
/// error is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SanitizeCommand {
    /// The image, with `image.registry` of the stack before it unless it names one. It runs as the user of the image of the
    /// drills, without a root that can be written; `/tmp` can.
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: String,
    /// The program in it, perhaps with arguments: the entry point of the image counts for nothing.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)), extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
    /// Arguments after these. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)), extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,
    /// Variables. Values alone: a program that needs no key is given none. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<PlainVariable>,
}

/// A variable and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlainVariable {
    /// The name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// The value.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// The key of a ConfigMap of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// The bucket and the folder of sanitized points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.external.cloudRole)")
    .message("destination.external needs keys: the pod that runs the statements has no role; set credentialsSecretRef in the place of cloudRole, e.g. `credentialsSecretRef: {name: my-s3}`"))]
pub struct SanitizedDestination {
    /// An existing bucket, best one without points that are not sanitized.
    pub external: ExternalBucket,
    /// The folder in the bucket; the points are below it in `<namespace>/<stack>/`. No point that is not sanitized may be there. The
    /// operator removes none: let a rule of the bucket do so. Defaults to `sanitized/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256), extend("x-kubernetes-validations" = text::folder()))]
    pub prefix: Option<String>,
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
    /// Until when Object Lock of the bucket keeps the recovery point. Absent if it is not locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
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
