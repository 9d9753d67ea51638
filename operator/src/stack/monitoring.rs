//! What collects the metrics of the application, with every default resolved.

use std::collections::BTreeMap;

use crate::{api::v1alpha1::RorunStackSpec, names::annotation};

/// Where metrics are when the spec does not say.
const METRICS_PATH: &str = "/metrics";

/// How the API is scraped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// The path of the metrics.
    pub path: String,
    /// How often they are read. `None`: as the Prometheus is set to.
    pub interval: Option<String>,
    /// Labels by which a Prometheus chooses what it scrapes.
    pub labels: BTreeMap<String, String>,
}

/// What the spec says. `None`: nothing is scraped. A label of the operator's own prefix would make the monitor look like data, which
/// is never pruned; the definition refuses it too.
pub(super) fn resolve(spec: &RorunStackSpec) -> Option<Monitoring> {
    let monitoring = spec.monitoring.as_ref().filter(|monitoring| monitoring.scrape == Some(true))?;
    Some(Monitoring {
        path: monitoring.metrics_path.clone().unwrap_or_else(|| METRICS_PATH.to_owned()),
        interval: monitoring.interval.clone(),
        labels: monitoring.labels.clone().into_iter().filter(|(key, _)| !key.starts_with(annotation::PREFIX)).collect(),
    })
}
