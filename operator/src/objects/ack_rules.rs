//! The rules of a Bucket of the ACK controller for S3 (`s3.services.k8s.aws/v1alpha1`).

use serde::Serialize;

/// What becomes of objects as time goes by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BucketLifecycle {
    /// The rules.
    pub rules: Vec<LifecycleRule>,
}

/// One action, on the objects below a prefix.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleRule {
    /// The id.
    pub id: String,
    /// `Enabled`.
    pub status: &'static str,
    /// The objects.
    pub filter: RuleFilter,
    /// Moves objects to another storage class.
    pub transitions: Option<Vec<Transition>>,
    /// Removes versions that were overwritten or deleted.
    pub noncurrent_version_expiration: Option<NoncurrentVersionExpiration>,
    /// Removes uploads that are not complete.
    pub abort_incomplete_multipart_upload: Option<AbortIncompleteMultipartUpload>,
}

/// The objects that a rule is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuleFilter {
    /// Their keys begin so. Empty: all.
    pub prefix: String,
}

/// Moves objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// Their age in days.
    pub days: i32,
    /// The class.
    pub storage_class: &'static str,
}

/// Removes old versions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NoncurrentVersionExpiration {
    /// How many days after they became old.
    pub noncurrent_days: i32,
}

/// Removes broken uploads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AbortIncompleteMultipartUpload {
    /// How many days after their beginning.
    pub days_after_initiation: i32,
}

/// The pages that browsers let send requests to a bucket.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketCors {
    /// One rule.
    pub cors_rules: Vec<CorsRule>,
}

/// What pages may do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CorsRule {
    /// The id.
    pub id: String,
    /// Headers of requests.
    pub allowed_headers: Vec<&'static str>,
    /// Methods.
    pub allowed_methods: Vec<&'static str>,
    /// The origins of the pages.
    pub allowed_origins: Vec<String>,
    /// Headers of answers that scripts may read.
    pub expose_headers: Vec<&'static str>,
    /// How long a browser need not ask again.
    pub max_age_seconds: u32,
}

/// Where S3 copies objects to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BucketReplication {
    /// The ARN of the role that S3 copies as.
    pub role: String,
    /// One rule.
    pub rules: Vec<ReplicationRule>,
}

/// What is copied, and where to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationRule {
    /// The id.
    pub id: String,
    /// Of two rules, the one that counts.
    pub priority: i32,
    /// `Enabled`.
    pub status: &'static str,
    /// The objects.
    pub filter: RuleFilter,
    /// The other bucket.
    pub destination: ReplicationDestination,
    /// Whether deletions are copied.
    pub delete_marker_replication: DeleteMarkerReplication,
}

/// The other bucket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicationDestination {
    /// Its ARN.
    pub bucket: String,
}

/// Whether deletions are copied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeleteMarkerReplication {
    /// `Disabled`: what is deleted here stays there.
    pub status: &'static str,
}
