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
    /// Which component serves which path of `host`, and of each extra host without paths of its own. The component receives the
    /// path as the client sent it, unless an annotation makes the Ingress controller rewrite it. Defaults to the path `/`, which
    /// leads to the API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-validations" = text::distinct_paths()))]
    pub paths: Vec<IngressPath>,
    /// More hosts that lead to the stack, e.g. the API under a second domain. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["host"]))]
    pub extra_hosts: Vec<ExtraHost>,
    /// Annotations of the Ingress, e.g. those that its controller or cert-manager reads. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The certificate of an Ingress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngressTls {
    /// A Secret of type `kubernetes.io/tls` in the stack's namespace, for all hosts that name no other.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// One more host of an Ingress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtraHost {
    /// The host, e.g. `api.example.org`. It may be one of `host`, `adminHost` and `ocrHost`, to which it adds paths.
    #[schemars(length(max = 253), extend("x-kubernetes-validations" = text::host()))]
    pub host: String,
    /// Which component serves which path of the host. Defaults to `ingress.paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-validations" = text::distinct_paths()))]
    pub paths: Vec<IngressPath>,
    /// The certificate of the host. Defaults to `ingress.tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<IngressTls>,
}

/// A path of a host, and the component that serves it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(r#"has(self.pathType) && self.pathType == 'ImplementationSpecific' ? self.path.matches('^/[^\\s"]*$') : self.path.matches('^/[A-Za-z0-9/._~%+@:-]*$') && !self.path.matches('//|/[.][.]?(/|$)|%2[fF]')"#)
    .message("write a path that starts with /, e.g. `/api`, of letters, digits and any of . _ ~ % + @ : -, without //, /./, /../ and %2f; other characters need `pathType: ImplementationSpecific`")
    .field_path(".path"))]
pub struct IngressPath {
    /// The path, e.g. `/api`.
    #[schemars(length(max = 256))]
    pub path: String,
    /// How the path is compared, as in an Ingress: `Prefix` by elements, so that `/api` matches `/api/receipts` and not
    /// `/apis`; `Exact`; `ImplementationSpecific`, as the Ingress controller documents. Defaults to `Prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PathType")] // so that the field is explained, and not its type
    pub path_type: Option<PathType>,
    /// The component that serves it: `api`, `ocr` or `admin`.
    pub component: RoutedComponent,
}

/// How a path is compared with that of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathType {
    /// By elements from the start.
    #[default]
    Prefix,
    /// As a whole.
    Exact,
    /// As the Ingress controller documents.
    ImplementationSpecific,
}

/// A component that an Ingress leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoutedComponent {
    /// The API server.
    Api,
    /// The OCR service.
    Ocr,
    /// The admin panel.
    Admin,
}
