//! Copies of recovery points, and drills.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ExternalBucket, LocalReference, Resources, Retention, Storage, text};

/// Where recovery points are copied to, and how long they stay there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupCopy {
    /// An existing bucket, best in another region or at another provider.
    pub external: ExternalBucket,
    /// The folder in the bucket; copies are below it in `<namespace>/<stack>/`. Defaults to `backups/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256), extend("x-kubernetes-validations" = text::folder()))]
    pub prefix: Option<String>,
    /// How long the operator keeps copies. Defaults to `backup.retention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// The drills: a Job restores the newest recovery point into a PostgreSQL of its own, in its own pod, compares it with what the
/// point says of itself, and throws it away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupVerify {
    /// The schedule of the drills, as `backup.schedule` is written, in the time zone of `backup.timeZone`. Defaults to
    /// a minute of the hour from 4 on Sundays, of each stack its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 100),
        regex(pattern = r"^(@(hourly|daily|weekly|monthly)|[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4})$")
    )]
    pub schedule: Option<String>,
    /// `true`: no drill begins by the schedule. Defaults to `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// The volume of a drill, which is removed with its pod. Defaults to twice the storage of the database, of
    /// an external one to `20Gi`, and to twice what the newest dump found if that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// The image with PostgreSQL, at least of the server's major version, and with its extensions. Defaults to the image of the
    /// backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// CPU and memory of the drill's pod. Defaults to requests of `100m` and `256Mi` without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` by which drills and sanitized points read the points and the
    /// objects that they list. Where these are in a bucket with `cloudRole` it is needed, since pods that run statements of users
    /// get no role. Defaults to the keys of the buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
    /// Questions that the restored database must answer as expected. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<BackupCheck>,
}

/// A question to the restored database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupCheck {
    /// What messages call it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// One statement of SQL.
    #[schemars(length(min = 1, max = 2000))]
    pub sql: String,
    /// The first value of its first row, as text.
    #[schemars(length(max = 200))]
    pub expect: String,
}

/// The Secret with the identity of age that decrypts dumps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentitySecretReference {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret. Defaults to `identity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}
