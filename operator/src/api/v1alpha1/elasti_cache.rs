//! Redis on Amazon ElastiCache, through its controller of AWS Controllers for Kubernetes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;

/// A cache of Amazon ElastiCache that the ACK controller for ElastiCache makes: nodes, or with `serverless` none. It outlives the stack,
/// whatever `deletionPolicy` says. Connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.nodeType) != has(self.serverless)")
        .message("set nodeType or serverless of redis.elastiCache, e.g. `nodeType: cache.t4g.small`"),
    validation = Rule::new("!has(self.serverless) || !(has(self.clusterMode) || has(self.shards) || has(self.replicas) || has(self.subnetGroup) || has(self.parameterGroup) || has(self.snapshotWindow) || has(self.maintenanceWindow))")
        .message("a serverless cache has neither clusterMode, shards, replicas, subnetGroup, parameterGroup nor windows: leave them out of redis.elastiCache"),
    validation = Rule::new("!has(self.shards) || (has(self.clusterMode) && self.clusterMode)")
        .message("shards need cluster mode: set redis.elastiCache.clusterMode to true, or leave shards out"),
    validation = Rule::new("has(self.serverless) == has(oldSelf.serverless) && (has(self.clusterMode) && self.clusterMode) == (has(oldSelf.clusterMode) && oldSelf.clusterMode)")
        .message("nodeType, serverless and clusterMode of redis.elastiCache cannot take each other's place: create a new stack and move the data"),
    validation = Rule::new("(has(self.identifier) ? self.identifier : '') == (has(oldSelf.identifier) ? oldSelf.identifier : '') && (has(self.region) ? self.region : '') == (has(oldSelf.region) ? oldSelf.region : '') && (has(self.kmsKeyID) ? self.kmsKeyID : '') == (has(oldSelf.kmsKeyID) ? oldSelf.kmsKeyID : '')")
        .message("identifier, region and kmsKeyID of redis.elastiCache cannot change: create a new stack and move the data"),
    validation = Rule::new("!has(self.engine) || self.engine != 'Redis' || (has(oldSelf.engine) && oldSelf.engine == 'Redis')")
        .message("redis.elastiCache.engine cannot change from Valkey to Redis: create a new stack and move the data"),
    validation = Rule::new("!has(self.version) || (has(self.engine) && self.engine == 'Redis' ? !self.version.startsWith('8') : !(self.version.startsWith('6') || self.version in ['7.0', '7.1']))")
        .message("redis.elastiCache.version: Valkey begins with 7.2, and Redis ends with 7.1; write another version, or the other engine"),
)]
pub struct ElastiCacheRedis {
    /// The type of the nodes, e.g. `cache.t4g.small`. AWS carries out a change at once, so the operator holds one until the annotation
    /// `rorun.app/confirm-change: <new type>`. Defaults to none: a serverless cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-validations" = text::node_type()))]
    pub node_type: Option<String>,
    /// A cache without nodes of its own. The application reaches it as one in cluster mode. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serverless: Option<ServerlessRedis>,
    /// The engine. Cannot change from `Valkey` to `Redis`; the other way is held until the annotation
    /// `rorun.app/confirm-change: Valkey`, and the version with it. Defaults to `Valkey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<CacheEngine>,
    /// The version of the engine, e.g. `8.0`; of a serverless cache the major version, e.g. `8`. Another major version is held until the
    /// annotation `rorun.app/confirm-change: <new version>`. Defaults to `8.0` of Valkey and `7.1` of Redis, and to their major version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[678](\.[0-9]{1,2})?$"))]
    pub version: Option<String>,
    /// `true`: cluster mode, which the application's client must know (`REDIS_CLUSTER=true`). Cannot change. Defaults to `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_mode: Option<bool>,
    /// How many shards there are in cluster mode. Defaults to `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 90))]
    pub shards: Option<i32>,
    /// How many replicas each shard has, `0` to `5`. With one or more a replica in another zone takes over by itself. Defaults to `1` in
    /// Production, else to `0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5))]
    pub replicas: Option<i32>,
    /// The name of the cache in AWS. Cannot change. Defaults to the namespace and the name of the stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), extend("x-kubernetes-validations" = text::aws_identifier()))]
    pub identifier: Option<String>,
    /// The region. Cannot change. Defaults to that of the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub region: Option<String>,
    /// The cache subnet group. Defaults to the one of the default VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub subnet_group: Option<String>,
    /// The security groups, which let the nodes in at port 6379, and at 6380 for a serverless cache. Defaults to the one of the VPC.
    #[serde(default, rename = "securityGroupIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(min = 1, max = 64)))]
    pub security_group_ids: Vec<String>,
    /// The cache parameter group; a queue needs one with `maxmemory-policy: noeviction`. Defaults to that of the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub parameter_group: Option<String>,
    /// The KMS key that the data are encrypted with. Cannot change. Defaults to a key of AWS.
    #[serde(default, rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
    /// How many days snapshots are kept, `0` to `35`. Defaults to `7` in Production, else to `0`: none are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 35))]
    pub snapshot_retention_days: Option<i32>,
    /// When snapshots are made, in UTC, e.g. `02:00-03:00`. Defaults to what AWS chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = text::daily_window()))]
    pub snapshot_window: Option<String>,
    /// When the cache is maintained, in UTC, e.g. `sun:03:30-sun:04:30`. Defaults to what AWS chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), extend("x-kubernetes-validations" = text::weekly_window()))]
    pub maintenance_window: Option<String>,
}

/// The engine of a cache. Cannot change from `Valkey` to `Redis`. Defaults to `Valkey`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CacheEngine {
    /// <https://valkey.io>
    #[default]
    Valkey,
    /// <https://redis.io>
    Redis,
}

impl CacheEngine {
    /// As the spec writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valkey => "Valkey",
            Self::Redis => "Redis",
        }
    }
}

/// A cache without nodes of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerlessRedis {
    /// The most data in GB. Defaults to no limit.
    #[serde(default, rename = "maxDataGB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub max_data_gb: Option<i32>,
    /// The most ECPUs per second. Defaults to no limit.
    #[serde(default, rename = "maxECPUPerSecond", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1000, max = 15_000_000))]
    pub max_ecpu_per_second: Option<i32>,
    /// The subnets, of two or three zones. Defaults to those of the default VPC.
    #[serde(default, rename = "subnetIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), inner(length(min = 1, max = 64)))]
    pub subnet_ids: Vec<String>,
    /// The user group, which is all that limits who may log in: a serverless cache has no password of its own. Defaults
    /// to none: whoever the security groups let in reads and writes.
    #[serde(default, rename = "userGroupID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub user_group_id: Option<String>,
    /// The Secret with the login of a user of that group, under the keys `username` and `password`. Defaults to no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_secret_ref: Option<LoginSecretReference>,
}

/// A Secret with a login, under the keys `username` and `password`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginSecretReference {
    /// The name of the Secret in the stack's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
