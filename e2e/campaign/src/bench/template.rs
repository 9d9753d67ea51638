//! The stack of the benchmarks, and the objects that the operator makes of it: by its own `render`, once, with other names
//! put in, so that whoever is compared with it writes the same bytes.

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use rorun_e2e::engine::process::Run;
use rorun_e2e::scenarios::kit::operator_binary;
use serde_json::{Map, Value, json};

use super::services::Services;

/// Stacks in one namespace: they share the Secrets of their services.
const PER_NAMESPACE: usize = 100;
/// Names that the rendered objects have before they get others, of the same length.
const NAME: &str = "stack-00000";
const NAMESPACE: &str = "bench-000";
/// The label by which the operator finds its objects, and one of the same length that it does not look for.
const OURS: &str = r#""app.kubernetes.io/managed-by":"rorun-operator""#;
const NOT_OURS: &str = r#""app.kubernetes.io/managed-by":"floor-operator""#;

/// A stack by its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct StackName {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

impl StackName {
    /// The stack of a number. Numbers of one group, such as the stacks of one benchmark, are told apart by a letter.
    pub(super) fn new(group: char, number: usize) -> StackName {
        let namespace = format!("ben{group}h-{:03}", number / PER_NAMESPACE);
        StackName { namespace, name: format!("stack-{number:05}") }
    }
}

/// The stack and its objects.
#[derive(Clone, Debug)]
pub(super) struct Template {
    spec: Map<String, Value>,
    /// What `render` printed, an object each.
    rendered: Vec<String>,
}

impl Template {
    /// Asks the operator what it would make.
    pub(super) fn render(services: &Services) -> Result<Template> {
        let workload = |image: &str| json!({"image": image, "autoscaling": {"minReplicas": 2}});
        let mut spec = Map::new();
        spec.insert("environment".to_owned(), json!("Development"));
        spec.insert("image".to_owned(), json!({"registry": "registry.example.com"}));
        for (component, image) in [("api", "rorun-api:1"), ("ocr", "rorun-ai-service:1"), ("admin", "rorun-admin:1")] {
            spec.insert(component.to_owned(), workload(image));
        }
        spec.extend(services.spec().map(|(name, value)| (name.to_owned(), value)));
        let hosts = json!({"host": format!("{NAME}.example.com"), "adminHost": format!("admin-{NAME}.example.com")});
        spec.insert("ingress".to_owned(), hosts);
        spec.insert("backup".to_owned(), json!({}));
        let rendered = render(&spec)?;
        Ok(Template { spec, rendered })
    }

    /// How many objects a stack becomes.
    pub(super) fn children(&self) -> usize {
        self.rendered.len()
    }

    /// A stack.
    pub(super) fn stack(&self, of: &StackName) -> Value {
        let stack = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": self.spec,
        });
        serde_json::from_str(&named(&stack.to_string(), of)).unwrap_or_default()
    }

    /// Its objects, labelled as the operator's.
    pub(super) fn objects(&self, of: &StackName) -> Vec<Value> {
        self.rendered.iter().filter_map(|text| serde_json::from_str(&named(text, of)).ok()).collect()
    }

    /// Its objects, with a label that the operator does not look for.
    pub(super) fn foreign_objects(&self, of: &StackName) -> Vec<Value> {
        let foreign = self.rendered.iter().map(|text| named(text, of).replace(OURS, NOT_OURS));
        foreign.filter_map(|text| serde_json::from_str(&text).ok()).collect()
    }

    /// The paths of lists of all that a stack becomes, and of the stacks.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let stack = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack"});
        let objects = self.rendered.iter().filter_map(|text| serde_json::from_str(text).ok());
        for object in objects.chain([stack]) {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            let root = if version.contains('/') { "/apis" } else { "/api" };
            let path = format!("{root}/{version}/{}", resource(&object).plural);
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// A stack with another spec.
    pub(super) fn with(&self, change: &Value) -> Result<Template> {
        let mut spec = Value::Object(self.spec.clone());
        merge(&mut spec, change);
        let Value::Object(spec) = spec else { anyhow::bail!("a spec is an object") };
        let rendered = render(&spec)?;
        Ok(Template { spec, rendered })
    }

    /// The bucket of the stack, as its spec names it.
    pub(super) fn bucket(&self) -> &Value {
        &self.spec["bucket"]["external"]
    }

    /// How many objects another spec makes different.
    pub(super) fn changed_by(&self, change: &Value) -> Result<usize> {
        let changed = self.with(change)?;
        Ok(changed.rendered.iter().filter(|object| !self.rendered.contains(object)).count())
    }
}

fn render(spec: &Map<String, Value>) -> Result<Vec<String>> {
    let stack = json!({
        "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
        "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": spec,
    });
    let render = Run::new(operator_binary()?, ["render", "--output=json", "-"]).input(stack.to_string());
    let printed = render.output().context("failed to render the stack of the benchmarks")?;
    let objects = printed.lines().map(|line| {
        let mut object: Value = serde_json::from_str(line)?;
        object["metadata"]["namespace"] = json!(NAMESPACE);
        // The operator adds both; the values are of the right length.
        if object["metadata"]["labels"]["rorun.app/retained"].is_null() {
            object["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "name": NAME, "controller": true,
                "blockOwnerDeletion": true, "uid": "00000000-0000-0000-0000-000000000000",
            }]);
        }
        object["metadata"]["annotations"]["rorun.app/applied-hash"] = json!("0".repeat(24));
        Ok(object.to_string())
    });
    objects.collect()
}

/// Puts another name and namespace in.
fn named(text: &str, of: &StackName) -> String {
    text.replace(NAME, &of.name).replace(NAMESPACE, &of.namespace)
}

/// Changes what a merge patch names.
fn merge(value: &mut Value, patch: &Value) {
    if let (Some(members), Some(changes)) = (value.as_object_mut(), patch.as_object()) {
        for (key, change) in changes {
            merge(members.entry(key.clone()).or_insert(Value::Null), change);
        }
    } else {
        *value = patch.clone();
    }
}

/// The resource that an object is one of.
pub(super) fn resource(object: &Value) -> ApiResource {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")))
}

/// Where an object is written to.
pub(super) fn api_of(client: &Client, object: &Value) -> Api<DynamicObject> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    Api::namespaced_with(client.clone(), namespace, &resource(object))
}

/// The order in which the operator writes kinds: lower first, the same at once.
pub(super) fn rank(object: &Value) -> u8 {
    match object["kind"].as_str().unwrap_or_default() {
        "ServiceAccount" | "ConfigMap" => 0,
        "Secret" | "PersistentVolumeClaim" | "Service" => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_length_of_those_that_they_replace() {
        for (group, number) in [('c', 0), ('x', 99), ('c', 4999)] {
            let of = StackName::new(group, number);
            assert_eq!((of.name.len(), of.namespace.len()), (NAME.len(), NAMESPACE.len()), "{of:?}");
        }
        assert_eq!(StackName::new('c', 0), StackName { namespace: NAMESPACE.to_owned(), name: NAME.to_owned() });
        assert_eq!(OURS.len(), NOT_OURS.len());
    }

    #[test]
    fn a_change_is_merged_and_resources_are_found() {
        let mut value = json!({"a": {"b": 1, "c": 2}});
        merge(&mut value, &json!({"a": {"b": 3}, "d": [1]}));
        assert_eq!(value, json!({"a": {"b": 3, "c": 2}, "d": [1]}));
        let ingress = resource(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress"}));
        assert_eq!((ingress.group.as_str(), ingress.plural.as_str()), ("networking.k8s.io", "ingresses"));
        let secret = resource(&json!({"apiVersion": "v1", "kind": "Secret"}));
        assert_eq!((secret.group.as_str(), secret.plural.as_str()), ("", "secrets"));
    }
}
