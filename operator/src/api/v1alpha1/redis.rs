//! Redis (or Valkey): run by the operator, or somebody else's.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ElastiCacheRedis, LocalReference, Modes, PodTemplate, Resources, Scheduling, ServiceTls, Storage, modes, text,
};

/// The modes of `redis`.
pub const REDIS_MODES: Modes = &["embedded", "external", "elastiCache"];

/// The Redis of the stack: exactly one of `embedded`, `external` and `elastiCache`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = modes::exactly_one(REDIS_MODES, "`embedded: {}` or `external: {secretRef: {name: my-redis}}`"))]
pub struct RedisSpec {
    /// A single server that the operator runs in the cluster, with a volume, an append-only file and a generated password. Not
    /// for Production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedRedis>,
    /// An existing server that the operator does not manage. A Secret holds its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRedis>,
    /// A cache of Amazon ElastiCache that its ACK controller makes. It needs `optionalApis.ackElastiCache` of the operator's chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elasti_cache: Option<ElastiCacheRedis>,
}

/// A single Valkey or Redis server that the operator runs in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedRedis {
    /// The image of the server; `valkey-server` or `redis-server` must be in its PATH. Defaults to `valkey/valkey:8.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// The volume of the append-only file. Defaults to `1Gi` of the cluster's default StorageClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// CPU and memory of the server. Defaults to requests of `50m` and `64Mi` without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The Secret with the certificate of the server (`tls.crt`, for `<stack>-redis.<namespace>.svc`), its key (`tls.key`) and its
    /// authority (`ca.crt`), as cert-manager makes it. The server then takes TLS connections alone. Another certificate replaces
    /// the pod. Defaults to no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<LocalReference>,
    /// Where the pod may run. Defaults to any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Merged over the pod template as `api.podTemplate` is, which tells what is refused, e.g.
    /// `spec: {containers: [{name: redis, securityContext: {runAsUser: 1000}}]}`. Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// An existing Redis server that the operator does not manage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRedis {
    /// The Secret with the connection URL.
    pub secret_ref: RedisSecretReference,
    /// Whose Redis it is, which decides how often it is probed and what messages advise. Defaults to the provider whose host the URL
    /// names; `status.services` tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<RedisProvider>,
    /// The certificate authority of the server; the URL must start with `rediss://`. Defaults to the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServiceTls>,
    /// `true`: the URL leads to a node of a cluster, or to its configuration endpoint. The application then gets
    /// `REDIS_CLUSTER=true`, and in `REDIS_KEY_PREFIX` the beginning of its keys, whose hash tag keeps them in one slot. The
    /// operator compares this with what the server says. Defaults to `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_mode: Option<bool>,
    /// `true`: the operator also probes a Redis whose URL starts with `redis://`, so that anyone on the network path can read
    /// the password. In Development it always does; pods connect in any case. Defaults to `false`: the operator does not probe
    /// the Redis, and its condition says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_insecure: Option<bool>,
    /// How often the operator probes the Redis while it answers, e.g. `1h30m`: from `10s` to `24h`. Defaults
    /// to `1m`, to `5m` for a provider that is known to count requests, and to `1h` for one that sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-validations" = text::interval()))]
    pub probe_interval: Option<String>,
}

/// A provider of Redis. Defaults to the one whose host the URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RedisProvider {
    /// Amazon ElastiCache.
    ElastiCache,
    /// Upstash.
    Upstash,
    /// Render.
    Render,
}

impl RedisProvider {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ElastiCache => "ElastiCache",
            Self::Upstash => "Upstash",
            Self::Render => "Render",
        }
    }
}

/// The Secret with the connection URL of a Redis, and its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisSecretReference {
    /// The name of the Secret in the stack's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the URL, `redis://user:password@host:port/0`, or `rediss://` for TLS. Defaults to `REDIS_URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub url_key: Option<String>,
}
