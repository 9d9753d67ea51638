//! Whether an object is already as it should be.

use serde_json::{Value, json};

use super::Owner;
use crate::{
    names::{Component, annotation, label},
    objects::{self, ApplyPolicy, DesiredObject, Digest, Keyed, LiveObject, Minted, ObjectKey, ObjectKind},
};

/// What is wanted of an object without its body: enough to see that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Which object.
    pub key: ObjectKey,
    /// The component that its labels name; empty for one that no stack has.
    pub component: &'static str,
    /// What may be done with it.
    pub(super) policy: ApplyPolicy,
    /// Of the body without the hash itself; in an annotation, to notice a field that is no longer wanted.
    pub(super) hash: Digest,
    /// Of what the object must have of ours.
    pub(super) owned: Digest,
    /// Of what makes and replaces the pods of a workload.
    pub(super) rolls: Option<Digest>,
}

impl Keyed for Outline {
    fn kind_and_name(&self) -> (&'static str, &str) {
        self.key.kind_and_name()
    }
}

impl Keyed for &Outline {
    fn kind_and_name(&self) -> (&'static str, &str) {
        self.key.kind_and_name()
    }
}

impl Outline {
    /// Whether the object is as it should be.
    pub(super) fn is_there(&self, live: &LiveObject) -> bool {
        live.applied_hash == Some(self.hash) && live.owned == Some(self.owned)
    }
}

/// What is to be sent of an object, and how it is seen that it has been.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) outline: Outline,
    pub(super) kind: &'static ObjectKind,
    /// The whole object, with namespace, owner and hash.
    pub(super) body: Value,
    /// The fewest pods that an autoscaler is to leave it; 0 where none is to scale it.
    pub(super) floor: i64,
}

impl Wanted {
    /// Adds what every object has: namespace, owner and the hash of the rest.
    pub(super) fn new(owner: &Owner, object: DesiredObject) -> Self {
        let DesiredObject { kind, name, policy, mut body } = object;
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), Value::String(owner.namespace.clone()));
            if policy == ApplyPolicy::Own {
                let reference = json!({
                    "apiVersion": owner.api_version,
                    "kind": owner.kind,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": true,
                    "blockOwnerDeletion": true,
                });
                metadata.insert("ownerReferences".to_owned(), json!([reference]));
            }
        }
        Self::sealed(kind, name, policy, body)
    }

    /// The same with other content, and with what that says of itself.
    pub(super) fn with_data(&self, data: Value, minted: Option<Minted>) -> Self {
        let mut body = self.body.clone();
        body["data"] = data;
        if let Some(annotations) = body.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.remove(annotation::APPLIED_HASH);
            annotations.remove(annotation::CREDENTIALS_DIGEST);
            if let Some(Minted::As(digest)) = minted {
                annotations.insert(annotation::CREDENTIALS_DIGEST.to_owned(), Value::String(digest.to_string()));
            }
        }
        let Outline { key, policy, .. } = &self.outline;
        Self::sealed(self.kind, key.name.clone(), *policy, body)
    }

    fn sealed(kind: &'static ObjectKind, name: String, policy: ApplyPolicy, mut body: Value) -> Self {
        let (hash, owned) = (Digest::of(&body), objects::wanted(&body));
        let rolls = kind.runs_pods().then(|| objects::wanted(&objects::pods_of(&mut body.clone())));
        let component = objects::at(&body, "/metadata/labels").and_then(|labels| labels.get(label::COMPONENT));
        let component = component.and_then(Value::as_str).and_then(Component::from_label);
        let component = component.map_or("", Component::as_str);
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            annotations[annotation::APPLIED_HASH] = Value::String(hash.to_string());
        }
        let key = ObjectKey { kind: kind.kind, name };
        Self { outline: Outline { key, component, policy, hash, owned, rolls }, kind, body, floor: 0 }
    }
}
