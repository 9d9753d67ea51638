//! HorizontalPodAutoscalers and PodDisruptionBudgets of stateless services.

use k8s_openapi::{
    api::{
        autoscaling::v2::{
            CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
            MetricTarget, ResourceMetricSource,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::metadata;
use crate::{
    objects::DesiredObject,
    stack::{Replicas, Stack, Workload},
};

/// The autoscaler of a workload that scales by load.
pub(super) fn autoscaler(stack: &Stack, workload: &Workload) -> Option<DesiredObject> {
    let Replicas::Auto { min, max, cpu, memory } = workload.replicas else { return None };
    let name = stack.child(workload.component);
    let metric = |resource: &str, percent: i32| MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: resource.to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    };
    let mut metrics = vec![metric("cpu", cpu)];
    metrics.extend(memory.map(|percent| metric("memory", percent)));
    Some(DesiredObject::own(&HorizontalPodAutoscaler {
        metadata: metadata::owned(stack, workload.component, name.clone()),
        spec: Some(HorizontalPodAutoscalerSpec {
            min_replicas: Some(min),
            max_replicas: max,
            metrics: Some(metrics),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name,
            },
            ..HorizontalPodAutoscalerSpec::default()
        }),
        ..HorizontalPodAutoscaler::default()
    }))
}

/// Only where there are 2 pods or more at any time: with one, it would keep the node from being drained.
pub(super) fn disruption_budget(stack: &Stack, workload: &Workload) -> Option<DesiredObject> {
    if workload.replicas.floor() < 2 {
        return None;
    }
    Some(DesiredObject::own(&PodDisruptionBudget {
        metadata: metadata::owned(stack, workload.component, stack.child(workload.component)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(metadata::selector(stack, workload.component)),
            // A pod that is not healthy protects nobody, and must not block a drain (KEP-3017).
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }))
}
