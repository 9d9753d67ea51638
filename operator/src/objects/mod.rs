//! Objects without their Kubernetes types: the desired ones ([`DesiredObject`]), the observed ones ([`LiveObject`]), and the one
//! table of kinds ([`KINDS`]) from which watches, apply order, prune and RBAC are derived.
//!
//! Forbidden here: components, the client.

mod ack;
mod ack_rules;
mod ack_status;
mod barman_cloud;
mod cloud_native_pg;
mod digest;
mod kinds;
mod last_words;
mod live;
mod live_set;
mod minted;
mod optional;
mod quantity;
mod readiness;
mod received;
mod running;
mod server_template;
mod service_monitor;
mod work;

use std::fmt;

pub use ack::{
    AckObject, Bucket, BucketEncryption, BucketLocation, BucketSpec, BucketVersioning, CacheUsageLimits, DbInstance,
    DbInstanceSpec, EncryptionDefault, EncryptionRule, OwnershipControls, OwnershipRule, PublicAccessBlock,
    ReplicationGroup, ReplicationGroupSpec, SecretKey, ServerlessCache, ServerlessCacheSpec, UsageLimit,
};
pub use ack_rules::*;
pub use ack_status::{AckEndpoint, AckNote, AckRestorable};
pub use barman_cloud::{
    BARMAN_CLOUD_PLUGIN, BarmanConfiguration, BaseBackups, ClusterNote, Compression, ObjectStore, ObjectStoreSpec,
    Plugin, PluginName, RecoveredFrom, RecoveryWindow, S3Credentials, ScheduledBackup, ScheduledBackupSpec, Sidecar,
    StoreNote,
};
pub use cloud_native_pg::{
    Bootstrap, CLUSTER_LABEL, Certificates, Cluster, ClusterAffinity, ClusterSpec, ClusterStorage, ExternalCluster,
    HIBERNATION, InitDb, PgBouncer, Pooler, PoolerSpec, PostgresConfiguration, Recovery, RecoveryTarget,
};
pub use digest::{Digest, wanted};
pub use kinds::{
    BUCKET, CHILD_KINDS, CLUSTER, Child, DB_INSTANCE, KINDS, OBJECT_STORE, ObjectKind, POOLER, REPLICATION_GROUP, Role,
    SCHEDULED_BACKUP, SERVERLESS_CACHE, SERVICE_MONITOR, kind_of, kind_with_key,
};
pub use live::{Claim, ControllerRef, LiveObject, NamedBy, Record};
pub use live_set::LiveSet;
pub use minted::Minted;
pub use optional::{Availability, OPTIONAL_APIS, OptionalApi};
pub use readiness::{Fires, Pods, Readiness, pods_refused, rollout_begins, terminating};
pub use received::{Received, ReceivedMetadata};
pub use running::{Image, Running};
pub use server_template::ServerTemplate;
pub use service_monitor::{Endpoint as ScrapedEndpoint, ServiceMonitor, ServiceMonitorSpec};
pub use work::Work;

use serde_json::Value;

use crate::names::label;

/// What the apply step may do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyPolicy {
    /// Owned by the stack: created, kept as desired, pruned, and garbage collected with the stack.
    Own,
    /// As [`Self::Own`], of a record whose content was decided by what it held before: changed only while it is as it was observed.
    Recorded,
    /// Data: created and kept as desired, never pruned, without an owner reference.
    Retain,
    /// Data that somebody may have changed since: created, and changed only while they are as they were observed, by their version.
    Guarded,
    /// Data that are generated once: later only labels and annotations are applied, and the content as it was observed.
    CreateOnce,
    /// Owned by the stack and immutable: a step (Job) or a record (ControllerRevision). The apply step creates the object, never
    /// patches it, and prunes it once no desired object has its name. Its name says what it means, so another meaning is
    /// another object.
    RunOnce,
}

impl ApplyPolicy {
    /// Whether the stack is the controller of the object.
    pub fn is_owned(self) -> bool {
        matches!(self, Self::Own | Self::Recorded | Self::RunOnce)
    }
}

/// A desired object: the apply step adds namespace, owner and hash.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredObject {
    /// The kind.
    pub kind: &'static ObjectKind,
    /// `metadata.name`.
    pub name: String,
    /// What the apply step may do.
    pub policy: ApplyPolicy,
    /// The whole object.
    pub body: Value,
}

impl DesiredObject {
    /// An object that the stack owns.
    pub fn own<K: Child>(object: &K) -> Self {
        Self::new(object, ApplyPolicy::Own)
    }

    /// As [`Self::own`], with another policy.
    pub fn new<K: Child>(object: &K, policy: ApplyPolicy) -> Self {
        let kind = K::kind();
        let mut body = serde_json::to_value(object).unwrap_or_default();
        prune_empty(&mut body);
        if let Some(members) = body.as_object_mut().filter(|_| !kind.is_core()) {
            members.insert("apiVersion".to_owned(), Value::String(kind.api_version()));
            members.insert("kind".to_owned(), Value::String(kind.kind.to_owned()));
        }
        let name = object.metadata().name.clone().unwrap_or_default();
        Self { kind, name, policy, body }
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> &str {
        at(&self.body, "/metadata/labels")
            .and_then(|labels| labels.get(key))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The component that it belongs to.
    pub fn component(&self) -> &str {
        self.label(label::COMPONENT)
    }

    /// The identity within the namespace.
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: self.kind.key, name: self.name.clone() }
    }
}

/// An object that has an identity within a namespace.
pub trait Keyed {
    /// The key of the kind, and the name.
    fn kind_and_name(&self) -> (&'static str, &str);
}

impl Keyed for DesiredObject {
    fn kind_and_name(&self) -> (&'static str, &str) {
        (self.kind.key, &self.name)
    }
}

/// The identity of an object within a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The key of the kind, which is unique in [`KINDS`] and holds the group of one of another project.
    pub kind: &'static str,
    /// `metadata.name`.
    pub name: String,
}

impl Keyed for ObjectKey {
    fn kind_and_name(&self) -> (&'static str, &str) {
        (self.kind, &self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.to_lowercase(), self.name)
    }
}

/// The part of a workload that creates and replaces its pods, taken out of it.
pub(crate) fn pods_of(workload: &mut Value) -> Value {
    let mut take = |path: &str| workload.pointer_mut(path).map(Value::take).unwrap_or_default();
    serde_json::json!({"spec": {"replicas": take("/spec/replicas"), "template": take("/spec/template")}})
}

/// What a path such as `/spec/replicas` leads to, none of whose names has a slash or a tilde: as [`Value::pointer`], which makes
/// two strings of each name.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(value, |value, name| value.get(name))
}

/// Members whose empty object is not the same as none: an empty selector selects everything, and none selects nothing.
const MEANINGFUL: [&str; 5] = ["emptyDir", "securityContext", "labelSelector", "namespaceSelector", "podSelector"];

/// Takes out `null` and empty members: under server-side apply they would be owned, and the server does not store them.
pub(crate) fn prune_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune_empty);
            // Most have none, and taking out walks a map at twice the cost of looking.
            if map.iter().any(|(key, member)| is_empty(key, member)) {
                map.retain(|key, member| !is_empty(key, member));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(prune_empty),
        _ => {}
    }
}

fn is_empty(key: &str, member: &Value) -> bool {
    match member {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(inner) => inner.is_empty() && !MEANINGFUL.contains(&key),
        _ => false,
    }
}
