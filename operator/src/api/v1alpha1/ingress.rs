//! How requests from outside reach the stack.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;

/// An Ingress for the API and, if they have a host, for the admin panel and the OCR service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(!has(self.adminHost) || self.adminHost != self.host) && (!has(self.ocrHost) || self.ocrHost != self.host) && (!has(self.adminHost) || !has(self.ocrHost) || self.adminHost != self.ocrHost)")
    .message("host, adminHost and ocrHost must differ: each host leads to one component, e.g. `host: api.example.com, adminHost: admin.example.com`"))]
pub struct IngressSpec {
    /// The IngressClass. Defaults to the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// The host of the API, e.g. `staging-api.rorun.app`.
    #[schemars(length(max = 253), extend("x-kubernetes-validations" = text::host()))]
    pub host: String,
    /// The host of the admin panel. Defaults to none: only clients within the cluster reach the panel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), extend("x-kubernetes-validations" = text::host()))]
    pub admin_host: Option<String>,
    /// The host of the OCR service. Defaults to none: only clients within the cluster reach the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), extend("x-kubernetes-validations" = text::host()))]
    pub ocr_host: Option<String>,
    /// The certificate for HTTPS. Defaults to none: the Ingress serves HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<IngressTls>,
    /// Annotations of the Ingress, e.g. those that its controller or cert-manager reads. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The certificate of an Ingress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// A Secret of type `kubernetes.io/tls` in the stack's namespace, for all hosts.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}
