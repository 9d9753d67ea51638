//! The part of a ServiceMonitor of the Prometheus Operator that the operator writes
//! (source: <https://prometheus-operator.dev/docs/api-reference/api/>, `monitoring.coreos.com/v1`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Serialize;

/// Makes a Prometheus scrape what is behind Services.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceMonitor {
    /// The metadata. A Prometheus chooses its monitors by the labels.
    pub metadata: ObjectMeta,
    /// The spec.
    pub spec: ServiceMonitorSpec,
}

/// What is scraped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceMonitorSpec {
    /// Each port that is scraped.
    pub endpoints: Vec<Endpoint>,
    /// The Services, of the namespace of the monitor.
    pub selector: LabelSelector,
}

/// A port that is scraped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Endpoint {
    /// The name of the port of the Service.
    pub port: String,
    /// The path of the metrics.
    pub path: String,
    /// How often. `None`: as the Prometheus does by default.
    pub interval: Option<String>,
}
