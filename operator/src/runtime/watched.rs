//! A resource as its watch delivers it: shared, because the store, the queue and each reconcile hold it, and without
//! `managedFields`, which are half of its bytes.

use std::{
    borrow::Cow,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::Arc,
};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Resource,
    api::ObjectMeta,
    core::object::{HasSpec, HasStatus},
};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};

use crate::{
    names::annotation,
    objects::{Digest, ReceivedMetadata},
};

/// A custom resource that a control loop reconciles.
pub trait Reconciled:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasSpec<Spec: Serialize + DeserializeOwned>
    + HasStatus<Status: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync>
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    /// The kind, as metrics and watches are named after it.
    const KIND: &'static str;
    /// The name of the controller in metrics: the kind in lower case, as controller-runtime has it.
    const CONTROLLER: &'static str;
    /// Whether `/readyz` needs its watch. A cluster whose definitions are of an earlier release lacks the others, and works.
    const REQUIRED: bool = true;

    /// Puts a resource together from what the API server sent.
    fn from_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
}

/// A resource as its watch delivered it.
#[derive(Clone, Debug)]
pub struct Watched<K> {
    /// The resource.
    pub resource: Arc<K>,
    /// The digest of its spec.
    pub spec: Digest,
}

impl<K: Reconciled> Watched<K> {
    fn new(resource: K) -> Result<Self, serde_json::Error> {
        let spec = Digest::of_bytes(&serde_json::to_vec(resource.spec())?);
        Ok(Self { resource: Arc::new(resource), spec })
    }

    /// A hash of all that a reconcile reads of a resource. An event that leaves it as it was, such as a label of the user's or
    /// another list, causes no reconcile. Every annotation of this operator's prefix takes part, since each may be a command.
    pub fn reconcile_key(&self) -> Option<u64> {
        let metadata = self.resource.meta();
        let annotations = metadata.annotations.iter().flatten();
        let commands: Vec<_> = annotations.filter(|(key, _)| key.starts_with(annotation::PREFIX)).collect();
        let mut hashing = Hashing(DefaultHasher::new());
        let deleting = metadata.deletion_timestamp.is_some();
        (metadata.generation, &metadata.finalizers, commands, deleting, self.spec).hash(&mut hashing.0);
        serde_json::to_writer(&mut hashing, &self.resource.status()).ok()?;
        Some(hashing.0.finish())
    }
}

/// Hashes what is written to it.
struct Hashing(DefaultHasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The members of a custom resource.
#[derive(Deserialize)]
struct Members<Spec, Status> {
    metadata: ReceivedMetadata,
    spec: Spec,
    status: Option<Status>,
}

impl<'de, K: Reconciled> Deserialize<'de> for Watched<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Members { metadata, spec, status } = Members::<K::Spec, K::Status>::deserialize(deserializer)?;
        let (metadata, _) = metadata.parts();
        Self::new(K::from_parts(metadata, spec, status)).map_err(D::Error::custom)
    }
}

impl<K: Reconciled> Resource for Watched<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.resource.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        Arc::make_mut(&mut self.resource).meta_mut()
    }
}
