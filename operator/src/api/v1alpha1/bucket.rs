//! The S3 bucket: on a server that the operator runs, or somebody else's.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PodTemplate, Resources, Scheduling, ServiceTls, Storage, text};

/// The S3 bucket of the stack: exactly one of `embedded` and `external`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.embedded) != has(self.external)")
        .message("set exactly one of embedded and external, e.g. `embedded: {}` or `external: {name: my-bucket, endpoint: https://s3.example.com, credentialsSecretRef: {name: my-s3}}`")
)]
pub struct BucketSpec {
    /// An S3 server in the cluster with a volume and generated keys. The operator makes the bucket in it. Not for Production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedBucket>,
    /// A bucket that the operator did not make. It must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalBucket>,
    /// `true`: the operator turns object versioning on, and reports if the server cannot. `false`: it leaves versioning as
    /// it is; it never turns it off. Left out: `true` for an embedded bucket, `false` for an external one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versioning: Option<bool>,
}

/// An S3 server in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedBucket {
    /// Which server to run, and so its arguments, port and environment. Left out: `SeaweedFS`. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<BucketServer>,
    /// The image of the server. Left out: `chrislusf/seaweedfs:4.48`, `minio/minio:RELEASE.2025-09-07T16-13-09Z` or
    /// `rustfs/rustfs:1.0.0`, as `server` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// The volume for the objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// CPU and memory of the server. Left out: requests of `50m` and `256Mi`, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the pod may run. Defaults to any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Merged over the pod template as a strategic merge patch: containers and volumes by `name`, mounts by `mountPath`,
    /// e.g. `spec: {containers: [{name: s3, securityContext: {runAsUser: 1000}}]}`. `$patch: replace` in a
    /// `securityContext`, a probe or `lifecycle` replaces the whole block. Refused is what other fields of this spec set,
    /// what the Pod Security Standard `baseline` forbids, and what is the operator's: labels, ServiceAccount, its
    /// containers and volumes. The condition of the component then names the field, and the pods stay as they are. Secrets
    /// and ConfigMaps that its volumes name must exist; a change of their content reaches the files in the pods and
    /// replaces no pod. Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// An S3 server that the operator knows how to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BucketServer {
    /// <https://github.com/seaweedfs/seaweedfs>
    #[default]
    SeaweedFS,
    /// <https://github.com/minio/minio>: no longer developed; for stacks that hold data in it.
    MinIO,
    /// <https://github.com/rustfs/rustfs>
    RustFS,
}

/// A bucket that the operator did not make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalBucket {
    /// The name of the bucket. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub name: String,
    /// The URL of the S3 service, e.g. `https://s3.eu-west-1.amazonaws.com`. It may have a path, below which the buckets are, e.g.
    /// `https://my-project.storage.supabase.co/storage/v1/s3`.
    #[schemars(length(max = 2048), extend("x-kubernetes-validations" = text::endpoint()))]
    pub endpoint: String,
    /// The region to sign requests for. Left out: `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// `true`: `https://endpoint/bucket/key`; `false`: `https://bucket.endpoint/key`. Left out: `true`, which every server
    /// understands, and which an `endpoint` with a path needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
    /// Which checksums the application's S3 client sends and expects. Defaults to what the client decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<Checksums>,
    /// The Secret with the keys.
    pub credentials_secret_ref: S3SecretReference,
    /// How the connection is secured; it needs an `https://` endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServiceTls>,
    /// `true`: the operator asks whether the bucket answers also where the endpoint starts with `http://`, so that whoever listens on the way
    /// can read names and signatures. It concerns Staging and Production, and the question alone: the pods connect as they are told. Defaults
    /// to `false`: such a bucket is used and not asked, and its condition says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_insecure: Option<bool>,
    /// How often the operator asks whether the bucket answers, while it does, such as `30s`, `5m` or `1h30m`: from `10s` to
    /// `24h`. Defaults to `1m`, and to `5m` where the provider is known to sleep or to count requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-validations" = text::interval()))]
    pub probe_interval: Option<String>,
}

/// Which checksums the application's S3 client sends and expects: its variables `AWS_REQUEST_CHECKSUM_CALCULATION` and
/// `AWS_RESPONSE_CHECKSUM_VALIDATION`. `WhenRequired` is for a server that refuses the checksums which newer clients send by
/// default, as many do that are not Amazon's. Defaults to neither variable, so that the client decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Checksums {
    /// Only where the operation requires one.
    WhenRequired,
    /// Wherever the operation supports one.
    WhenSupported,
}

/// The Secret that holds the keys of an S3 service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3SecretReference {
    /// The name of the Secret in the stack's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key that holds the access key id. Left out: `AWS_ACCESS_KEY_ID`. Under another name, or if the secret access key has
    /// another, the operator asks the bucket only if the Secret has the label `rorun.app/s3: "true"`: the id leaves the cluster
    /// in clear, and the Secret's owner says so that it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub access_key_id_key: Option<String>,
    /// The key that holds the secret access key. Left out: `AWS_SECRET_ACCESS_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_access_key_key: Option<String>,
    /// The key that holds the session token of temporary keys. Defaults to `AWS_SESSION_TOKEN` if the Secret has it, else there is
    /// none. A new token alone replaces the pods only if this field is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub session_token_key: Option<String>,
}
