//! HorizontalPodAutoscalers and PodDisruptionBudgets of stateless services.

use k8s_openapi::api::{
    autoscaling::v2::{
        CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
        HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget, ResourceMetricSource,
    },
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
};

use super::metadata;
use crate::{
    api::v1alpha1::{ScalingBehavior, ScalingPolicy, ScalingPolicyType, ScalingRules, SelectPolicy},
    objects::DesiredObject,
    stack::{Disruption, Replicas, Stack, Workload},
};

/// The autoscaler of a workload that scales by load.
pub(super) fn autoscaler(stack: &Stack, workload: &Workload) -> Option<DesiredObject> {
    if stack.has_no_pods() {
        return None;
    }
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
            behavior: workload.scaling_behavior.as_ref().map(behavior),
            min_replicas: Some(min),
            max_replicas: max,
            metrics: Some(metrics),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name,
            },
        }),
        ..HorizontalPodAutoscaler::default()
    }))
}

fn behavior(behavior: &ScalingBehavior) -> HorizontalPodAutoscalerBehavior {
    HorizontalPodAutoscalerBehavior {
        scale_up: behavior.scale_up.as_ref().map(rules),
        scale_down: behavior.scale_down.as_ref().map(rules),
    }
}

fn rules(rules: &ScalingRules) -> HPAScalingRules {
    let select = |policy| match policy {
        SelectPolicy::Max => "Max",
        SelectPolicy::Min => "Min",
        SelectPolicy::Disabled => "Disabled",
    };
    HPAScalingRules {
        stabilization_window_seconds: rules.stabilization_window_seconds,
        select_policy: rules.select_policy.map(|policy| select(policy).to_owned()),
        policies: Some(rules.policies.iter().map(policy).collect()),
        ..HPAScalingRules::default()
    }
}

fn policy(policy: &ScalingPolicy) -> HPAScalingPolicy {
    let type_ = match policy.type_ {
        ScalingPolicyType::Pods => "Pods",
        ScalingPolicyType::Percent => "Percent",
    };
    HPAScalingPolicy { type_: type_.to_owned(), value: policy.value, period_seconds: policy.period_seconds }
}

/// How many pods evictions leave.
pub(super) fn disruption_budget(stack: &Stack, workload: &Workload) -> Option<DesiredObject> {
    if stack.has_no_pods() {
        return None;
    }
    let (min_available, max_unavailable) = match workload.disruption.clone()? {
        Disruption::MinAvailable(count) => (Some(count), None),
        Disruption::MaxUnavailable(count) => (None, Some(count)),
    };
    Some(DesiredObject::own(&PodDisruptionBudget {
        metadata: metadata::owned(stack, workload.component, stack.child(workload.component)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available,
            max_unavailable,
            selector: Some(metadata::selector(stack, workload.component)),
            // A pod that is not healthy protects nobody, and must not block a drain (KEP-3017).
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        ..PodDisruptionBudget::default()
    }))
}
