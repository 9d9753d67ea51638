//! PostgreSQL that CloudNativePG runs in the cluster.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Resources, Storage, UrlStyle, text};

/// PostgreSQL that CloudNativePG runs in the cluster: a primary, replicas and failover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.version) || !has(self.image)")
        .message("set version or image, not both: the tag of the image begins with the version"),
    validation = Rule::new("has(self.walStorage) || !has(oldSelf.walStorage)")
        .message("database.cloudNativePG.walStorage cannot be taken away: CloudNativePG cannot move the log back; write it again"),
)]
pub struct CloudNativePgDatabase {
    /// How many servers: one primary, and replicas of it, one of which takes over when the primary is lost. From two on,
    /// `DATABASE_READ_URL` leads to the replicas. Defaults to `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub instances: Option<i32>,
    /// The major version of PostgreSQL, `14` to `18`. Cannot change: the reason `VersionMismatch` says so, and the Cluster stays
    /// as it is. Defaults to `17`, or to that of `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = text::postgres_version()))]
    pub version: Option<String>,
    /// The image, whose tag begins with the major version, e.g. `ghcr.io/cloudnative-pg/postgresql:17.6-standard-trixie`. A new
    /// minor version replaces one server after the other. Defaults to `cloudnative-pg/postgresql:<version>-standard-trixie` of
    /// `image.registry`, or of `ghcr.io` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::postgres_image()))]
    pub image: Option<String>,
    /// The volume of each server. Defaults to `10Gi` of the cluster's default StorageClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// A volume of its own for the write-ahead log of each server. Cannot be taken away. Defaults to none: the log is on the
    /// volume of `storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_storage: Option<Storage>,
    /// CPU and memory of each server. Defaults to requests of `100m` and `256Mi` without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Parameters of PostgreSQL, e.g. `max_connections: "200"`. CloudNativePG refuses those that it sets itself. Defaults to
    /// none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 64),
        extend("additionalProperties" = {"type": "string", "maxLength": 512})
    )]
    pub parameters: BTreeMap<String, String>,
    /// Whether the servers keep apart from each other. `Preferred`: on other nodes where there are some. `Required`: a server
    /// waits for a node of its own. Defaults to `Preferred`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity: Option<AntiAffinity>,
    /// PgBouncer between the application and the primary: `DATABASE_URL` leads through it, and `DIRECT_URL` past it. Defaults to
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler: Option<PoolerSpec>,
    /// The dialect of the URLs that the operator gives the application. Defaults to `Libpq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_style: Option<UrlStyle>,
}

/// Whether servers keep apart from each other. `Preferred`: on other nodes where there are some. `Required`: a server waits for a
/// node of its own. Defaults to `Preferred`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AntiAffinity {
    /// On other nodes where there are some.
    #[default]
    Preferred,
    /// A server waits for a node of its own.
    Required,
}

/// PgBouncer between the application and the primary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolerSpec {
    /// How many pods. Defaults to `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub instances: Option<i32>,
    /// Who gets a connection of the server. `Session`: a client, until it leaves. `Transaction`: a transaction, so that few
    /// connections serve many clients; a client may keep nothing in its session. Defaults to `Session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PoolMode>,
    /// The image of PgBouncer. Defaults to that of CloudNativePG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// Parameters of PgBouncer, e.g. `default_pool_size: "20"`. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 64),
        extend("additionalProperties" = {"type": "string", "maxLength": 512})
    )]
    pub parameters: BTreeMap<String, String>,
}

/// Who gets a connection of the server. `Session`: a client, until it leaves. `Transaction`: a transaction, so that few
/// connections serve many clients; a client may keep nothing in its session. Defaults to `Session`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PoolMode {
    /// A client, until it leaves.
    #[default]
    Session,
    /// A transaction.
    Transaction,
}
