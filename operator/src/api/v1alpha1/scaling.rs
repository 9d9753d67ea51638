//! How fast an autoscaler scales.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `behavior` of a HorizontalPodAutoscaler (`kubectl explain hpa.spec.behavior`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingBehavior {
    /// How pods are added. Defaults to 4 pods or 100 percent every 15 seconds, whichever is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScalingRules>,
    /// How pods are removed. Defaults to as many as the load allows, after 300 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScalingRules>,
}

/// The rules of one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRules {
    /// The autoscaler takes the safest recommendation of so many seconds. Defaults to 0 in `scaleUp`, 300 in `scaleDown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: Option<i32>,
    /// Which policy applies: the one that allows the most pods (`Max`), the fewest (`Min`), or none, so that nothing is scaled
    /// in this direction (`Disabled`). Defaults to `Max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SelectPolicy")] // so that the field is explained, and not its type
    pub select_policy: Option<SelectPolicy>,
    /// How many pods may be added or removed in a period. Defaults to the policies of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    pub policies: Vec<ScalingPolicy>,
}

/// How many pods may be added or removed in a period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    /// What `value` counts: `Pods`, or `Percent` of the pods at the start of the period.
    #[serde(rename = "type")]
    pub type_: ScalingPolicyType,
    /// The most that is allowed.
    #[schemars(range(min = 1, max = 10000))]
    pub value: i32,
    /// The period in seconds.
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: i32,
}

/// Which of several policies applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicy {
    /// The one that allows the most pods.
    Max,
    /// The one that allows the fewest pods.
    Min,
    /// None: the direction is switched off.
    Disabled,
}

/// What the value of a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingPolicyType {
    /// Pods.
    Pods,
    /// Percent of the pods.
    Percent,
}
