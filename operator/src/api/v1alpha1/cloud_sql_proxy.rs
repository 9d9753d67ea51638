//! The Auth Proxy of Cloud SQL, in the words of its own flags.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Resources, SecretKeyReference, text};

/// The Cloud SQL Auth Proxy, a native sidecar of every pod that uses the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.privateIP) && self.privateIP && has(self.psc) && self.psc)")
        .message("an instance is reached one way: set privateIP or psc, and leave the other out"),
)]
pub struct CloudSqlProxy {
    /// The instance, `<project>:<region>:<instance>`: `connectionName` of `gcloud sql instances describe`.
    #[schemars(length(min = 5, max = 255), extend("x-kubernetes-validations" = text::instance_connection_name()))]
    pub instance_connection_name: String,
    /// `true`: `--private-ip`, by the instance's private address. Defaults to `false`: by its public one.
    #[serde(default, rename = "privateIP", skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<bool>,
    /// `true`: `--psc`, by Private Service Connect. Defaults to `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psc: Option<bool>,
    /// `true`: `--auto-iam-authn`, the proxy logs in with the token of its Google account, whose name is the user of the URL. Defaults
    /// to `false`: by the password of the URL.
    #[serde(default, rename = "autoIAMAuthn", skip_serializing_if = "Option::is_none")]
    pub auto_iam_authn: Option<bool>,
    /// The key of a Google account as JSON. Defaults to the account of the pods, by Workload Identity.
    #[serde(default, rename = "jsonCredentialsSecretRef", skip_serializing_if = "Option::is_none")]
    pub json_credentials_secret_ref: Option<SecretKeyReference>,
    /// The image, of version 2. Defaults to `gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.28.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), extend("x-kubernetes-validations" = text::image()))]
    pub image: Option<String>,
    /// CPU and memory, of which it needs more with each connection. Defaults to requests of `50m` and `64Mi` without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}
