//! The ServiceMonitor, by which a Prometheus scrapes the API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Component, metadata};
use crate::{
    api::v1alpha1::RorunStackSpec,
    names::Component as Name,
    objects::{DesiredObject, ObjectKind, SERVICE_MONITOR, ScrapedEndpoint, ServiceMonitor, ServiceMonitorSpec},
    plan::Plan,
    stack::Stack,
};

pub(super) struct Monitoring;

impl Component for Monitoring {
    fn name(&self) -> Name {
        Name::Monitoring
    }

    fn optional_kinds(&self, spec: &RorunStackSpec) -> Vec<&'static ObjectKind> {
        let scrapes = spec.monitoring.as_ref().is_some_and(|monitoring| monitoring.scrape == Some(true));
        scrapes.then_some(SERVICE_MONITOR).into_iter().collect()
    }

    fn objects(&self, stack: &Stack, _: &Plan) -> Vec<DesiredObject> {
        let Some(monitoring) = &stack.monitoring else { return Vec::new() };
        let mut metadata = metadata::owned(stack, Name::Monitoring, stack.child(Name::Monitoring));
        let labels = metadata.labels.get_or_insert_default();
        for (key, value) in &monitoring.labels {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let services = metadata::selector_labels(stack, Name::Api);
        vec![DesiredObject::own(&ServiceMonitor {
            metadata,
            spec: ServiceMonitorSpec {
                endpoints: vec![ScrapedEndpoint {
                    port: "http".to_owned(),
                    path: monitoring.path.clone(),
                    interval: monitoring.interval.clone(),
                }],
                selector: LabelSelector { match_labels: Some(services), ..LabelSelector::default() },
            },
        })]
    }
}
