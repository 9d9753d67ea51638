//! Which lists are maps or sets to server-side apply, and which maps are one value, as the Kubernetes API and the definition
//! of `RorunStack` declare it for what the operator writes.

use serde_json::{Value, json};

use super::fields::Step;

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// As one value.
    Atomic,
    /// Each value once.
    Set,
    /// By keys, with what an entry that lacks one has instead.
    Map(&'static [(&'static str, &'static str)]),
}

/// The lists and maps of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    custom: bool,
}

const NAME: ListType = ListType::Map(&[("name", "")]);

impl Schema {
    /// That of a resource in a group.
    pub fn of(group: &str) -> Self {
        Self { custom: group == "rorun.app" }
    }

    /// Takes out what the server does not store when it is empty.
    pub fn drop_empty(self, object: &mut Value) {
        let empty = |value: &Value| *value == json!({}) || *value == json!([]);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|_, value| !empty(value));
        }
        if let Some(object) = object.as_object_mut().filter(|_| !self.custom) {
            object.retain(|name, value| name != "data" || !empty(value));
        }
    }

    /// How the list at a path is merged.
    pub fn list(self, path: &[Step]) -> ListType {
        let (parent, name) = ends(path);
        match name {
            "finalizers" if parent == "metadata" => ListType::Set,
            "ownerReferences" if parent == "metadata" => ListType::Map(&[("uid", "")]),
            "conditions" => ListType::Map(&[("type", "")]),
            "env" | "pullSecrets" | "components" if self.custom => NAME,
            _ if self.custom => ListType::Atomic,
            "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => NAME,
            "volumeMounts" => ListType::Map(&[("mountPath", "")]),
            "ports" if parent == "spec" => ListType::Map(&[("port", ""), ("protocol", "TCP")]),
            "ports" => ListType::Map(&[("containerPort", ""), ("protocol", "TCP")]),
            "topologySpreadConstraints" => ListType::Map(&[("topologyKey", ""), ("whenUnsatisfiable", "")]),
            _ => ListType::Atomic,
        }
    }

    /// Whether the map at a path is one value.
    pub fn is_atomic_map(self, path: &[Step]) -> bool {
        let (parent, name) = ends(path);
        match path.last() {
            Some(Step::Key(_)) => matches!(name, "ownerReferences" | "imagePullSecrets"),
            _ if self.custom => false,
            _ if parent == "nodeAffinity" => name.starts_with("required"),
            _ => matches!(
                name,
                "selector"
                    | "labelSelector"
                    | "nodeSelector"
                    | "secretKeyRef"
                    | "configMapKeyRef"
                    | "fieldRef"
                    | "resourceFieldRef"
            ),
        }
    }
}

/// The names of the last two fields; entries of lists have none.
fn ends(path: &[Step]) -> (&str, &str) {
    let mut names = path.iter().rev().filter_map(|step| match step {
        Step::Field(name) => Some(name.as_str()),
        Step::Key(_) | Step::Value(_) => None,
    });
    let name = names.next().unwrap_or_default();
    (names.next().unwrap_or_default(), name)
}
