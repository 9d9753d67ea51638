//! Backups of the database into a bucket.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ExternalBucket, PodTemplate, Resources, Scheduling, text};

/// When the database is dumped, where to, and for how long dumps are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupSpec {
    /// Five fields of cron: minute, hour, day of the month, month, day of the week; or `@hourly`, `@daily`, `@weekly`,
    /// `@monthly`. Left out: `15 2 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 100),
        regex(pattern = r"^(@(hourly|daily|weekly|monthly)|[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4})$")
    )]
    pub schedule: Option<String>,
    /// The IANA time zone of the schedule, e.g. `Africa/Lagos`. Left out: `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$"))]
    pub time_zone: Option<String>,
    /// For how long dumps are kept. Left out: 30 days, and at least 7 dumps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Where dumps go. Left out: the stack's own bucket, under `backups/<namespace>/<stack>/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<BackupDestination>,
    /// The image with `pg_dump` for an external database, at least of the server's major version. Left out: the image of
    /// the embedded database, or `postgres:17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// CPU and memory of the backup pod. Left out: requests of `100m` and `128Mi`, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that are added to the backup pods, e.g. to keep the sidecar of a mesh out, which would keep a pod running whose
    /// dump is complete. Those of the operator win. Left out: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations that are added to the backup pods. Left out: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Where backup pods may run. Defaults to any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Merged over the pod template as a strategic merge patch: containers and volumes by `name`, mounts by `mountPath`,
    /// e.g. `spec: {containers: [{name: dump, securityContext: {runAsUser: 1000}}]}`. `$patch: replace` in a
    /// `securityContext`, a probe or `lifecycle` replaces the whole block. A container beside the dump belongs into
    /// `initContainers` with `restartPolicy: Always`. Refused is what other fields of this spec set, what the Pod Security
    /// Standard `baseline` forbids, and what is the operator's: labels, ServiceAccount, its containers and volumes. The
    /// condition of the component then names the field, and the pods stay as they are. Secrets and ConfigMaps that its
    /// volumes name must exist; a change of their content reaches the files in the pods and replaces no pod. Defaults to no
    /// patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// For how long dumps are kept. A dump is removed when it is older than `days` and `minimumKept` newer good ones exist.
/// The newest good dump is never removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The age in days at which a dump may be removed. Left out: `30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub days: Option<i32>,
    /// How many dumps are kept whatever their age. Left out: `7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub minimum_kept: Option<i32>,
}

/// Where dumps go: another bucket, another folder, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.external) || has(self.prefix)")
    .message("set external, e.g. `external: {name: my-backups, endpoint: https://s3.example.com, credentialsSecretRef: {name: my-s3}}`, or prefix, or leave destination out to use the stack's own bucket"))]
pub struct BackupDestination {
    /// A bucket that the operator did not make. It must exist. Left out: the stack's own bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalBucket>,
    /// The folder in the bucket, e.g. `eu-west/backups/`; dumps are below it in `<namespace>/<stack>/`. Left out: `backups/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256), extend("x-kubernetes-validations" = text::folder()))]
    pub prefix: Option<String>,
}
