//! How many pods may be evicted at a time.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A PodDisruptionBudget: how many pods the drain of a node and other evictions leave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.minAvailable) != has(self.maxUnavailable)")
    .message("set exactly one of minAvailable and maxUnavailable, e.g. `disruption: {minAvailable: 2}` or `disruption: {maxUnavailable: 25%}`"))]
pub struct DisruptionSpec {
    /// How many pods must stay available, e.g. `2` or `50%`, which is rounded up. Defaults to what `maxUnavailable` leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_available: Option<IntOrPercent>,
    /// How many pods may be unavailable, e.g. `1` or `25%`, which is rounded up. Defaults to what `minAvailable` leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrPercent>,
}

/// A number of pods, or a percentage of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntOrPercent(pub IntOrString);

impl JsonSchema for IntOrPercent {
    fn schema_name() -> Cow<'static, str> {
        "IntOrPercent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": "^(100|[0-9]{1,2})%$",
            // A pattern says nothing of numbers.
            "minimum": 0,
            "maximum": 1000,
            "maxLength": 4,
        })
    }
}
