//! Whether an object is already as it should be.

use serde_json::{Value, json};

use super::Owner;
use crate::{
    names::annotation,
    objects::{self, ApplyPolicy, DesiredObject, Digest, LiveObject},
};

/// What is to be sent of an object, and how it is seen that it has been.
pub(super) struct Wanted {
    /// The whole object, with namespace, owner and hash.
    pub(super) body: Value,
    /// Of the body without the hash itself; in an annotation, to notice a field that is no longer wanted.
    pub(super) hash: Digest,
    /// Of what the object must have of ours.
    pub(super) owned: Digest,
}

impl Wanted {
    /// Adds what every object has: namespace, owner and the hash of the rest.
    pub(super) fn new(owner: &Owner, object: &DesiredObject) -> Self {
        let mut body = object.body.clone();
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), Value::String(owner.namespace.clone()));
            if object.policy == ApplyPolicy::Own {
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
        let (hash, ours) = (Digest::of(&body), objects::wanted(&body));
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            annotations[annotation::APPLIED_HASH] = Value::String(hash.to_string());
        }
        Self { body, hash, owned: ours }
    }

    /// Whether the object is as it should be.
    pub(super) fn is_there(&self, live: &LiveObject) -> bool {
        live.applied_hash == Some(self.hash) && live.owned == Some(self.owned)
    }
}
