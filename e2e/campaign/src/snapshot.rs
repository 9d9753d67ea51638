//! The state of a namespace, and what of it is the same whenever nothing goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use k8s_openapi::ByteString;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

/// What an operator makes, by group, version and kind.
pub(super) const KINDS: [(&str, &str, &str, &str); 12] = [
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "Secret", "secrets"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("", "v1", "Service", "services"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("apps", "v1", "Deployment", "deployments"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
    ("rorun.app", "v1alpha1", "RorunStack", "rorunstacks"),
];

/// Every leaf of every object: `Kind/name/path/to/it`, and its value.
pub(super) type Leaves = BTreeMap<String, Value>;

/// Reads all objects of a namespace. Its name is taken out of texts, since no two runs have the same.
pub(super) async fn take(client: &Client, namespace: &str) -> Result<Leaves> {
    let mut leaves = Leaves::new();
    for (group, version, kind, plural) in KINDS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        for object in api.list(&ListParams::default()).await?.items {
            let name = object.metadata.name.clone().unwrap_or_default();
            let object = unnamed(kind, &object, namespace)?;
            spread(&format!("{kind}/{name}"), object, &mut leaves);
        }
    }
    Ok(leaves)
}

/// An object without the name of its namespace, in its texts and in the values of a Secret: no two runs have the same.
pub(super) fn unnamed(kind: &str, object: &DynamicObject, namespace: &str) -> Result<Value> {
    const UNNAMED: &str = "NAMESPACE";
    let mut object: Value = serde_json::from_str(&serde_json::to_string(object)?.replace(namespace, UNNAMED))?;
    let data = object["data"].as_object_mut().filter(|_| kind == "Secret").into_iter().flatten();
    for (_, value) in data {
        let decoded = serde_json::from_value::<ByteString>(value.clone()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes.0).ok()).filter(|text| text.contains(namespace));
        if let Some(text) = text {
            *value = Value::String(text.replace(namespace, UNNAMED));
        }
    }
    Ok(object)
}

/// Members that are another in each run: who set a field and when, and the moments of a release.
const MOMENTS: [&str; 9] = [
    "managedFields",
    "approvedAt",
    "migratedAt",
    "migrationSeconds",
    "migrationStartedAt",
    "rolledBackAt",
    "servedAt",
    "since",
    "startedAt",
];

/// Every leaf of a value, by its path.
pub(super) fn spread(path: &str, value: Value, leaves: &mut Leaves) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                // Who set a field, and when, is not what is asked about.
                if !MOMENTS.contains(&name.as_str()) {
                    spread(&format!("{path}/{name}"), member, leaves);
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.into_iter().enumerate() {
                spread(&format!("{path}/{index}"), item, leaves);
            }
        }
        leaf => drop(leaves.insert(path.to_owned(), leaf)),
    }
}

/// What is the same in every run in which nothing went wrong.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    leaves: Leaves,
    masked: BTreeSet<String>,
}

impl Reference {
    /// Learns from runs: what differs between them says nothing.
    pub(super) fn learn(runs: &[Leaves]) -> Reference {
        let Some((first, others)) = runs.split_first() else { return Reference::default() };
        let paths: BTreeSet<&String> = runs.iter().flat_map(Leaves::keys).collect();
        let differs = |path: &&&String| others.iter().any(|other| other.get(**path) != first.get(**path));
        let masked = paths.iter().filter(differs).map(|path| (*path).clone()).collect();
        Reference { leaves: first.clone(), masked }
    }

    /// Where a run ended otherwise; nothing if it did not.
    pub(super) fn differences(&self, leaves: &Leaves) -> Vec<String> {
        let paths: BTreeSet<&String> = self.leaves.keys().chain(leaves.keys()).collect();
        let different = paths.into_iter().filter(|path| !self.masked.contains(*path));
        let different = different.filter(|path| self.leaves.get(*path) != leaves.get(*path));
        let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), ToString::to_string);
        different
            .map(|path| format!("{path}: {}, not {}", shown(leaves.get(path)), shown(self.leaves.get(path))))
            .collect()
    }

    /// As [`Reference::differences`], without how often and when objects were changed: a stack that was changed often has
    /// other generations and times than a new one.
    pub(super) fn differences_in_content(&self, leaves: &Leaves) -> Vec<String> {
        let counts = ["eneration: ", "Time: ", "Timestamp: "];
        let mut differences = self.differences(leaves);
        differences.retain(|difference| !counts.iter().any(|count| difference.contains(count)));
        differences
    }

    /// How many leaves are compared, and how many are not.
    pub fn size(&self) -> (usize, usize) {
        (self.leaves.len(), self.masked.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn leaves(value: Value) -> Leaves {
        let mut leaves = Leaves::new();
        spread("x", value, &mut leaves);
        leaves
    }

    #[test]
    fn what_differs_between_clean_runs_is_not_compared_and_all_else_is() {
        let run =
            |uid: &str, image: &str| leaves(json!({"uid": uid, "spec": {"images": [image]}, "managedFields": [uid]}));
        let reference = Reference::learn(&[run("a", "i:1"), run("b", "i:1"), run("c", "i:1")]);
        assert_eq!(reference.size(), (2, 1));
        assert!(reference.differences(&run("d", "i:1")).is_empty());
        assert_eq!(reference.differences(&run("d", "i:2")), [r#"x/spec/images/0: "i:2", not "i:1""#]);
        assert_eq!(reference.differences(&leaves(json!({"uid": "d", "spec": {}}))).len(), 2);
    }

    #[test]
    fn how_often_and_when_something_changed_is_no_difference_in_content() {
        let run = |generation: u64, image: &str| {
            leaves(json!({"generation": generation, "lastTransitionTime": generation, "image": image}))
        };
        let reference = Reference::learn(&[run(1, "i:1"), run(1, "i:1")]);
        assert_eq!(reference.differences(&run(2, "i:1")).len(), 2);
        assert!(reference.differences_in_content(&run(2, "i:1")).is_empty());
        assert_eq!(reference.differences_in_content(&run(2, "i:2")).len(), 1);
    }
}
