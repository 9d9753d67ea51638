//! What the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `observedGeneration` of an object that no operator has seen. The definitions give it to each new one, since kstatus takes an
/// object without a status for Current.
pub const NOT_OBSERVED: i64 = -1;

/// What the operator observed and did at `observedGeneration`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RorunStackStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` with the root cause in its message, `Available`, one `<Component>Ready` for each component that the spec asks
    /// for, `BackupHealthy`, `RestoreVerified`, and, only while they apply, `Reconciling`, `Stalled`, `Suspended`, `Hibernated` and `Expired`. Sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The environment whose defaults the operator uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<super::Environment>,
    /// A row for each component that the spec asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub components: Vec<ComponentStatus>,
    /// A row for each service that the operator asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub services: Vec<ServiceStatus>,
    /// The URLs of the stack outside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The backups of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,
    /// The restore that goes on, and what restores left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Box<super::StackRestoreStatus>>,
    /// The release that serves, and the one on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Box<super::ReleaseStatus>>,
    /// Since when the stack hibernates. Absent once its application has been started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernated_since: Option<Time>,
    /// For how many seconds no pod ran, since it hibernated: without the time for which `Hibernated` is `True` now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernated_seconds: Option<i64>,
    /// When the stack expires, or did, by `spec.expiresAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// How the operator came to `expiresAt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<super::ExpiryStatus>,
}

impl RorunStackStatus {
    /// Whether an operator has written it.
    pub fn is_observed(&self) -> bool {
        self.observed_generation != Some(NOT_OBSERVED)
    }
}

/// The state of one component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// `api`, `ocr`, `admin`, `database`, `redis`, `bucket`, `ingress`, `backup` or `drill`.
    pub name: String,
    /// Whether the component serves.
    pub ready: bool,
    /// Ready and desired pods, e.g. `2/3`. Absent if the component has no pods of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<String>,
    /// The number of desired pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The number of ready pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The image that follows from the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What it waits for, or what its server does not support. Absent if it serves as the spec asks for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A service that the operator asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// `database`, `redis`, `bucket`, or `backup` for a destination of its own.
    pub name: String,
    /// The provider, by the spec or by its host, if it is a known one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The version of the server. Absent if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it answers as it should.
    #[serde(default)]
    pub verdict: Verdict,
    /// The connections to the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionsStatus>,
    /// What is not as the stack needs it, though the service serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingStatus>,
}

/// Whether a service answers as it should. `ok`: it does. `slow`: three answers in a row took long. `failed`: it does not answer, or
/// not as it should; its condition says why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It answers.
    #[default]
    Ok,
    /// It answers, and takes long.
    Slow,
    /// It does not answer.
    Failed,
}

/// The connections to a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsStatus {
    /// How many the stack can open at once.
    pub needed: u32,
    /// How many it can have, where anybody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u32>,
    /// The fewest of these that others held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<u32>,
}

/// What is not as the stack needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingStatus {
    /// The reason, in one word.
    pub reason: String,
    /// What it is, and the way out.
    pub message: String,
}

/// URLs outside the cluster.
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
    /// The owner of the stack's backups: `<uid of the namespace>/<name of the stack>`. Its retention removes backups of no
    /// other owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The uid of the stack that `owner` was determined for.
    #[serde(default, rename = "stackUID", skip_serializing_if = "Option::is_none")]
    pub stack_uid: Option<String>,
    /// Whether dumps have ever gone to the embedded bucket, whatever their destination is now: then `deletionPolicy: Delete`
    /// retains its volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_embedded_bucket: Option<bool>,
    /// Another owner with backups in the same folder. The annotation `rorun.app/adopt-backups` makes them the stack's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<String>,
    /// The number of backups in the same folder without an owner, as those of release 0.1.0. Retention never removes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_owner: Option<i64>,
    /// Why the last backup run could not remove old backups. Absent if it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_removed: Option<String>,
    /// The value of the annotation `rorun.app/adopt-backups` that a backup run handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<String>,
    /// The result of that adoption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<String>,
    /// Why the newest dump ran without the lock that excludes migrations. Absent if it held the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_locked: Option<String>,
    /// Why the newest recovery point lacks something that it was asked to have. Absent if it lacks nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_whole: Option<String>,
    /// Why a recovery point is not in every bucket of `copies`. Absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_copied: Option<String>,
    /// Why the objects that recovery points list are not in every bucket of `copies`. Absent if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_not_copied: Option<String>,
    /// Which old backups Object Lock keeps longer than retention does, or why it is not used. Absent if there is nothing to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_note: Option<String>,
    /// The newest moment that the data can be restored to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorable_until: Option<Time>,
    /// What can be recovered to any moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time: Option<PointInTimeStatus>,
    /// The newest drill that found nothing wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<VerifiedRecord>,
    /// The newest restore of a recovery point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restored: Option<RestoredRecord>,
    /// How long a restore takes by the newest drill or restore, scaled to the size of the newest backup. Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_seconds: Option<i64>,
}

impl BackupStatus {
    /// How many seconds a restore of the newest backup takes by the newest drill or restore, scaled by size, and whether that was a drill.
    pub fn restore_takes(&self) -> Option<(i64, bool)> {
        let drill = self.last_verified.iter().map(|drill| (drill.at.0, drill.duration_seconds, drill.size_bytes, true));
        let restore = self.last_restored.iter().map(|done| (done.at.0, done.duration_seconds, done.size_bytes, false));
        let (_, seconds, bytes, by_drill) = drill.chain(restore).max_by_key(|(at, ..)| *at)?;
        let size = self.last_successful.as_ref().map_or(0, |last| last.size_bytes).max(bytes);
        let takes = i128::from(seconds) * i128::from(size) / i128::from(bytes.max(1));
        Some((i64::try_from(takes).unwrap_or(i64::MAX), by_drill))
    }
}

/// A restore that is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredRecord {
    /// When it was complete.
    pub at: Time,
    /// How long it took, in seconds.
    pub duration_seconds: i64,
    /// The size of the dump in bytes.
    pub size_bytes: i64,
}

/// What can be recovered to any moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointInTimeStatus {
    /// The archive of the Cluster that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Since when its log is not archived. Absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_archived_since: Option<Time>,
    /// Every archive with a base backup: each Cluster that the stack had has one of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<ArchiveRecord>,
}

/// The archive of a Cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveRecord {
    /// Its folder.
    pub server_name: String,
    /// The first moment that can be recovered.
    pub restorable_from: Time,
    /// When its newest base backup was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_base_backup: Option<Time>,
}

/// A recovery point that a drill restored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedRecord {
    /// The identifier of the point.
    pub id: String,
    /// The time at which the drill ended.
    pub at: Time,
    /// How long the drill took, in seconds.
    pub duration_seconds: i64,
    /// The size of the dump in bytes.
    pub size_bytes: i64,
    /// How many rows were compared. Absent if the point has no numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// How many objects of the bucket were fetched and compared. Absent if the point has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<i64>,
    /// How many checks succeeded.
    pub checks: i32,
    /// What could not be restored for want of an extension, or what else the user should know. Absent if there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether part of the point was not restored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// A backup whose manifest is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRecord {
    /// The identifier, which is also the name of its folder in the bucket.
    pub id: String,
    /// The time at which the backup was complete.
    pub at: Time,
    /// The size of the dump in bytes.
    pub size_bytes: i64,
    /// The size of the database in bytes, with its indexes. Absent if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_bytes: Option<i64>,
    /// How many objects of the application's bucket it lists. Absent: it lists none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<i64>,
    /// The URL of the manifest: `s3://<bucket>/<key>`.
    pub location: String,
    /// Until when Object Lock of the bucket keeps it. Absent if it is not locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Time>,
}
