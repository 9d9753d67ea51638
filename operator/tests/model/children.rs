//! The three children of the core's model, and what is wanted of them.

use std::sync::Arc;

use rorun_operator::objects::{ApplyPolicy, DesiredObject, KINDS, ObjectKey, ObjectKind, kind_of};
use serde_json::{Value, json};

use crate::interned::Interned;

/// The namespace of the children.
pub const NAMESPACE: &str = "n";
/// The uid of the stack.
pub const UID: &str = "stack-uid";

/// A child: generated credentials, the volume that they open, and a `ConfigMap` that one generation does not want.
pub const SECRET: usize = 0;
pub const VOLUME: usize = 1;
pub const CONFIG: usize = 2;

/// An object, or none.
pub type Slot = Option<Interned>;

/// What is known of the credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// What the Secret holds or will hold.
    Known(String),
    /// The volume is there and the Secret is not.
    Lost,
}

/// The kind of a child.
pub fn kind(child: usize) -> &'static ObjectKind {
    let name = ["Secret", "PersistentVolumeClaim", "ConfigMap"][child];
    kind_of("", name).unwrap_or(&KINDS[0])
}

/// The key of a child.
pub fn key(child: usize) -> ObjectKey {
    ObjectKey { kind: kind(child).kind, name: "s-child".to_owned() }
}

/// What a generation wants. Without credentials there are neither Secret nor volume, as the component is held.
pub fn desired(generation: u8, credentials: &Credentials) -> Vec<DesiredObject> {
    let metadata = |retained: bool| {
        let mut metadata = json!({"name": "s-child", "labels": {
            "app.kubernetes.io/managed-by": "rorun-operator", "app.kubernetes.io/instance": "s",
            "app.kubernetes.io/component": "redis"}});
        if retained {
            let labels = metadata["labels"].as_object_mut().expect("labels");
            labels.remove("app.kubernetes.io/instance");
            labels.insert("rorun.app/stack".to_owned(), json!("s"));
            labels.insert("rorun.app/retained".to_owned(), json!("true"));
            metadata["annotations"] = json!({"rorun.app/stack-uid": UID});
        }
        metadata
    };
    let object = |child: usize, policy, body: Value| DesiredObject {
        kind: kind(child),
        name: "s-child".to_owned(),
        policy,
        body: typed(child, body),
    };
    let mut objects = Vec::new();
    if let Credentials::Known(token) = credentials {
        let secret = json!({"metadata": metadata(true), "data": {"password": token}});
        let volume = json!({"metadata": metadata(true), "spec": {"size": format!("{}Gi", 1 + generation.min(1))}});
        objects.push(object(SECRET, ApplyPolicy::CreateOnce, secret));
        objects.push(object(VOLUME, ApplyPolicy::Retain, volume));
    }
    if generation < 2 {
        let config = json!({"metadata": metadata(false), "data": {"generation": generation.to_string()}});
        objects.push(object(CONFIG, ApplyPolicy::Own, config));
    }
    objects
}

fn typed(child: usize, mut body: Value) -> Value {
    body["apiVersion"] = json!("v1");
    body["kind"] = json!(kind(child).kind);
    body
}

/// The object.
pub fn read(slot: Slot) -> Arc<Value> {
    slot.map_or_else(|| Arc::new(Value::Null), Interned::value)
}

/// Whether watches and caches show it.
pub fn labelled(slot: Slot) -> bool {
    read(slot)["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "rorun-operator"
}

/// Whether it is somebody else's.
pub fn is_foreign(slot: Slot) -> bool {
    read(slot)["data"]["foreign"] == "yes"
}

/// The credentials that it holds.
pub fn token(slot: Slot) -> Option<String> {
    read(slot)["data"]["password"].as_str().map(str::to_owned)
}
