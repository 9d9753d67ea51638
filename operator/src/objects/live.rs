//! Objects as they are, in the compact form that the caches keep.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ObjectKey, ObjectKind, Pods, Readiness, readiness};
use crate::names::{FIELD_MANAGER, annotation, label};

/// The controller of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The kind of the controller.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// An object as it is. Of the body only what a comparison may need is kept, as text, without managed fields and status.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct LiveObject {
    /// The kind.
    pub kind: &'static ObjectKind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`; 0 for kinds that have none.
    pub generation: i64,
    /// The stack that the labels name.
    pub instance: String,
    /// The component that the labels name.
    pub component: String,
    /// The controller.
    pub owner: Option<Owner>,
    /// Whether the labels say that this operator made it.
    pub labelled_ours: bool,
    /// Whether this operator applied `spec.replicas`.
    pub applies_replicas: bool,
    /// Whether the labels say that it is data.
    pub retained: bool,
    /// The uid of the stack that uses it, on data.
    pub stack_uid: Option<String>,
    /// The hash of what was applied last.
    pub applied_hash: Option<String>,
    /// `metadata.creationTimestamp`, which sorts by time.
    pub created: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is ready, by the rules of its kind.
    pub readiness: Readiness,
    /// The pods of a workload.
    pub pods: Option<Pods>,
    /// What the last container of a pod said when it ended, or when a CronJob last succeeded.
    pub note: Option<Box<str>>,
    body: Box<str>,
}

impl LiveObject {
    /// Takes an object as the API server sends it. `None`: it has no name.
    pub fn new(kind: &'static ObjectKind, mut object: Value) -> Option<Self> {
        let readiness = readiness::of(kind, &object);
        let pods = readiness::pods(kind, &object);
        let note = readiness::note(kind, &object);
        let applies_replicas = kind.kind == "Deployment" && applies_replicas(&object);
        let metadata = object.get_mut("metadata")?.as_object_mut()?;
        metadata.remove("managedFields");
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let in_map = |map: &str, key: &str| {
            metadata.get(map).and_then(|map| map.get(key)).and_then(Value::as_str).map(str::to_owned)
        };
        let owner = metadata.get("ownerReferences").and_then(Value::as_array).and_then(|owners| controller(owners));
        let mut live = Self {
            kind,
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            generation: metadata.get("generation").and_then(Value::as_i64).unwrap_or(0),
            instance: in_map("labels", label::INSTANCE).unwrap_or_default(),
            component: in_map("labels", label::COMPONENT).unwrap_or_default(),
            owner,
            labelled_ours: in_map("labels", label::MANAGED_BY).as_deref() == Some(FIELD_MANAGER),
            applies_replicas,
            retained: in_map("labels", label::RETAINED).as_deref() == Some("true"),
            stack_uid: in_map("annotations", annotation::STACK_UID),
            applied_hash: in_map("annotations", annotation::APPLIED_HASH),
            created: text("creationTimestamp"),
            deleting: metadata.contains_key("deletionTimestamp"),
            readiness,
            pods,
            note,
            body: Box::default(),
        };
        if kind.role == super::Role::Child {
            let top = object.as_object_mut()?;
            top.remove("status");
            live.body = object.to_string().into_boxed_str();
        }
        (!live.name.is_empty()).then_some(live)
    }

    /// The object as the API server sent it, without managed fields and status. Empty for kinds that are only observed.
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A member of `data` of a Secret or `ConfigMap`, as it is stored.
    pub fn data(&self) -> BTreeMap<String, String> {
        self.body().get("data").and_then(|data| serde_json::from_value(data.clone()).ok()).unwrap_or_default()
    }

    /// The identity within the namespace.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: self.kind.kind, name: self.name.clone() }
    }
}

fn applies_replicas(object: &Value) -> bool {
    let managed = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    managed.into_iter().flatten().any(|entry| {
        entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)
            && entry.get("operation").and_then(Value::as_str) == Some("Apply")
            && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some()
    })
}

fn controller(owners: &[Value]) -> Option<Owner> {
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
    let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Owner { kind: text("kind"), name: text("name"), uid: text("uid") })
}

/// The objects of one stack, as they are.
#[derive(Clone, Debug, Default)]
pub struct LiveSet(BTreeMap<ObjectKey, std::sync::Arc<LiveObject>>);

impl LiveSet {
    /// The object of a kind and name.
    pub fn get(&self, key: &ObjectKey) -> Option<&LiveObject> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// The object of a kind and name.
    pub fn named(&self, kind: &'static str, name: &str) -> Option<&LiveObject> {
        self.get(&ObjectKey { kind, name: name.to_owned() })
    }

    /// Each object.
    pub fn iter(&self) -> impl Iterator<Item = &LiveObject> {
        self.0.values().map(AsRef::as_ref)
    }

    /// Each object of a kind that belongs to a component.
    pub fn of_component<'a>(
        &'a self,
        kind: &'static str,
        component: &'a str,
    ) -> impl Iterator<Item = &'a LiveObject> + 'a {
        self.iter().filter(move |live| live.kind.kind == kind && live.component == component)
    }
}

impl FromIterator<std::sync::Arc<LiveObject>> for LiveSet {
    fn from_iter<I: IntoIterator<Item = std::sync::Arc<LiveObject>>>(objects: I) -> Self {
        Self(objects.into_iter().map(|live| (live.key(), live)).collect())
    }
}
