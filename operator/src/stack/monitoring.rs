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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolved(monitoring: &serde_json::Value) -> Option<Monitoring> {
        let spec = json!({"environment": "Development", "api": {"image": "a"}, "monitoring": monitoring});
        resolve(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn nothing_is_scraped_unless_the_spec_says_so() {
        for monitoring in [json!(null), json!({}), json!({"scrape": false}), json!({"metricsPath": "/m"})] {
            assert_eq!(resolved(&monitoring), None, "{monitoring}");
        }
        let monitoring = resolved(&json!({"scrape": true})).unwrap();
        assert_eq!((&*monitoring.path, monitoring.interval, monitoring.labels), ("/metrics", None, BTreeMap::new()));
    }

    /// Whatever definition the cluster has.
    #[test]
    fn no_label_makes_the_monitor_look_like_data() {
        let labels = json!({"rorun.app/retained": "true", "rorun.app/stack": "other", "release": "prometheus"});
        let monitoring = resolved(&json!({"scrape": true, "labels": labels})).unwrap();
        assert_eq!(monitoring.labels, BTreeMap::from([("release".to_owned(), "prometheus".to_owned())]));
    }
}
