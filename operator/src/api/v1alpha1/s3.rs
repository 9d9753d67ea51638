//! The bucket on Amazon S3, through its controller of AWS Controllers for Kubernetes.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{CloudRole, S3SecretReference, bucket, text};

/// A bucket of Amazon S3 that the ACK controller for S3 makes: encrypted, with versioning, closed to the public. It outlives the stack,
/// whatever `deletionPolicy` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.name == oldSelf.name && self.region == oldSelf.region")
        .message("name and region of bucket.s3 cannot change: create a new stack and copy the objects"),
    validation = bucket::s3_login(),
)]
pub struct S3Bucket {
    /// The name of the bucket, unique in all of AWS. Cannot change.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9-]*[a-z0-9]$"))]
    pub name: String,
    /// The region, e.g. `eu-west-1`. Cannot change.
    #[schemars(length(max = 32), extend("x-kubernetes-validations" = text::aws_region()))]
    pub region: String,
    /// The KMS key that objects are encrypted with. Defaults to keys of S3 (AES-256).
    #[serde(default, rename = "kmsKeyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
    /// The Secret with the keys of a user of AWS who may use the bucket. The controller has rights of its own. Defaults to
    /// `cloudRole`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<S3SecretReference>,
    /// `{}`: instead of keys, pods have a role of AWS by their ServiceAccounts. Defaults to keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_role: Option<CloudRole>,
}
