//! The table of kinds.

use k8s_openapi::{
    Metadata,
    api::{
        apps::v1::{ControllerRevision, Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
        networking::v1::Ingress,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Readiness, ack_status,
    barman_cloud::{ObjectStore, ScheduledBackup},
    cloud_native_pg,
    cloud_native_pg::{Cluster, Pooler},
    optional::{ACK_ELASTICACHE, ACK_RDS, ACK_S3, Availability, BARMAN_CLOUD, CLOUD_NATIVE_PG, PROMETHEUS_OPERATOR},
    readiness,
    service_monitor::ServiceMonitor,
};

/// The operator's part in a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator creates, changes and deletes objects of the kind that a stack owns. It only observes those that another
    /// object owns, such as a Job of a CronJob.
    Child,
    /// The operator only observes objects of the kind.
    Observed,
}

/// A kind that the operator creates or observes.
#[derive(Debug)]
pub struct ObjectKind {
    /// The name by which everything in the operator finds the kind: the kind itself where it is of Kubernetes, and `Kind.group`,
    /// as kubectl writes it, where it is of another project, two of which may have a kind of one name.
    pub key: &'static str,
    /// The API group, empty for the core.
    pub group: &'static str,
    /// The version of the group.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The resource name in URLs and RBAC.
    pub plural: &'static str,
    /// The rank in which objects are applied: accounts and settings first, then what else pods need, then what makes pods
    /// and what is about them; the same at once.
    pub rank: u8,
    /// The operator's part in it.
    pub role: Role,
    /// Whether every cluster serves it.
    pub availability: Availability,
    /// Whether an object of the kind is ready, as the API server sends it.
    pub(super) readiness: fn(&Value) -> Readiness,
}

impl PartialEq for ObjectKind {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for ObjectKind {}

impl ObjectKind {
    /// Whether every cluster serves it.
    pub fn is_core(&self) -> bool {
        matches!(self.availability, Availability::Core)
    }

    /// Whether what its objects stand for is in the cluster, and not at a provider.
    pub fn is_in_cluster(&self) -> bool {
        match self.availability {
            Availability::Core => true,
            Availability::Optional(api) => api.in_cluster,
        }
    }

    /// `plural.group`, as kubectl and RBAC name it; the plural alone for the core.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether objects of the kind make pods, so that a change of their spec replaces these.
    pub fn runs_pods(&self) -> bool {
        matches!(self.kind, "Deployment" | "StatefulSet")
    }

    /// Whether pods have connections through objects of the kind, which end with it.
    pub fn has_connections(&self) -> bool {
        *self == *POOLER
    }

    /// `group/version`, or the version alone for the core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

const fn kind(
    (group, version): (&'static str, &'static str),
    kind: &'static str,
    plural: &'static str,
    rank: u8,
    role: Role,
) -> ObjectKind {
    let (availability, readiness) = (Availability::Core, readiness::exists as fn(&Value) -> Readiness);
    ObjectKind { key: kind, group, version, kind, plural, rank, role, availability, readiness }
}

impl ObjectKind {
    /// The same with a rule of its own for when an object is ready; without one it is as soon as it exists.
    const fn ready_by(self, readiness: fn(&Value) -> Readiness) -> Self {
        Self { readiness, ..self }
    }

    /// The same of another project, with its key.
    const fn optional(self, availability: Availability, key: &'static str) -> Self {
        Self { key, availability, ..self }
    }
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const BATCH: (&str, &str) = ("batch", "v1");
const POSTGRESQL: (&str, &str) = ("postgresql.cnpg.io", "v1");
const RDS: (&str, &str) = ("rds.services.k8s.aws", "v1alpha1");
const ELASTICACHE: (&str, &str) = ("elasticache.services.k8s.aws", "v1alpha1");
const S3: (&str, &str) = ("s3.services.k8s.aws", "v1alpha1");

/// Every kind that the operator makes or looks at. Rank 0: what pods name and do not wait for. Rank 1: credentials, before
/// the volume that they open, so that a volume never exists without them. Rank 2: volumes and addresses. Rank 3: what runs.
/// Rank 4: what leads to and scales what runs.
///
/// The kinds of other projects come last: each is watched and written only where the cluster serves it.
pub static KINDS: [ObjectKind; 23] = [
    kind(CORE, "ServiceAccount", "serviceaccounts", 0, Role::Child),
    kind(CORE, "ConfigMap", "configmaps", 0, Role::Child),
    kind(APPS, "ControllerRevision", "controllerrevisions", 0, Role::Child),
    kind(CORE, "Secret", "secrets", 1, Role::Child),
    kind(CORE, "PersistentVolumeClaim", "persistentvolumeclaims", 1, Role::Child).ready_by(readiness::volume),
    kind(CORE, "Service", "services", 1, Role::Child),
    kind(APPS, "StatefulSet", "statefulsets", 2, Role::Child).ready_by(readiness::stateful_set),
    kind(APPS, "Deployment", "deployments", 2, Role::Child).ready_by(readiness::deployment),
    kind(BATCH, "CronJob", "cronjobs", 2, Role::Child),
    kind(BATCH, "Job", "jobs", 2, Role::Child).ready_by(readiness::job),
    kind(("autoscaling", "v2"), "HorizontalPodAutoscaler", "horizontalpodautoscalers", 2, Role::Child),
    kind(("policy", "v1"), "PodDisruptionBudget", "poddisruptionbudgets", 2, Role::Child),
    kind(("networking.k8s.io", "v1"), "Ingress", "ingresses", 2, Role::Child),
    kind(CORE, "Pod", "pods", 3, Role::Observed).ready_by(readiness::pod),
    kind(("monitoring.coreos.com", "v1"), "ServiceMonitor", "servicemonitors", 4, Role::Child)
        .optional(Availability::Optional(&PROMETHEUS_OPERATOR), "ServiceMonitor.monitoring.coreos.com"),
    kind(POSTGRESQL, "Cluster", "clusters", 2, Role::Child)
        .optional(Availability::Optional(&CLOUD_NATIVE_PG), "Cluster.postgresql.cnpg.io")
        .ready_by(cloud_native_pg::cluster),
    kind(POSTGRESQL, "Pooler", "poolers", 2, Role::Child)
        .optional(Availability::Optional(&CLOUD_NATIVE_PG), "Pooler.postgresql.cnpg.io")
        .ready_by(cloud_native_pg::pooler),
    kind(RDS, "DBInstance", "dbinstances", 2, Role::Child)
        .optional(Availability::Optional(&ACK_RDS), "DBInstance.rds.services.k8s.aws")
        .ready_by(ack_status::db_instance),
    kind(ELASTICACHE, "ReplicationGroup", "replicationgroups", 2, Role::Child)
        .optional(Availability::Optional(&ACK_ELASTICACHE), "ReplicationGroup.elasticache.services.k8s.aws")
        .ready_by(ack_status::replication_group),
    kind(ELASTICACHE, "ServerlessCache", "serverlesscaches", 2, Role::Child)
        .optional(Availability::Optional(&ACK_ELASTICACHE), "ServerlessCache.elasticache.services.k8s.aws")
        .ready_by(ack_status::serverless_cache),
    kind(S3, "Bucket", "buckets", 2, Role::Child)
        .optional(Availability::Optional(&ACK_S3), "Bucket.s3.services.k8s.aws")
        .ready_by(ack_status::bucket),
    kind(POSTGRESQL, "ScheduledBackup", "scheduledbackups", 3, Role::Child)
        .optional(Availability::Optional(&CLOUD_NATIVE_PG), "ScheduledBackup.postgresql.cnpg.io"),
    kind(("barmancloud.cnpg.io", "v1"), "ObjectStore", "objectstores", 2, Role::Child)
        .optional(Availability::Optional(&BARMAN_CLOUD), "ObjectStore.barmancloud.cnpg.io"),
];

/// How many of [`KINDS`] are children that every cluster serves.
pub const CHILD_KINDS: usize = 13;

/// How many of [`KINDS`] every cluster serves. They come first.
const KINDS_OF_KUBERNETES: usize = 14;

/// The kind of what makes a Prometheus scrape.
pub static SERVICE_MONITOR: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES];
/// The kind of a DB instance of RDS.
pub static DB_INSTANCE: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES + 3];
/// The kind of a replication group of ElastiCache.
pub static REPLICATION_GROUP: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES + 4];
/// The kind of a serverless cache of ElastiCache.
pub static SERVERLESS_CACHE: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES + 5];
/// The kind of a bucket of S3.
pub static BUCKET: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES + 6];

/// The kind of a PostgreSQL of CloudNativePG.
pub static CLUSTER: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES + 1];

/// The kind of a PgBouncer of CloudNativePG.
pub static POOLER: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES + 2];

/// The kind of base backups by a schedule, of CloudNativePG.
pub static SCHEDULED_BACKUP: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES + 7];

/// The kind of a place for archives, of the barman-cloud plugin.
pub static OBJECT_STORE: &ObjectKind = &KINDS[KINDS_OF_KUBERNETES + 8];

/// A type whose kind is a child in [`KINDS`].
pub trait Child: Serialize {
    /// The entry of the type.
    fn kind() -> &'static ObjectKind;

    /// The metadata.
    fn metadata(&self) -> &ObjectMeta;
}

macro_rules! children {
    ($($index:literal => $kind:ty),+ $(,)?) => {
        $(impl Child for $kind {
            fn kind() -> &'static ObjectKind {
                &KINDS[$index]
            }

            fn metadata(&self) -> &ObjectMeta {
                Metadata::metadata(self)
            }
        })+

        #[cfg(test)]
        const CHILD_NAMES: &[(usize, &str)] = &[$(($index, <$kind as k8s_openapi::Resource>::KIND)),+];
    };
}

children! {
    0 => ServiceAccount,
    1 => ConfigMap,
    2 => ControllerRevision,
    3 => Secret,
    4 => PersistentVolumeClaim,
    5 => Service,
    6 => StatefulSet,
    7 => Deployment,
    8 => CronJob,
    9 => Job,
    10 => HorizontalPodAutoscaler,
    11 => PodDisruptionBudget,
    12 => Ingress,
}

macro_rules! optional_children {
    ($($entry:ident => $kind:ty),+ $(,)?) => {
        $(impl Child for $kind {
            fn kind() -> &'static ObjectKind {
                $entry
            }

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
        })+
    };
}

optional_children! {
    SERVICE_MONITOR => ServiceMonitor,
    CLUSTER => Cluster,
    POOLER => Pooler,
    SCHEDULED_BACKUP => ScheduledBackup,
    OBJECT_STORE => ObjectStore,
}

/// The entry with a key.
pub fn kind_with_key(key: &str) -> Option<&'static ObjectKind> {
    KINDS.iter().find(|entry| entry.key == key)
}

/// The entry of a kind.
pub fn kind_of(group: &str, kind: &str) -> Option<&'static ObjectKind> {
    KINDS.iter().find(|entry| entry.group == group && entry.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_unique_and_children_come_first() {
        let children = KINDS.iter().take_while(|kind| kind.role == Role::Child).count();
        assert_eq!(children, CHILD_KINDS);
        assert_eq!(CHILD_NAMES.len(), CHILD_KINDS);
        for (index, name) in CHILD_NAMES {
            assert_eq!(KINDS[*index].kind, *name);
        }
        for (index, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[index + 1..].iter().all(|other| other.key != kind.key), "{}", kind.key);
        }
    }

    /// So that no kind of another project is taken for one of Kubernetes, nor for that of a third.
    #[test]
    fn a_kind_of_another_project_has_its_group_in_its_key() {
        for kind in &KINDS {
            let expected = match kind.availability {
                Availability::Core => kind.kind.to_owned(),
                Availability::Optional(_) => format!("{}.{}", kind.kind, kind.group),
            };
            assert_eq!(kind.key, expected);
            assert_eq!(kind_with_key(kind.key), Some(kind));
        }
        let own = KINDS.iter().position(|kind| !kind.is_core());
        assert_eq!(own, Some(KINDS_OF_KUBERNETES));
        assert!(KINDS[KINDS_OF_KUBERNETES..].iter().all(|kind| !kind.is_core()));
        let kinds =
            [ServiceMonitor::kind(), Cluster::kind(), Pooler::kind(), ScheduledBackup::kind(), ObjectStore::kind()];
        let expected = ["ServiceMonitor", "Cluster", "Pooler", "ScheduledBackup", "ObjectStore"];
        assert_eq!(kinds.map(|kind| kind.kind), expected);
        let named = [SERVICE_MONITOR, DB_INSTANCE, REPLICATION_GROUP, SERVERLESS_CACHE, BUCKET].map(|kind| kind.kind);
        assert_eq!(named, ["ServiceMonitor", "DBInstance", "ReplicationGroup", "ServerlessCache", "Bucket"]);
    }
}
