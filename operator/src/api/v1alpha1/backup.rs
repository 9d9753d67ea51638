//! Backups of the database into a bucket.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BackupCopy, BackupVerify, ExternalBucket, IdentitySecretReference, PodTemplate, Resources, Scheduling, text,
};

/// The dumps of the database: their schedule, their destination and their retention.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// The schedule of the CronJob: five fields of cron (minute, hour, day of the month, month, day of the week), or `@hourly`,
    /// `@daily`, `@weekly`, `@monthly`. Defaults to `15 2 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 100),
        regex(pattern = r"^(@(hourly|daily|weekly|monthly)|[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4})$")
    )]
    pub schedule: Option<String>,
    /// The IANA time zone of the schedule, e.g. `Africa/Lagos`. Defaults to `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$"))]
    pub time_zone: Option<String>,
    /// How long the operator keeps dumps. Defaults to 30 days, and at least 7 dumps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// The bucket and the folder that dumps go to. Defaults to the stack's own bucket, under `backups/<namespace>/<stack>/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<BackupDestination>,
    /// How many of the Jobs of backups on demand are kept for reading once they have ended: those of RorunBackups and of the
    /// annotation `rorun.app/backup`. The recovery points follow `retention`. Defaults to `10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub history: Option<i32>,
    /// What the backups are measured against: one that is written and missed, or that the schedule cannot meet, makes
    /// `BackupHealthy` false. Defaults to `{rpo: 1h}`, which only releases in Production go by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<BackupObjectives>,
    /// Recovery to any moment: the log of a database of CloudNativePG is archived beside the dumps. It needs the barman-cloud plugin,
    /// and the operator `optionalApis.barmanCloud: true` in its chart. Defaults to none: only a dump can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_in_time: Option<PointInTime>,
    /// `true`: a recovery point also lists the objects of the stack's bucket with their versions, which needs versioning, and
    /// noncurrent versions that stay longer than `retention.days`. Defaults to `false`: it holds the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_bucket: Option<bool>,
    /// Other buckets that a backup run copies recovery points to, with the objects that they list, compared by checksum. Nothing
    /// that was copied nowhere is removed. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "atomic"))]
    pub copies: Vec<BackupCopy>,
    /// The public keys of age that dumps are encrypted for, e.g. of `age-keygen`. Defaults to none: dumps are not encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 62), regex(pattern = "^age1[02-9ac-hj-np-z]{58}$")), extend("x-kubernetes-list-type" = "set"))]
    pub recipients: Vec<String>,
    /// The private key of one of `recipients`, for the pods of drills and restores alone. Defaults to none: a drill of
    /// an encrypted dump compares checksums, and a RorunRestore refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret_ref: Option<IdentitySecretReference>,
    /// The drills that restore recovery points for a trial. Defaults to `{}` in Production, and to none elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<BackupVerify>,
    /// The image with `pg_dump`, at least of the server's major version. Defaults to the image of the embedded database, and for
    /// an external one to `postgres:<major>` as the server tells it, 17 until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// The exact names of schemas that are not dumped, such as those of a provider that the user of the URL may not read. A name is
    /// no pattern. Defaults to none: every schema is dumped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63), regex(pattern = r"^[^\x00-\x1F\x7F]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub exclude_schemas: Vec<String>,
    /// CPU and memory of the backup pod. Defaults to requests of `100m` and `128Mi` without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that the operator adds to the backup pods, e.g. one that keeps the sidecar of a service mesh out: a sidecar would
    /// keep the pod running after its dump is complete. On the same key the operator's wins. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations that the operator adds to the backup pods. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Where the pods of backups, drills, restores and sanitized points may run. Defaults to any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Merged over the pod template as `api.podTemplate` is, which tells what is refused, e.g.
    /// `spec: {containers: [{name: dump, securityContext: {runAsUser: 1000}}]}`. A container beside the dump belongs into
    /// `initContainers` with `restartPolicy: Always`. What it sets of the whole pod, e.g. `dnsConfig`, drills, restores and sanitized
    /// points get too, and more by `jobs`. Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// How long the operator keeps dumps. A backup run removes a dump that is older than `days` if `minimumKept` newer good ones
/// exist. It never removes the newest good dump.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The age in days from which a backup run may remove a dump. Defaults to `30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub days: Option<i32>,
    /// The number of dumps that backup runs keep whatever their age. Defaults to `7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub minimum_kept: Option<i32>,
}

/// The destination of dumps: another bucket, another folder, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.external) || has(self.prefix)")
    .message("set external, e.g. `external: {name: my-backups, endpoint: https://s3.example.com, credentialsSecretRef: {name: my-s3}}`, or prefix, or leave destination out to use the stack's own bucket"))]
pub struct BackupDestination {
    /// An existing bucket that the operator does not manage. Defaults to the stack's own bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalBucket>,
    /// The folder in the bucket, e.g. `eu-west/backups/`; dumps are below it in `<namespace>/<stack>/`. Defaults to `backups/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256), extend("x-kubernetes-validations" = text::folder()))]
    pub prefix: Option<String>,
}

/// Recovery to any moment of the last days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointInTime {
    /// How many days back.
    #[schemars(range(min = 7, max = 30))]
    pub days: i32,
}

/// What the backups of a stack are measured against.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupObjectives {
    /// How much of the newest data may be lost, as a duration from `1m` to `168h`. In Production a migration begins only beside a
    /// good backup that is not older; if there is none, the operator makes one first. Defaults to `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-validations" = text::objective()))]
    pub rpo: Option<String>,
    /// How long a restore may take, as a duration from `1m` to `168h`. It is compared with the last drill, scaled by size.
    /// Defaults to no objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-validations" = text::objective()))]
    pub rto: Option<String>,
}
