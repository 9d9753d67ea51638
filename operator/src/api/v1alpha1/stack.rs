//! `RorunStack`: one environment of Rorun.

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    BUCKET_MODES, BackupSpec, BucketSpec, DATABASE_MODES, DatabaseSpec, HibernationSpec, ImageSource, IngressSpec,
    JobsSpec, MonitoringSpec, REDIS_MODES, RedisSpec, ReleaseSpec, RorunStackStatus, SeedFrom, WorkloadSpec, modes,
    text,
};

/// One environment of Rorun: the API, the OCR service and the admin panel with the database, Redis and bucket that they use.
///
/// The smallest stack that works: `environment: Development` and `api: {image: ghcr.io/rorun/rorun-api:1.8.0}`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "rorun.app",
    version = "v1alpha1",
    kind = "RorunStack",
    plural = "rorunstacks",
    shortname = "rstack",
    category = "rorun",
    namespaced,
    status = "RorunStackStatus",
    derive = "PartialEq",
    doc = "One environment of Rorun: the API, the OCR service and the admin panel with the database, Redis and bucket that they use.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')")
        .message("metadata.name must be at most 40 characters, start with a letter and hold only a-z, 0-9 and '-': the names of its Services are made of it"),
    printcolumn(name = "Env", type_ = "string", description = "The environment", json_path = ".spec.environment"),
    printcolumn(name = "Ready", type_ = "string", description = "Whether everything that the spec asks for serves", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Release", type_ = "string", description = "How far the release is that the spec asks for", json_path = ".status.release.state"),
    printcolumn(name = "Image", type_ = "string", description = "The image of that release in short", json_path = ".status.release.image"),
    printcolumn(name = "API", type_ = "string", description = "API pods: ready/wanted", json_path = ".status.components[?(@.name==\"api\")].pods"),
    printcolumn(name = "OCR", type_ = "string", description = "OCR pods: ready/wanted", json_path = ".status.components[?(@.name==\"ocr\")].pods"),
    printcolumn(name = "Database", type_ = "string", description = "Whether the database answers", json_path = ".status.conditions[?(@.type==\"DatabaseReady\")].status"),
    printcolumn(name = "Backup", type_ = "date", description = "The age of the last good backup", json_path = ".status.backup.lastSuccessful.at"),
    printcolumn(name = "URL", type_ = "string", description = "Where the API is reached", json_path = ".status.endpoints.api"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Available", type_ = "string", description = "Whether the fewest pods that are wanted of each workload serve, also while a rollout is under way", json_path = ".status.conditions[?(@.type==\"Available\")].status", priority = 1),
    printcolumn(name = "Redis", type_ = "string", description = "Whether Redis answers", json_path = ".status.conditions[?(@.type==\"RedisReady\")].status", priority = 1),
    printcolumn(name = "Bucket", type_ = "string", description = "Whether the bucket answers", json_path = ".status.conditions[?(@.type==\"BucketReady\")].status", priority = 1),
    printcolumn(name = "Message", type_ = "string", description = "What is missing, or that all is well", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.environment == oldSelf.environment")
        .message("environment cannot change: create a new stack for the other environment; seedFrom fills one of Development or Staging with a sanitized point")
        .field_path(".environment"),
    validation = Rule::new("self.environment == 'Development' || (has(self.database) && has(self.redis) && has(self.bucket))")
        .message("database, redis and bucket may be left out only in Development: set each, e.g. `database: {external: {secretRef: {name: my-database}}}`"),
    validation = Rule::new("self.environment != 'Production' || !((has(self.database) && has(self.database.embedded)) || (has(self.redis) && has(self.redis.embedded)) || (has(self.bucket) && has(self.bucket.embedded)))")
        .message("embedded data services are not for Production: a single pod has no failover; use external, or cloudNativePG or rds for database, elastiCache for redis, s3 for bucket"),
    validation = Rule::new("self.environment != 'Production' || !has(self.seedFrom)")
        .message("seedFrom is not for Production: leave it out, and restore a point with a RorunRestore"),
    validation = Rule::new("has(oldSelf.seedFrom) || !has(self.seedFrom)")
        .message("seedFrom can only be set when the stack is created, before its first start: leave it out, and create another stack with it"),
    validation = Rule::new("self.environment != 'Production' || has(self.backup)")
        .message("backup must be set in Production, e.g. `backup: {schedule: \"15 2 * * *\"}`"),
    validation = Rule::new("self.environment != 'Production' || ((!has(self.api.replicas) || self.api.replicas >= 2) && (!has(self.api.autoscaling) || !has(self.api.autoscaling.minReplicas) || self.api.autoscaling.minReplicas >= 2))")
        .message("in Production the API needs at least 2 pods: set api.autoscaling.minReplicas (or api.replicas) to 2 or more"),
    validation = Rule::new(r"self.environment != 'Production' || ([self.api.image] + (has(self.ocr) ? [self.ocr.image] : []) + (has(self.admin) ? [self.admin.image] : [])).all(i, i.contains('@') || (i.matches(':[A-Za-z0-9_][A-Za-z0-9._-]*$') && !i.endsWith(':latest')))")
        .message("in Production every image needs a tag other than latest, or a digest, e.g. `image: rorun-api:1.8.0`"),
    validation = modes::unchanged("database", DATABASE_MODES, "a database", "create a new stack and move the data with pg_dump and pg_restore"),
    validation = modes::unchanged("redis", REDIS_MODES, "redis", "create a new stack and move the data"),
    validation = modes::unchanged("bucket", BUCKET_MODES, "a bucket", "create a new stack and copy the objects"),
    validation = Rule::new("(has(self.database) && has(self.database.embedded) && has(self.database.embedded.version) ? self.database.embedded.version : '17') == (has(oldSelf.database) && has(oldSelf.database.embedded) && has(oldSelf.database.embedded.version) ? oldSelf.database.embedded.version : '17')")
        .message("database.embedded.version cannot change (17 if left out): another major version cannot open the files; create a new stack and move the data with pg_dump and pg_restore"),
    validation = Rule::new("(has(self.bucket) && has(self.bucket.embedded) && has(self.bucket.embedded.server) ? self.bucket.embedded.server : 'SeaweedFS') == (has(oldSelf.bucket) && has(oldSelf.bucket.embedded) && has(oldSelf.bucket.embedded.server) ? oldSelf.bucket.embedded.server : 'SeaweedFS')")
        .message("bucket.embedded.server cannot change (SeaweedFS if left out): another server cannot read the files; create a new stack and copy the objects"),
    validation = Rule::new("!has(self.ingress) || !has(self.ingress.adminHost) || has(self.admin)")
        .message("ingress.adminHost needs an admin panel: set admin, e.g. `admin: {image: rorun-admin:1.8.0}`, or leave adminHost out"),
    validation = Rule::new("!has(self.ingress) || !has(self.ingress.ocrHost) || has(self.ocr)")
        .message("ingress.ocrHost needs an OCR service: set ocr, e.g. `ocr: {image: rorun-ai-service:1.8.0}`, or leave ocrHost out"),
    validation = Rule::new("!has(self.ingress) || has(self.admin) || (!(has(self.ingress.paths) && self.ingress.paths.exists(p, p.component == 'admin')) && !(has(self.ingress.extraHosts) && self.ingress.extraHosts.exists(h, has(h.paths) && h.paths.exists(p, p.component == 'admin'))))")
        .message("a path of ingress leads to admin, which the stack does not have: set admin, e.g. `admin: {image: rorun-admin:1.8.0}`, or let the path lead to api"),
    validation = Rule::new("!has(self.ingress) || has(self.ocr) || (!(has(self.ingress.paths) && self.ingress.paths.exists(p, p.component == 'ocr')) && !(has(self.ingress.extraHosts) && self.ingress.extraHosts.exists(h, has(h.paths) && h.paths.exists(p, p.component == 'ocr'))))")
        .message("a path of ingress leads to ocr, which the stack does not have: set ocr, e.g. `ocr: {image: rorun-ai-service:1.8.0}`, or let the path lead to api"),
    validation = Rule::new("!has(self.backup) || !has(self.backup.pointInTime) || (has(self.database) && has(self.database.cloudNativePG))")
        .message("backup.pointInTime needs database.cloudNativePG: leave pointInTime out; RDS recovers to any moment by database.rds.backupRetentionDays"),
    validation = Rule::new("!has(self.backup) || !has(self.backup.pointInTime) || !(has(self.backup.destination) && has(self.backup.destination.external) ? has(self.backup.destination.external.cloudRole) : has(self.bucket) && has(self.bucket.external) && has(self.bucket.external.cloudRole) || has(self.bucket) && has(self.bucket.s3) && has(self.bucket.s3.cloudRole))")
        .message("backup.pointInTime archives by keys: set backup.destination.external.credentialsSecretRef"),
    validation = Rule::new("has(self.ingress) || !(has(self.api.apiURLFrom) || (has(self.ocr) && has(self.ocr.apiURLFrom)) || (has(self.admin) && has(self.admin.apiURLFrom)))")
        .message("apiURLFrom: Ingress needs ingress: set ingress, e.g. `ingress: {host: api.example.com}`, or leave apiURLFrom out and set API_URL in env"),
    validation = Rule::new("has(self.ingress) || !has(self.release) || !has(self.release.smokeTests) || !self.release.smokeTests.exists(t, has(t.via) && t.via == 'Ingress')")
        .message("a smoke test via: Ingress needs ingress: set ingress, e.g. `ingress: {host: api.example.com}`, or leave via out"),
    validation = Rule::new("self.environment != 'Production' || !has(self.hibernation)")
        .message("hibernation by a schedule is for Development and Staging: leave hibernation out; hibernate: true stops a stack of any environment"),
    validation = Rule::new("self.environment == 'Development' || !has(self.expiresAfter)")
        .message("expiresAfter is for Development: leave it out, or use a Development stack for a preview"),
    validation = Rule::new("!has(self.bucket) || !has(self.bucket.lifecycle) || !has(self.bucket.lifecycle.archiveAfterDays) || (has(self.backup) && has(self.backup.destination) && has(self.backup.destination.external)) || (has(self.bucket.lifecycle.prefix) && [has(self.backup) && has(self.backup.destination) && has(self.backup.destination.prefix) ? self.backup.destination.prefix : 'backups/'].all(b, !b.startsWith(self.bucket.lifecycle.prefix) && !self.bucket.lifecycle.prefix.startsWith(b)))")
        .message("bucket.lifecycle.archiveAfterDays would move backups: set bucket.lifecycle.prefix to a folder without them, e.g. `uploads/`, or backup.destination.external"),
)]
pub struct RorunStackSpec {
    /// The environment, which decides defaults and rules. `Development`: only `api` is required. `Staging`: the data services
    /// are required. `Production`: no embedded data services, at least 2 API pods, backups, pinned images. Cannot change.
    pub environment: Environment,
    /// `true`: the operator watches and reports, and changes nothing. Defaults to `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// `true`: the stack hibernates. No pods run, and CronJobs are suspended; volumes, passwords and backups stay. Set it to
    /// `false`, and the data services start, then the application, then the backups. Defaults to `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernate: Option<bool>,
    /// When the stack hibernates by itself. Development and Staging only. Defaults to never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hibernation: Option<HibernationSpec>,
    /// How long after its creation the stack expires, e.g. `72h`: then it hibernates, and the operator deletes nothing.
    /// Development only. `status.expiresAt` tells the moment, at the earliest an hour after this field was set; the annotation
    /// `rorun.app/keep-until` puts it off. Defaults to never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = text::lifetime()))]
    pub expires_after: Option<String>,
    /// A sanitized recovery point that the empty database is filled with, once, before the application starts for the first time.
    /// Data found there are kept, and the condition `Seeded` tells so. Development and Staging only, and only when the stack is
    /// created. Defaults to none: an empty database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_from: Option<SeedFrom>,
    /// What the operator does with the volumes and generated passwords of embedded services, and with the Cluster of
    /// CloudNativePG, when the stack is deleted.
    /// `Retain`: they stay, and a stack of the same name uses them again. `Delete`: the operator deletes them; in Production it
    /// also needs the annotation `rorun.app/confirm-delete: <name of the stack>`. The operator never deletes external services
    /// and backups: it retains an embedded bucket that has backups in it. Defaults to `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// How a new version reaches the users. Defaults to at once, after its migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseSpec>,
    /// The registry of the images. Defaults to none: the kubelet pulls images by the names given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// The API server (`rorun-api`).
    pub api: WorkloadSpec,
    /// The OCR and AI service (`rorun-ai-service`). Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "without_migrations")]
    pub ocr: Option<WorkloadSpec>,
    /// The admin panel (`rorun-admin`). Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "of_admin")]
    pub admin: Option<WorkloadSpec>,
    /// PostgreSQL. Defaults to `{embedded: {}}` in Development; required elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseSpec>,
    /// Redis. Defaults to `{embedded: {}}` in Development; required elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSpec>,
    /// The S3 bucket for files. Defaults to `{embedded: {}}` in Development; required elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketSpec>,
    /// The Ingress for requests from outside the cluster. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// The dumps of the database. Defaults to none in Development and to `{}`, which is daily, in Staging; required in
    /// Production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSpec>,
    /// What collects the metrics of the application. It needs the Prometheus Operator. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<MonitoringSpec>,
    /// The Jobs of the operator for which no component has a `podTemplate`: smoke tests, drills, restores and their like. Defaults to
    /// no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobsSpec>,
}

/// The schema of a workload that has no migrations: they are the API's, and its schema alone offers them.
fn without_migrations(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = <Option<WorkloadSpec>>::json_schema(generator);
    if let Some(properties) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
        properties.remove("migrations");
    }
    schema
}

/// Likewise, and the admin panel uses no database.
fn of_admin(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = without_migrations(generator);
    if let Some(properties) = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
        properties.remove("databaseConnections");
    }
    schema
}

/// The environment, which decides defaults and rules. `Development`: only `api` is required. `Staging`: the data services are
/// required. `Production`: no embedded data services, at least 2 API pods, backups, pinned images. Cannot change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Environment {
    /// For one developer: everything in the cluster, one pod each.
    Development,
    /// Like Production, with softer rules.
    Staging,
    /// For customers.
    Production,
}

impl Environment {
    /// The word itself.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "Development",
            Self::Staging => "Staging",
            Self::Production => "Production",
        }
    }
}

/// What the operator does with the volumes and generated passwords of embedded services when the stack is deleted. `Retain`:
/// they stay, and a stack of the same name uses them again. `Delete`: the operator deletes them; in Production it also needs
/// the annotation `rorun.app/confirm-delete: <name of the stack>`. The operator never deletes external services and backups: it
/// retains an embedded bucket that has backups in it. Defaults to `Retain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The operator retains volumes and generated passwords.
    #[default]
    Retain,
    /// The operator deletes volumes and generated passwords with the stack.
    Delete,
}
