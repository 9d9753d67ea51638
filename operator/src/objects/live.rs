//! Objects as they are, in the compact form that the caches keep: no body, but a digest of what of it is ours.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::{Digest, ObjectKind, Placed, Pods, Readiness, Received, at, digest, readiness};
use crate::names::{Component, FIELD_MANAGER, annotation, label};

/// How the names of Secrets with generated credentials end.
const CREDENTIALS: &str = "-credentials";

/// The controller of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The kind of the controller.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// An object as it is. A thousand stacks have twenty thousand of these, so each holds only what a decision needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveObject {
    /// The kind.
    pub kind: &'static ObjectKind,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`: a number, and of one resource the greater is the newer
    /// (source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>, KEP-5504).
    pub version: u64,
    /// `metadata.generation`; 0 for kinds that have none.
    pub generation: i64,
    /// The stack that the labels name.
    pub instance: Arc<str>,
    /// The component that the labels name; empty for one that no stack has.
    pub component: &'static str,
    /// The controller.
    pub owner: Option<Arc<Owner>>,
    /// Whether the labels say that this operator made it.
    pub labelled_ours: bool,
    /// `spec.replicas`, if this operator applied it.
    pub applied_replicas: Option<i64>,
    /// Whether the labels say that it is data.
    pub retained: bool,
    /// The uid of the stack that uses it, on data.
    pub stack_uid: Option<Box<str>>,
    /// What a Deployment says of its correction.
    pub corrected: Option<Box<str>>,
    /// The hash of what was applied last.
    pub applied_hash: Option<Digest>,
    /// The digest of what this operator owns of it. `None`: nothing.
    pub owned: Option<Digest>,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is ready, by the rules of its kind.
    pub readiness: Readiness,
    /// The pods of a workload.
    pub pods: Option<Pods>,
    /// What the last container of a pod said when it ended, or when a CronJob last succeeded.
    pub note: Option<Box<str>>,
    /// The members of a Secret that holds data of a stack, as they are stored.
    data: Option<BTreeMap<String, String>>,
}

impl LiveObject {
    /// Takes an object as the API server sends it. `None`: it has no name.
    pub fn new(kind: &'static ObjectKind, received: Received) -> Option<Self> {
        let Received { mut metadata, applied, object } = received;
        let mut object = Value::Object(object);
        let name = metadata.name.take().filter(|name| !name.is_empty())?;
        // The rules of a kind look at these two.
        object["metadata"] = json!({"name": name, "generation": metadata.generation});
        let (readiness, pods) = (readiness::of(kind, &object), readiness::pods(kind, &object));
        let note = readiness::note(kind, &object);
        let marked = |key: &str, value: &str| labelled(&metadata, key) == Some(value);
        let retained = marked(label::RETAINED, "true");
        let replicas = || at(&object, "/spec/replicas").and_then(Value::as_i64);
        let applied_replicas =
            applied.as_ref().filter(|fields| at(fields, "/f:spec/f:replicas").is_some()).and_then(|_| replicas());
        let annotated = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let mut live = Self {
            kind,
            namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
            name: name.into(),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            version: metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0),
            generation: metadata.generation.unwrap_or(0),
            instance: labelled(&metadata, label::INSTANCE).unwrap_or_default().into(),
            component: labelled(&metadata, label::COMPONENT)
                .and_then(Component::from_label)
                .map_or("", Component::as_str),
            owner: metadata.owner_references.as_deref().and_then(controller).map(Arc::new),
            labelled_ours: marked(label::MANAGED_BY, FIELD_MANAGER),
            applied_replicas,
            retained,
            stack_uid: annotated(annotation::STACK_UID).map(Into::into),
            corrected: annotated(annotation::CORRECTED).map(Into::into),
            applied_hash: annotated(annotation::APPLIED_HASH).and_then(Digest::parse),
            owned: None,
            created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            deleting: metadata.deletion_timestamp.is_some(),
            readiness,
            pods,
            note,
            data: None,
        };
        // Also without its label: what opens a volume must be known as long as it is there.
        if kind.kind == "Secret" && (retained || live.name.ends_with(CREDENTIALS)) {
            live.data = Some(members(&object));
        }
        if let Some(fields) = &applied {
            object["metadata"] = [
                ("annotations", texts(metadata.annotations)),
                ("labels", texts(metadata.labels)),
                ("ownerReferences", json!(metadata.owner_references)),
            ]
            .into_iter()
            .collect();
            live.owned = digest::owned(&object, fields);
        }
        Some(live)
    }

    /// As [`Self::new`], from JSON, and with the members of a Secret or `ConfigMap` whatever its labels say.
    pub fn whole(kind: &'static ObjectKind, object: Value) -> Option<Self> {
        let members = members(&object);
        let mut live = Self::new(kind, serde_json::from_value(object).ok()?)?;
        live.data = (!members.is_empty()).then_some(members);
        Some(live)
    }

    /// The members of a Secret that holds data of a stack, as they are stored; of other objects nothing.
    pub fn data(&self) -> Option<&BTreeMap<String, String>> {
        self.data.as_ref()
    }

    /// The identity within the namespace.
    pub fn key(&self) -> super::ObjectKey {
        super::ObjectKey { kind: self.kind.kind, name: self.name.as_ref().to_owned() }
    }

    /// Whether a decision sees no difference to what it was: only the version may be another, as after a change that is none of
    /// ours.
    pub fn says_the_same_as(&mut self, former: &Self) -> bool {
        let version = std::mem::replace(&mut self.version, former.version);
        let same = self == former;
        self.version = version;
        same
    }

    /// What it has in common with another object of its stack is kept once.
    pub fn share_with(&mut self, sibling: &Self) {
        if self.namespace == sibling.namespace {
            self.namespace = sibling.namespace.clone();
        }
        if self.instance == sibling.instance {
            self.instance = sibling.instance.clone();
        }
        if self.owner == sibling.owner {
            self.owner.clone_from(&sibling.owner);
        }
    }
}

/// By which the objects of a stack are sorted.
impl Placed for LiveObject {
    fn place(&self) -> (&'static str, &str) {
        (self.kind.kind, &self.name)
    }
}

fn labelled<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Texts by name, without a copy of each.
fn texts(map: Option<BTreeMap<String, String>>) -> Value {
    map.map_or(Value::Null, |map| map.into_iter().map(|(key, text)| (key, Value::String(text))).collect())
}

fn members(object: &Value) -> BTreeMap<String, String> {
    object.get("data").and_then(|data| serde_json::from_value(data.clone()).ok()).unwrap_or_default()
}

fn controller(owners: &[OwnerReference]) -> Option<Owner> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(Owner { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() })
}

/// The objects of one stack, as they are, sorted by kind and name.
#[derive(Clone, Debug, Default)]
pub struct LiveSet(Vec<Arc<LiveObject>>);

impl LiveSet {
    /// The object of a kind and name.
    pub fn get(&self, key: &super::ObjectKey) -> Option<&LiveObject> {
        self.named(key.kind, &key.name)
    }

    /// The object of a kind and name.
    pub fn named(&self, kind: &'static str, name: &str) -> Option<&LiveObject> {
        let index = self.0.binary_search_by(|live| live.place().cmp(&(kind, name))).ok()?;
        Some(&self.0[index])
    }

    /// Each object.
    pub fn iter(&self) -> impl Iterator<Item = &LiveObject> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Each object of a kind that belongs to a component.
    pub fn of_component<'a>(
        &'a self,
        kind: &'static str,
        component: &'a str,
    ) -> impl Iterator<Item = &'a LiveObject> + 'a {
        self.iter().filter(move |live| live.kind.kind == kind && live.component == component)
    }

    /// Puts an object in its place, instead of one of the same kind and name.
    pub fn put(&mut self, live: Arc<LiveObject>) {
        match self.0.binary_search_by(|there| there.place().cmp(&live.place())) {
            Ok(index) => self.0[index] = live,
            Err(index) => self.0.insert(index, live),
        }
    }

    /// Takes the object of a kind and name out.
    pub fn take(&mut self, kind: &'static str, name: &str) {
        if let Ok(index) = self.0.binary_search_by(|live| live.place().cmp(&(kind, name))) {
            self.0.remove(index);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Arc<LiveObject>> for LiveSet {
    fn from_iter<I: IntoIterator<Item = Arc<LiveObject>>>(objects: I) -> Self {
        let mut set = Self::default();
        objects.into_iter().for_each(|live| set.put(live));
        set
    }
}
