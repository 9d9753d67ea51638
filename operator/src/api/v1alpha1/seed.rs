//! The recovery point that a new stack begins with.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{CloudRole, S3SecretReference, ServiceTls, bucket, text};

/// A sanitized recovery point, and how its bucket is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = bucket::s3_login())]
pub struct SeedFrom {
    /// The URL of the point, as `status.location` of a RorunBackup with `sanitize` tells it, e.g.
    /// `s3://safe/sanitized/shop/rorun/20261129T101500Z-b9x2m/`. A point that is not sanitized is refused.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = "^s3://[^/]+/([^/]+/)*[0-9]{8}T[0-9]{6}Z-[a-z0-9]{5}(/|/manifest[.]json)?$")
    )]
    pub location: String,
    /// The URL of the S3 service, e.g. `https://s3.eu-west-1.amazonaws.com`.
    #[schemars(length(max = 2048), extend("x-kubernetes-validations" = text::endpoint()))]
    pub endpoint: String,
    /// The region that requests are signed for. Defaults to `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// `false`: `https://bucket.endpoint/key`. Defaults to `true`: `https://endpoint/bucket/key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
    /// The Secret with the keys, which need to read the folder of the point and nothing else. Defaults to `cloudRole`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<S3SecretReference>,
    /// `{}`: instead of keys, the ServiceAccount `<stack>-restore` has a role of AWS. Defaults to keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_role: Option<CloudRole>,
    /// The certificate authority of the server. Defaults to the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServiceTls>,
}
