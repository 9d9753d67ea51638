//! Observed objects in the compact form of the caches: no body, but a digest of what this operator owns of it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::{
    CLUSTER, Digest, Fires, Keyed, Minted, ObjectKind, Pods, Readiness, Received, Running, ServerTemplate, Work, at,
    digest, pods_of, readiness, work,
};
use crate::names::{Component, FIELD_MANAGER, annotation, label};

/// How the names of Secrets with generated credentials end.
const CREDENTIALS: &str = "-credentials";

/// By which label an object names its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// By that of all objects, which data of version 0.1.0 have, too.
    Instance,
    /// By that of data.
    Data,
}

/// The controller reference of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ControllerRef {
    /// The kind of the controller.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The request of a PersistentVolumeClaim, or that of a Cluster for each of its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The amount of storage.
    pub size: String,
    /// The StorageClass, which the API server sets if the claim has none. `None`: the cluster had no default class then.
    pub class: Option<String>,
    /// Whether this operator applied the class, so that leaving it out would take it away.
    pub class_applied: bool,
    /// What it says of the files of the database on it: of a Cluster the major version of PostgreSQL.
    pub data_files: Option<String>,
    /// The request for the volumes of a Cluster for its log.
    pub wal: Option<Box<Self>>,
}

impl Claim {
    fn read(kind: &ObjectKind, object: &Value, applied: Option<&Value>, data_files: Option<&str>) -> Option<Box<Self>> {
        if kind == CLUSTER {
            let storage = Self::of_cluster(object, applied, "storage")?;
            let major = at(object, "/status/pgDataImageInfo/majorVersion").and_then(Value::as_i64);
            let wal = Self::of_cluster(object, applied, "walStorage").map(Box::new);
            return Some(Box::new(Self { data_files: major.map(|major| major.to_string()), wal, ..storage }));
        }
        let text = |path| at(object, path).and_then(Value::as_str).map(str::to_owned);
        (kind.kind == "PersistentVolumeClaim").then(|| {
            Box::new(Self {
                size: text("/spec/resources/requests/storage").unwrap_or_default(),
                class: text("/spec/storageClassName"),
                class_applied: applied.is_some_and(|fields| at(fields, "/f:spec/f:storageClassName").is_some()),
                data_files: data_files.map(str::to_owned),
                wal: None,
            })
        })
    }

    fn of_cluster(object: &Value, applied: Option<&Value>, field: &str) -> Option<Self> {
        let storage = object.get("spec")?.get(field)?;
        let text = |name| storage.get(name).and_then(Value::as_str).map(str::to_owned);
        let fields = applied.and_then(|fields| fields.get("f:spec")?.get(format!("f:{field}")));
        Some(Self {
            size: text("size")?,
            class: text("storageClass"),
            class_applied: fields.is_some_and(|fields| fields.get("f:storageClass").is_some()),
            data_files: None,
            wal: None,
        })
    }
}

/// The content of a ControllerRevision: a record that outlasts the process, immutable by the rules of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `revision`: of two records about the same, the greater is the newer.
    pub revision: i64,
    /// `data` as JSON: of ten revisions of a thousand stacks the cache has only the text.
    pub data: Box<str>,
    /// What became of it: the annotation `rorun.app/progress`.
    pub progress: Option<String>,
}

impl Record {
    fn read(kind: &ObjectKind, object: &Value, progress: Option<&str>) -> Option<Self> {
        (kind.kind == "ControllerRevision").then(|| Self {
            progress: progress.map(str::to_owned),
            revision: at(object, "/revision").and_then(Value::as_i64).unwrap_or(0),
            data: object.get("data").map(Value::to_string).unwrap_or_default().into(),
        })
    }
}

/// An observed object. A thousand stacks have twenty thousand of these, so each has only what a decision needs.
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
    pub owner: Option<Arc<ControllerRef>>,
    /// Whether the labels say that this operator made it.
    pub labelled_ours: bool,
    /// `spec.replicas`, if this operator applied it.
    pub applied_replicas: Option<i64>,
    /// Whether the labels say that it is data.
    pub retained: bool,
    /// By which label it names its stack.
    pub named_by: NamedBy,
    /// The uid of the stack that uses it, on data.
    pub stack_uid: Option<Box<str>>,
    /// The correction that a Deployment records.
    pub corrected: Option<Box<str>>,
    /// The revision that the pods of a Deployment are of.
    pub revision: Option<Box<str>>,
    /// The `ReplicaSet` of the template of a Deployment, as far as its controller names it.
    pub replica_set: Option<Box<str>>,
    /// The hash of what was applied last.
    pub applied_hash: Option<Digest>,
    /// The digest of what this operator owns of it. `None`: nothing.
    pub owned: Option<Digest>,
    /// The digest of what this operator owns of the pods of a workload: their template, and their number.
    pub rolls: Option<Digest>,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is ready, by the rules of its kind.
    pub readiness: Readiness,
    /// The pods of a workload.
    pub pods: Option<Pods>,
    /// Whether a container of a pod runs that is none of its init containers.
    pub work: Work,
    /// What the last container of a pod said when it ended, the reason for which a Job failed, why the pods of a Deployment are refused, why an autoscaler does
    /// not scale, the address of an Ingress, or which volume a claim has.
    pub note: Option<Box<str>>,
    /// Since when it is so, in seconds since 1970, of what may end by itself soon: a pod that serves, that has no node, or
    /// that runs and does not serve, and an autoscaler that does not scale; of a Job, when it ended well; and of a Cluster, when this
    /// operator last changed it.
    pub since: Option<i64>,
    /// What the main container of a pod runs.
    pub running: Option<Box<Running>>,
    /// When a CronJob fires.
    pub fires: Option<Box<Fires>>,
    /// The request of a PersistentVolumeClaim, or of a Cluster.
    pub claim: Option<Box<Claim>>,
    /// What the StatefulSet of the embedded database runs.
    pub server: Option<Box<ServerTemplate>>,
    /// The annotation of a Secret with generated credentials about its values.
    pub minted: Option<Minted>,
    /// The content of a ControllerRevision that this operator made.
    pub record: Option<Arc<Record>>,
    /// The members of a Secret that holds data of a stack, as they are stored.
    data: Option<BTreeMap<String, String>>,
}

impl LiveObject {
    /// Takes an object as the API server sends it. `None`: it has no name.
    pub fn new(kind: &'static ObjectKind, received: Received) -> Option<Self> {
        let Received { mut metadata, applied, object } = received;
        let mut object = Value::Object(object);
        let name = metadata.name.take().filter(|name| !name.is_empty())?;
        // The rules of a kind read these.
        object["metadata"] = json!({"name": name, "generation": metadata.generation, "labels": names(&metadata)});
        let (readiness, pods) = ((kind.readiness)(&object), readiness::pods(kind, &object));
        let (changed, applied) = applied.map_or((None, None), |own| (own.changed, Some(own.fields)));
        let since = if kind == CLUSTER { changed } else { readiness::since(kind, &object) };
        let component = component(&metadata);
        let running = Running::read(kind, &object, component);
        let marked = |key: &str, value: &str| labelled(&metadata, key) == Some(value);
        let retained = marked(label::RETAINED, "true");
        let applied_replicas = applied.as_ref().and_then(|fields| applied_replicas(&object, fields));
        let annotated = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let owner = metadata.owner_references.as_deref().and_then(controller).map(Arc::new);
        let mut live = Self {
            kind,
            namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
            name: name.into(),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            version: metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0),
            generation: metadata.generation.unwrap_or(0),
            instance: stack(&metadata, owner.is_some()).into(),
            component,
            owner,
            labelled_ours: marked(label::MANAGED_BY, FIELD_MANAGER),
            applied_replicas,
            retained,
            named_by: if labelled(&metadata, label::STACK).is_some() { NamedBy::Data } else { NamedBy::Instance },
            stack_uid: annotated(annotation::STACK_UID).map(Into::into),
            corrected: annotated(annotation::CORRECTED).map(Into::into),
            revision: annotated(annotation::REVISION).map(Into::into),
            replica_set: readiness::replica_set(kind, &object),
            applied_hash: annotated(annotation::APPLIED_HASH).and_then(Digest::parse),
            owned: None,
            rolls: None,
            created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            deleting: metadata.deletion_timestamp.is_some(),
            readiness,
            pods,
            note: readiness::note(kind, &object),
            claim: Claim::read(kind, &object, applied.as_ref(), annotated(annotation::DATA_FILES)),
            server: ServerTemplate::read(kind.kind, labelled(&metadata, label::COMPONENT).unwrap_or_default(), &object),
            minted: annotated(annotation::CREDENTIALS_DIGEST).map(Minted::parse),
            since,
            work: work::work(kind, &object),
            running,
            fires: readiness::fires(kind, &object, changed).map(Box::new),
            // A StatefulSet's own revisions carry the labels of its pods, and are no records of ours.
            record: applied
                .as_ref()
                .and_then(|_| Record::read(kind, &object, annotated(annotation::PROGRESS)))
                .map(Arc::new),
            data: None,
        };
        // Also without its label: what opens a volume must be known as long as it is there.
        if kind.kind == "Secret" && (retained || live.name.ends_with(CREDENTIALS)) {
            live.data = Some(members(&object));
        }
        if let Some(fields) = &applied {
            live.digest(object, metadata, fields);
        }
        Some(live)
    }

    /// Digests what this operator owns of the object.
    fn digest(&mut self, mut object: Value, metadata: ObjectMeta, fields: &Value) {
        object["metadata"] = [
            ("annotations", texts(metadata.annotations)),
            ("labels", texts(metadata.labels)),
            ("ownerReferences", json!(metadata.owner_references)),
        ]
        .into_iter()
        .collect();
        self.owned = digest::owned(&object, fields);
        if self.kind.runs_pods() {
            self.rolls = digest::owned(&pods_of(&mut object), fields);
        }
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
        super::ObjectKey { kind: self.kind.key, name: self.name.as_ref().to_owned() }
    }

    /// Whether it says itself that it is data of a stack: by the stack's uid, or by labels that name the stack, as those of an
    /// earlier stack of the name do.
    pub fn is_data_of(&self, stack: &str, uid: &str) -> bool {
        self.owner.is_none()
            && (self.stack_uid.as_deref() == Some(uid)
                || (self.labelled_ours && self.retained && *self.instance == *stack))
    }

    /// Whether a reconcile would decide the same for both: only the version may differ, as after a change of fields that this
    /// operator does not own.
    pub fn is_equivalent_to(&mut self, former: &Self) -> bool {
        let version = std::mem::replace(&mut self.version, former.version);
        let same = self == former;
        self.version = version;
        same
    }

    /// Inherits the readiness of before, if its controller has not observed the change yet and the change concerns no field of
    /// its pods that this operator owns: neither a number that an autoscaler sets nor a field beside the template begins a
    /// rollout.
    pub fn inherit_rollout(&mut self, former: &Self) {
        let (Some(now), Some(before)) = (&mut self.pods, former.pods) else { return };
        if self.uid == former.uid && !now.observed && before.current && self.rolls == former.rolls {
            now.current = true;
            self.readiness = former.readiness.clone();
        }
    }

    /// Shares the strings that it has in common with another object of its stack.
    pub fn intern(&mut self, sibling: &Self) {
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

    /// Shares what it runs with another pod that runs the same.
    pub fn intern_running(&mut self, sibling: &Self) {
        if let (Some(ours), Some(theirs)) = (&mut self.running, &sibling.running)
            && ours.image == theirs.image
        {
            ours.image = theirs.image.clone();
        }
    }
}

/// By which the objects of a stack are sorted.
impl Keyed for LiveObject {
    fn kind_and_name(&self) -> (&'static str, &str) {
        (self.kind.key, &self.name)
    }
}

/// The labels by which a pod says whose it is.
fn names(metadata: &ObjectMeta) -> Value {
    [label::NAME, label::COMPONENT].into_iter().map(|key| (key.to_owned(), json!(labelled(metadata, key)))).collect()
}

/// The stack that the labels name. Data have a label of their own for it; version 0.1.0 gave them that of all other objects too.
/// The operator ignores the label of data on an object with a controller, so that a label cannot move it to another stack.
fn stack(metadata: &ObjectMeta, owned: bool) -> &str {
    let [instance, data] = [label::INSTANCE, label::STACK].map(|key| labelled(metadata, key));
    let found = if owned { instance.or(data) } else { data.or(instance) };
    found.unwrap_or_default()
}

/// The component that the labels name.
fn component(metadata: &ObjectMeta) -> &'static str {
    labelled(metadata, label::COMPONENT).and_then(Component::from_label).map_or("", Component::as_str)
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

fn applied_replicas(object: &Value, fields: &Value) -> Option<i64> {
    at(fields, "/f:spec/f:replicas")?;
    at(object, "/spec/replicas").and_then(Value::as_i64)
}

fn controller(owners: &[OwnerReference]) -> Option<ControllerRef> {
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(ControllerRef { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::objects::{kind_of, terminating};

    fn data(metadata: &Value) -> LiveObject {
        let object = json!({"metadata": metadata, "spec": {"volumeName": "pv-7"}});
        LiveObject::whole(kind_of("", "PersistentVolumeClaim").unwrap(), object).unwrap()
    }

    fn labels(stack: &str) -> Value {
        json!({"app.kubernetes.io/managed-by": "rorun-operator", "rorun.app/retained": "true", stack: "shop"})
    }

    #[rstest]
    #[case::by_its_label(json!({"labels": labels("rorun.app/stack")}), true)]
    #[case::by_that_of_0_1_0(json!({"labels": labels("app.kubernetes.io/instance")}), true)]
    #[case::by_uid(json!({"annotations": {"rorun.app/stack-uid": "1"}}), true)]
    #[case::of_another_uid(json!({"annotations": {"rorun.app/stack-uid": "2"}}), false)]
    #[case::nothing(json!({}), false)]
    #[case::not_data(json!({"labels": {"app.kubernetes.io/managed-by": "rorun-operator", "rorun.app/stack": "shop"}}), false)]
    #[case::of_another_tool(json!({"labels": {"rorun.app/retained": "true", "rorun.app/stack": "shop"}}), false)]
    #[case::with_an_owner(json!({"labels": labels("rorun.app/stack"), "ownerReferences": [
        {"apiVersion": "v1", "kind": "K", "name": "o", "uid": "1", "controller": true}]}), false)]
    fn data_say_whose_they_are(#[case] mut metadata: Value, #[case] ours: bool) {
        metadata["name"] = json!("shop-redis");
        assert_eq!(data(&metadata).is_data_of("shop", "1"), ours);
        // `shop` is where the name of the other begins.
        assert!(!data(&metadata).is_data_of("shop-redis", "3"));
    }

    #[test]
    fn what_is_said_of_a_claim_that_goes_names_its_volume() {
        let waiting = terminating(&data(&json!({"name": "shop-redis"})));
        assert_eq!(waiting.reason, "VolumeTerminating");
        assert!(
            waiting.message.contains("kubectl patch persistentvolume pv-7 --patch '{\"spec\":"),
            "{}",
            waiting.message
        );
    }
}
