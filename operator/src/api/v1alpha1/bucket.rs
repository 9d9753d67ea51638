//! The S3 bucket: on a server that the operator runs, or somebody else's.

use kube::{KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Modes, PodTemplate, Resources, S3Bucket, Scheduling, ServiceTls, Storage, modes, text};

/// The modes of `bucket`.
pub const BUCKET_MODES: Modes = &["embedded", "external", "s3"];

/// The S3 bucket of the stack: exactly one of `embedded`, `external` and `s3`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = modes::exactly_one(BUCKET_MODES, "`embedded: {}` or `external: {name: my-bucket, endpoint: https://s3.example.com, credentialsSecretRef: {name: my-s3}}`"),
    validation = Rule::new("!has(self.s3) || !has(self.versioning) || self.versioning")
        .message("a bucket.s3 has versioning always: leave bucket.versioning out"),
)]
pub struct BucketSpec {
    /// An S3 server that the operator runs in the cluster, with a volume and generated keys. The operator creates the bucket in
    /// it. Not for Production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedBucket>,
    /// An existing bucket that the operator does not manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalBucket>,
    /// A bucket of Amazon S3 that its ACK controller makes. It needs `optionalApis.ackS3` of the operator's chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Bucket>,
    /// `true`: the operator turns object versioning on, and reports a server that does not support it. `false`: the operator
    /// leaves versioning as it is; it never turns it off. Defaults to `false` for an
    /// external bucket, else to `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versioning: Option<bool>,
    /// What becomes of objects as time goes by. The operator sets it as rules of its own, by the keys of the bucket, and leaves
    /// the rules of others as they are; those of `s3` its controller sets, alone, and the operator compares. Defaults to no rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<BucketLifecycle>,
    /// The pages whose scripts may send requests to the bucket, for uploads from a browser. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<BucketCors>,
    /// A bucket that the server copies new objects to. Both buckets need versioning. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<BucketReplication>,
}

/// What becomes of the objects of a bucket as time goes by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.archiveAfterDays) || has(self.expireNoncurrentAfterDays) || has(self.abortIncompleteUploadsAfterDays)")
    .message("lifecycle says nothing: set archiveAfterDays, expireNoncurrentAfterDays or abortIncompleteUploadsAfterDays, or leave lifecycle out"))]
pub struct BucketLifecycle {
    /// The beginning of the keys that it is about, such as `uploads/`. Defaults to all objects of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::key_prefix()))]
    pub prefix: Option<String>,
    /// The age in days at which an object moves to cheaper storage, of a class that answers at once (`GLACIER_IR`). It needs
    /// `prefix` or `backup.destination.external`, since backups are to stay where they are. Defaults to never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub archive_after_days: Option<i32>,
    /// How many days after it was overwritten or deleted a version is removed for ever. Defaults to never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub expire_noncurrent_after_days: Option<i32>,
    /// How many days after its beginning an upload that is not complete is removed. Defaults to never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub abort_incomplete_uploads_after_days: Option<i32>,
}

/// The pages whose scripts may send requests to a bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketCors {
    /// The origins of the pages, such as `https://app.example.com`. They may read and write, as far as the request is signed.
    #[schemars(length(min = 1, max = 20), inner(length(max = 261)), extend("x-kubernetes-validations" = text::origins()))]
    pub allow_origins: Vec<String>,
}

/// A bucket that the server copies new objects to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketReplication {
    /// The name of the bucket. It must exist, with versioning; the keys of the stack's bucket must be able to read it, and to
    /// delete versions in it: the operator proves the replication by an object that arrives.
    #[schemars(length(min = 3, max = 63), extend("x-kubernetes-validations" = text::bucket()))]
    pub bucket: String,
    /// Its region.
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// The role that the server copies as, such as `arn:aws:iam::123456789012:role/replication`.
    #[serde(rename = "roleARN")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::arn()))]
    pub role_arn: String,
}

/// An S3 server that the operator runs in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedBucket {
    /// The software of the server, which decides its arguments, port and environment. Cannot change. Defaults to `SeaweedFS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<BucketServer>,
    /// The image of the server. Defaults to `chrislusf/seaweedfs:4.48`, `minio/minio:RELEASE.2025-09-07T16-13-09Z` or
    /// `rustfs/rustfs:1.0.0`, by `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// The volume of the objects. Defaults to `10Gi` of the cluster's default StorageClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// CPU and memory of the server. Defaults to requests of `50m` and `256Mi` without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the pod may run. Defaults to any node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Merged over the pod template as `api.podTemplate` is, which tells what is refused, e.g.
    /// `spec: {containers: [{name: s3, securityContext: {runAsUser: 1000}}]}`. Defaults to no patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// The software of an embedded S3 server, which decides its arguments, port and environment. Cannot change. Defaults to
/// `SeaweedFS`.
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

/// An existing bucket that the operator does not manage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = s3_login())]
pub struct ExternalBucket {
    /// The name of the bucket. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub name: String,
    /// The URL of the S3 service, e.g. `https://s3.eu-west-1.amazonaws.com`. The buckets are below its path, if it has one,
    /// e.g. `https://my-project.storage.supabase.co/storage/v1/s3`.
    #[schemars(length(max = 2048), extend("x-kubernetes-validations" = text::endpoint()))]
    pub endpoint: String,
    /// The region that requests are signed for. Defaults to `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// `true`: clients write `https://endpoint/bucket/key`; `false`: `https://bucket.endpoint/key`. Defaults to `true`, which
    /// every server understands, and which an `endpoint` with a path needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
    /// The checksums that the application's S3 client sends and expects. Defaults to what the client decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<Checksums>,
    /// The Secret with the keys. Defaults to `cloudRole`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<S3SecretReference>,
    /// `{}`: instead of keys, pods have a role of AWS by their ServiceAccounts. The operator has none, so a Job asks the bucket. Defaults to
    /// keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_role: Option<CloudRole>,
    /// The certificate authority of the server; the endpoint must start with `https://`. Defaults to the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServiceTls>,
    /// `true`: the operator also probes a bucket by `http://`, so that anyone on the network path can read names and
    /// signatures. In Development it always does; pods connect in any case. Defaults to `false`: it does not, and the
    /// condition says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_insecure: Option<bool>,
    /// How often the operator probes the bucket while it answers, e.g. `1h30m`: from `10s` to `24h`. Defaults
    /// to `1m`, to `5m` for a provider that is known to count requests, and to `1h` for one that sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-validations" = text::interval()))]
    pub probe_interval: Option<String>,
}

/// The checksums that the application's S3 client sends and expects: its variables `AWS_REQUEST_CHECKSUM_CALCULATION` and
/// `AWS_RESPONSE_CHECKSUM_VALIDATION`. `WhenRequired` is for a server that refuses those that newer clients send by default,
/// as many other than Amazon's do. Defaults to neither variable, so that the client decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Checksums {
    /// Only for an operation that requires one.
    WhenRequired,
    /// For each operation that supports one.
    WhenSupported,
}

/// A role of the cloud, which the ServiceAccounts of the stack's pods have. It says no more: what binds the role is at the accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloudRole {}

/// Who uses a bucket: whoever has the keys, or the pods by their role.
pub(super) fn s3_login() -> Rule {
    Rule::new("has(self.credentialsSecretRef) != has(self.cloudRole)").message(
        "set exactly one of credentialsSecretRef, e.g. `credentialsSecretRef: {name: my-s3}`, and `cloudRole: {}`, for a role of the pods",
    )
}

/// The Secret with the keys of an S3 service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3SecretReference {
    /// The name of the Secret in the stack's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key with the access key id. If this key or the next has another name, the operator probes the bucket only if the
    /// Secret has the label `rorun.app/s3: "true"`, since the id leaves the cluster in clear text. Defaults to `AWS_ACCESS_KEY_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub access_key_id_key: Option<String>,
    /// The key with the secret access key. Defaults to `AWS_SECRET_ACCESS_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_access_key_key: Option<String>,
    /// The key with the session token of temporary keys. Only if it is set a new token alone replaces the pods. Defaults to
    /// `AWS_SESSION_TOKEN` if the Secret has that key, else to no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub session_token_key: Option<String>,
}
