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
#[derive(Debug, PartialEq, Eq)]
pub struct ObjectKind {
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
}

impl ObjectKind {
    /// Whether objects of the kind make pods, so that a change of their spec replaces these.
    pub fn runs_pods(&self) -> bool {
        matches!(self.kind, "Deployment" | "StatefulSet")
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
    ObjectKind { group, version, kind, plural, rank, role }
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const BATCH: (&str, &str) = ("batch", "v1");

/// Every kind that the operator makes or looks at. Rank 0: what pods name and do not wait for. Rank 1: credentials, before
/// the volume that they open, so that a volume never exists without them. Rank 2: volumes and addresses. Rank 3: what runs.
/// Rank 4: what leads to and scales what runs.
pub static KINDS: [ObjectKind; 14] = [
    kind(CORE, "ServiceAccount", "serviceaccounts", 0, Role::Child),
    kind(CORE, "ConfigMap", "configmaps", 0, Role::Child),
    kind(APPS, "ControllerRevision", "controllerrevisions", 0, Role::Child),
    kind(CORE, "Secret", "secrets", 1, Role::Child),
    kind(CORE, "PersistentVolumeClaim", "persistentvolumeclaims", 1, Role::Child),
    kind(CORE, "Service", "services", 1, Role::Child),
    kind(APPS, "StatefulSet", "statefulsets", 2, Role::Child),
    kind(APPS, "Deployment", "deployments", 2, Role::Child),
    kind(BATCH, "CronJob", "cronjobs", 2, Role::Child),
    kind(BATCH, "Job", "jobs", 2, Role::Child),
    kind(("autoscaling", "v2"), "HorizontalPodAutoscaler", "horizontalpodautoscalers", 2, Role::Child),
    kind(("policy", "v1"), "PodDisruptionBudget", "poddisruptionbudgets", 2, Role::Child),
    kind(("networking.k8s.io", "v1"), "Ingress", "ingresses", 2, Role::Child),
    kind(CORE, "Pod", "pods", 3, Role::Observed),
];

/// How many of [`KINDS`] are children.
pub const CHILD_KINDS: usize = 13;

/// A type whose kind is a child in [`KINDS`].
pub trait Child: Serialize + Metadata<Ty = ObjectMeta> {
    /// The entry of the type.
    fn kind() -> &'static ObjectKind;
}

macro_rules! children {
    ($($index:literal => $kind:ty),+ $(,)?) => {
        $(impl Child for $kind {
            fn kind() -> &'static ObjectKind {
                &KINDS[$index]
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
            assert!(KINDS[index + 1..].iter().all(|other| other.kind != kind.kind), "{}", kind.kind);
        }
    }
}
