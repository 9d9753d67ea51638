//! An amount of a resource, checked by a pattern at admission.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An amount as Kubernetes writes it: `250m`, `512Mi`, `10Gi`, `2`.
///
/// Kept as the user typed it, so that nothing shows as drift.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(pub KubeQuantity);

/// The grammar of `resource.Quantity` without a sign: every amount of ours is positive
/// (source: k8s.io/apimachinery, pkg/api/resource/quantity.go).
const PATTERN: &str = r"^([0-9]+|[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+\.)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$";

/// The same of amounts above nothing: the API server refuses a volume of none.
const ABOVE_NOTHING: &str =
    r"^(0*[1-9][0-9]*(\.[0-9]*)?|0*\.0*[1-9][0-9]*)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$";

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": PATTERN,
            // A pattern says nothing of numbers.
            "minimum": 0,
            "maxLength": 32,
        })
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(KubeQuantity(text.to_owned()))
    }
}

/// CPU and memory of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler reserves, by resource name, e.g. `{cpu: 250m, memory: 256Mi}`. Defaults for each to its limit, else to the
    /// component's default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// The most that the container may use, by resource name, e.g. `{memory: 512Mi}`. Defaults to no limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
}

/// The volume of an embedded service. It outlives the stack, unless `deletionPolicy` says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// The size of the volume, e.g. `10Gi`. It can grow if the StorageClass allows it, and never shrink. Defaults to `10Gi`,
    /// and to `1Gi` for Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = ABOVE_NOTHING, "minimum" = 1))]
    pub size: Option<Quantity>,
    /// The StorageClass of the volume. Cannot change once the volume exists. Defaults to the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}
