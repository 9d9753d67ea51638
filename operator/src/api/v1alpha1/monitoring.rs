//! What collects the metrics of the application.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text;

/// What collects the metrics of the application.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringSpec {
    /// `true`: the operator makes a ServiceMonitor of the Prometheus Operator, by which a Prometheus scrapes the API. The cluster
    /// needs the Prometheus Operator, and the operator `optionalApis.prometheusOperator: true` in its chart. Without them the
    /// stack serves all the same, and the condition `MonitoringReady` names what is missing. Defaults to `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<bool>,
    /// The path of the metrics of the API, on its port `http`. Defaults to `/metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), extend("x-kubernetes-validations" = text::metrics_path()))]
    pub metrics_path: Option<String>,
    /// How often the Prometheus scrapes, e.g. `30s`. Defaults to what the Prometheus is set to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-validations" = text::scrape_interval()))]
    pub interval: Option<String>,
    /// Labels that the operator adds to the ServiceMonitor, by which a Prometheus chooses it, e.g. `release: prometheus`. A label
    /// of the operator wins over one of the same key. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(
        extend("maxProperties" = 16, "x-kubernetes-validations" = text::labels()),
        extend("additionalProperties" = {"type": "string", "maxLength": 63})
    )]
    pub labels: BTreeMap<String, String>,
}
