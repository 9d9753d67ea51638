//! A stack as the watch sends it: shared, since what passes it on copies and moves it, and without `managedFields`.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::Arc,
};

use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    api::v1alpha1::{RorunStack, RorunStackSpec, RorunStackStatus},
    names::annotation,
    objects::{Digest, ReceivedMetadata},
};

/// A stack that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The stack.
    pub stack: Arc<RorunStack>,
    /// The digest of its spec.
    pub spec: Digest,
}

impl Seen {
    fn new(stack: RorunStack) -> Result<Self, serde_json::Error> {
        let spec = Digest::of_bytes(&serde_json::to_vec(&stack.spec)?);
        Ok(Self { stack: Arc::new(stack), spec })
    }

    /// A hash of all that a pass reads of a stack: a label that somebody puts on it, or a list that is read again, is no reason
    /// for a pass.
    pub fn what_counts(&self) -> Option<u64> {
        let stack = &self.stack;
        let metadata = &stack.metadata;
        let all = metadata.annotations.iter().flatten();
        let wishes: Vec<_> = all.filter(|(key, _)| key.starts_with(annotation::PREFIX)).collect();
        let mut hashed = Hashed(DefaultHasher::new());
        (metadata.generation, &metadata.finalizers, wishes, metadata.deletion_timestamp.is_some(), self.spec)
            .hash(&mut hashed.0);
        serde_json::to_writer(&mut hashed, &stack.status).ok()?;
        Some(hashed.0.finish())
    }
}

/// Takes what is written into a hash.
struct Hashed(DefaultHasher);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Parts {
            metadata: ReceivedMetadata,
            spec: RorunStackSpec,
            status: Option<RorunStackStatus>,
        }
        let Parts { metadata, spec, status } = Parts::deserialize(deserializer)?;
        let (metadata, _) = metadata.parts();
        Self::new(RorunStack { metadata, spec, status }).map_err(D::Error::custom)
    }
}

impl Resource for Seen {
    type DynamicType = ();
    type Scope = <RorunStack as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        RorunStack::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        RorunStack::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        RorunStack::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        RorunStack::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.stack.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut Arc::make_mut(&mut self.stack).metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_the_stack_without_managed_fields() {
        let mut object = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {
                "name": "shop", "namespace": "n", "uid": "1", "resourceVersion": "7", "generation": 2,
                "labels": {"team": "a"}, "annotations": {"rorun.app/confirm-delete": "shop"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "2"}],
                "finalizers": ["rorun.app/data"],
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
            },
            "spec": {"environment": "Development", "api": {"image": "a"}},
            "status": {"observedGeneration": 1, "conditions": []},
        });
        let expected: RorunStack = serde_json::from_value(object.clone()).unwrap();
        object["metadata"]["managedFields"] =
            json!([{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:suspend": {}}}}]);
        let Seen { stack, .. } = serde_json::from_str(&object.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&*stack).unwrap(), serde_json::to_value(&expected).unwrap());
        assert!(serde_json::from_value::<Seen>(json!({"spec": {}})).is_err(), "a stack has metadata");
    }

    #[test]
    fn only_what_a_pass_reads_counts() {
        let object = json!({
            "metadata": {"name": "shop", "generation": 1, "resourceVersion": "7"},
            "spec": {"environment": "Development", "api": {"image": "a"}},
        });
        let counts = |path: [&str; 2], value: serde_json::Value| {
            let mut object = object.clone();
            object[path[0]][path[1]] = value;
            serde_json::from_value::<Seen>(object).unwrap().what_counts().unwrap()
        };
        let same = counts(["metadata", "name"], json!("shop"));
        for (path, value) in [
            (["metadata", "labels"], json!({"team": "a"})),
            (["metadata", "annotations"], json!({"team": "a"})),
            (["metadata", "resourceVersion"], json!("8")),
        ] {
            assert_eq!(counts(path, value), same, "{path:?}");
        }
        for (path, value) in [
            (["metadata", "annotations"], json!({annotation::CONFIRM_DELETE: "shop"})),
            (["metadata", "annotations"], json!({annotation::ADOPT_BACKUPS: "none"})),
            (["metadata", "generation"], json!(2)),
            (["metadata", "finalizers"], json!(["rorun.app/data"])),
            (["metadata", "deletionTimestamp"], json!("2026-01-02T00:00:00Z")),
            // With the same generation, as after a restore of etcd.
            (["spec", "suspend"], json!(true)),
            (["status", "conditions"], json!([])),
        ] {
            assert_ne!(counts(path, value), same, "{path:?}");
        }
    }
}
