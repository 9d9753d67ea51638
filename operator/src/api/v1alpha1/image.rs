//! Where images come from, and references to Secrets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;

/// The registry of the stack's images, and how the kubelet pulls them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// The registry that the operator puts before every image of the stack whose name does not start with one, e.g.
    /// `ghcr.io/rorun`: the kubelet then pulls `rorun-api:1.8.0` as `ghcr.io/rorun/rorun-api:1.8.0`, and `postgres:17` of an
    /// embedded database as `ghcr.io/rorun/postgres:17`. Defaults to none: the kubelet pulls images by the names given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), extend("x-kubernetes-validations" = text::registry()))]
    pub registry: Option<String>,
    /// Secrets of type `kubernetes.io/dockerconfigjson` in the stack's namespace, for every pod of the stack. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pull_secrets: Vec<LocalReference>,
    /// When the kubelet pulls an image. Defaults to `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
}

/// When the kubelet pulls an image. Defaults to `IfNotPresent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the image must be on the node.
    Never,
}

/// An object in the stack's namespace, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// The name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One key of a Secret in the stack's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret. Defaults to `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// The TLS of the connection to an external service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTls {
    /// A Secret with the certificate authority (PEM) that signed the server's certificate. The pods of the application have it, by
    /// `NODE_EXTRA_CA_CERTS`. Defaults to the public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyReference>,
}
