//! Whether an object is already as it is desired.

use serde_json::{Value, json};

use super::Owner;
use crate::{
    names::{Component, annotation, label},
    objects::{self, ApplyPolicy, DesiredObject, Digest, LiveObject, Minted, ObjectKey, ObjectKind},
};

/// An object that is missing, or is not as it is desired: what an apply would write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which object.
    pub key: ObjectKey,
    /// The component that its labels name; empty for one that no stack has.
    pub component: &'static str,
    /// The hash of what would be applied.
    pub hash: Digest,
}

/// A desired object as it is sent, with the digests that it is compared by.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: ObjectKey,
    pub(super) kind: &'static ObjectKind,
    /// The component that its labels name; empty for one that no stack has.
    pub(super) component: &'static str,
    /// What the apply step may do with it.
    pub(super) policy: ApplyPolicy,
    /// Of the body without the hash itself; in an annotation, to notice a field that is no longer desired.
    pub(super) hash: Digest,
    /// Of the fields that the object in the cluster must have from this operator.
    pub(super) owned: Digest,
    /// Of the fields that make and replace the pods of a workload.
    pub(super) rolls: Option<Digest>,
    /// The whole object, with namespace, owner and hash.
    pub(super) body: Value,
    /// The fewest pods that an autoscaler is to leave it; 0 where none is to scale it.
    pub(super) floor: i64,
}

impl Wanted {
    /// Whether the object in the cluster is as it is desired.
    pub(super) fn matches(&self, live: &LiveObject) -> bool {
        live.applied_hash == Some(self.hash) && live.owned == Some(self.owned)
    }

    /// What an apply would write.
    pub(super) fn difference(self) -> Difference {
        Difference { key: self.key, component: self.component, hash: self.hash }
    }

    /// Adds the members that every object has: namespace, owner and the hash of the rest.
    pub(super) fn new(owner: &Owner, object: DesiredObject) -> Self {
        let DesiredObject { kind, name, policy, mut body } = object;
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), Value::String(owner.namespace.clone()));
            if policy.is_owned() {
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

    /// The same object with other data, and with the annotation that describes them.
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
        Self::sealed(self.kind, self.key.name.clone(), self.policy, body)
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
        let key = ObjectKey { kind: kind.key, name };
        Self { key, kind, component, policy, hash, owned, rolls, body, floor: 0 }
    }
}
