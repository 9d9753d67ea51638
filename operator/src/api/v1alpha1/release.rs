//! How a new version reaches the users.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::EnvVar, apimachinery::pkg::apis::meta::v1::Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PodTemplate, RoutedComponent, text};

/// How a new version reaches the users. A release is a set of images: another image of a workload makes another release, and
/// nothing of it serves before its migration has succeeded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSpec {
    /// Whether somebody has to approve a release whose images never served. `Automatic`: nobody has to. `Required`: the release
    /// waits until the annotation `rorun.app/approve` is its hash, which `status.release` and the condition `Ready` tell.
    /// Defaults to `Automatic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What is asked of a release before users meet it. Before its rollout one pod of each workload whose image changes, the
    /// candidate, runs beside those that serve and out of reach of users, and the tests ask it. The tests of a workload without a
    /// candidate, and those `via: Ingress`, are asked once its pods serve: if one fails, the release is rolled back. Defaults to
    /// the health check of each workload that has a candidate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub smoke_tests: Vec<SmokeTest>,
}

/// A request, and what the answer must be. The test repeats it for a minute before it counts as failed, and follows no redirect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmokeTest {
    /// The workload that is asked: `api`, `ocr` or `admin`.
    pub component: RoutedComponent,
    /// The path, with the query if there is one, e.g. `/health`.
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-validations" = text::request_path()))]
    pub path: String,
    /// The status code of the answer. Defaults to 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    pub status: Option<i32>,
    /// A text that the first 64 KiB of the answer contain. Defaults to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub contains: Option<String>,
    /// A header that the answer has. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<ExpectedHeader>,
    /// The way to the workload. `Candidate`: its candidate is asked, or its Service after the rollout if it has none. `Ingress`: its
    /// candidate is asked, if it has one, and once more after the rollout its host, by the address of the Ingress. Defaults to
    /// `Candidate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
}

/// The way to the workload. `Candidate`: its candidate is asked, or its Service after the rollout if it has none. `Ingress`: its
/// candidate is asked, if it has one, and once more after the rollout its host, by the address of the Ingress. Defaults to
/// `Candidate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Via {
    /// The candidate alone.
    #[default]
    Candidate,
    /// The Ingress as well, after the rollout.
    Ingress,
}

/// A header of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedHeader {
    /// The name, e.g. `content-type`.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-validations" = text::header_name()))]
    pub name: String,
    /// A text that the value contains. Defaults to any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub contains: Option<String>,
}

/// Whether somebody has to approve a release whose images never served. `Automatic`: nobody has to. `Required`: the release waits
/// until the annotation `rorun.app/approve` is its hash, which `status.release` and the condition `Ready` name. Defaults to
/// `Automatic`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// Nobody has to.
    #[default]
    Automatic,
    /// A release waits for the annotation `rorun.app/approve`.
    Required,
}

/// How the schema of the database is brought forward: a Job of the new image that runs before anything of the release serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationsSpec {
    /// The command, run in the API's new image with the API's environment; `DATABASE_URL` is the direct URL, past any pooler.
    /// Exit code 0 means that every migration is applied. E.g. `[npx, --no-install, prisma, migrate, deploy]`.
    #[schemars(length(min = 1, max = 64))]
    pub command: Vec<String>,
    /// How long the migration may take, in seconds, before it is ended and counts as failed. Its pod has 120 more for the
    /// lock. Defaults to 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: Option<i32>,
    /// Environment variables of the migration alone. They win over those of the API. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Merged over the pods of migrations, as `podTemplate` of a workload is over its own. Their nodes are those of `api.scheduling`.
    /// Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// The release that serves, and the one on its way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// `Serving`, `AwaitingApproval`, `Restoring`, `Hibernating`, `BackingUp`, `RecoveryPointFailed`, `Migrating`,
    /// `MigrationLocked`, `MigrationFailed`, `Testing`, `SmokeTestFailed`, `RollingOut`, `Verifying` or `RolledBack`.
    pub state: String,
    /// The image of that release in short, e.g. `rorun-api:1.9.0`: of the API, or of the first workload whose image changes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The value of `rorun.app/retry` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// The release that serves. Absent before the first one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<ReleaseRecord>,
    /// The release that the spec asks for, while it is not the one that serves. It has the fields of `current`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ReleaseRecord>,
    /// The last release that served before the current one. It has the fields of `current`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ReleaseRecord>,
    /// What is known of the current release, for another environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<ProvenRelease>,
    /// The releases that served, the newest first, at most ten, with the fields of `current`. To go back to one, put its images
    /// into the spec: that needs no approval and runs no migration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<ReleaseRecord>,
}

/// What is known of a release that serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProvenRelease {
    /// The ControllerRevision that it is of.
    pub revision: String,
    /// Its images by component, each with the digest that its pods run if there is exactly one.
    pub images: BTreeMap<String, String>,
    /// How long its migration took, in seconds. Absent if none ran for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_seconds: Option<i64>,
    /// When its last smoke tests passed. Absent if it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_at: Option<Time>,
    /// Since when it serves, with the same digests, and no container of it was started again.
    pub since: Time,
}

/// In place of a digest: the nodes have the image from no registry.
pub const NO_REGISTRY: &str = "Local";
/// In place of a digest: pods run different images under one tag.
pub const SEVERAL_DIGESTS: &str = "Several";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRecord {
    /// The hash of its images, which `rorun.app/approve` takes.
    pub hash: String,
    /// The ControllerRevision that holds what the user wrote.
    pub revision: String,
    /// The image of the API.
    pub api: String,
    /// The image of the OCR service. Absent if the release has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocr: Option<String>,
    /// The image of the admin panel. Absent if the release has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// The backup that is the way back from its migration, held against retention. Absent if it needed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<RecoveryPointStatus>,
    /// When its last smoke tests passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested_at: Option<Time>,
    /// The digests of the images that its pods run, by component. `Local`: its nodes have the image from no registry. `Several`: its
    /// pods run different images under one tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// Whether its migration is applied.
    #[serde(default, skip_serializing_if = "is_false")]
    pub migrated: bool,
    /// The migrations that its Job applied, as far as a table `_prisma_migrations` tells, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<String>,
    /// When its migration began. Absent if none ran for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_started_at: Option<Time>,
    /// When its migration had succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrated_at: Option<Time>,
    /// When its rollout began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it began to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_at: Option<Time>,
    /// When it was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_at: Option<Time>,
    /// The user name in `rorun.app/approved-by` when it was approved; empty if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Whether an admission policy made sure of that name. Else whoever may edit the stack may have written it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub approval_verified: bool,
    /// When it was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_at: Option<Time>,
    /// Why its migration has not begun, why its smoke tests failed, or why it was rolled back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The backup that is the way back from the migration of a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryPointStatus {
    /// Its identifier. Empty if there is none, or if its pod was gone before it was read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The URL of its manifest: `s3://<bucket>/<key>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// When it was made, or skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Whether `rorun.app/skip-recovery-point` let the release go on without one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skipped: bool,
}
