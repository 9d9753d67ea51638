//! The only place with names: of objects, labels, annotations, keys, conditions and reasons.
//!
//! What enters: a stack's name and a component. What leaves: strings that Kubernetes accepts. Forbidden here: anything of ours.

mod component;
pub mod image;
mod meaning;
pub mod reason;
mod role;

use std::fmt;

pub use component::Component;
pub use meaning::meaning;
pub use reason::Waiting;
pub use role::{ROLE_ARCHIVE, ROLE_CA, ROLE_CANDIDATE, ROLE_CREDENTIALS, ROLE_LIVE, ROLE_POOLER, Role};

/// The field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "rorun-operator";
/// The field manager that keeps the replicas of a Deployment at the moment an autoscaler takes them over.
pub const HANDOVER_MANAGER: &str = "rorun-operator-replicas";
/// The finalizer of a stack whose data are to be deleted with it.
pub const FINALIZER: &str = "rorun.app/delete-data";
/// The sidecar that pods reach their database by. Users give sidecars of their own the names of what is in them.
pub const PROXY: &str = "rorun-database-proxy";
/// The volume with the certificate that clients show to the database.
pub const CLIENT_VOLUME: &str = "rorun-database-client";
/// The value of `app.kubernetes.io/part-of`.
pub const PART_OF: &str = "rorun";

/// Label keys.
pub mod label {
    /// What runs, e.g. `rorun-api`.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// The name of the stack, on all but data.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// The name of the stack, on data: [`INSTANCE`] is what Argo CD knows the members of an Application by, and what has no
    /// owner would be pruned with them.
    pub const STACK: &str = "rorun.app/stack";
    /// The component, e.g. `api`.
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// Always `rorun`.
    pub const PART_OF: &str = "app.kubernetes.io/part-of";
    /// Always `rorun-operator`: the watches of the operator select by it.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// The version of what runs: the tag of its image.
    pub const VERSION: &str = "app.kubernetes.io/version";
    /// `"true"` on data, which stay when the stack is deleted.
    pub const RETAINED: &str = "rorun.app/retained";
    /// `"true"` on a Secret of the user whose keys are meant for S3, whatever their names.
    pub const S3: &str = "rorun.app/s3";
}

/// Annotation keys.
pub mod annotation {
    /// The prefix of this operator's own annotations. On a stack each of them may be a command.
    pub const PREFIX: &str = "rorun.app/";
    /// A hash of what was applied last, to notice a field that is no longer wanted.
    pub const APPLIED_HASH: &str = "rorun.app/applied-hash";
    /// On a pod template: a hash of the Secrets and `ConfigMaps` that the pods use.
    pub const CONFIG_HASH: &str = "rorun.app/config-hash";
    /// On data: the uid of the stack that uses them.
    pub const STACK_UID: &str = "rorun.app/stack-uid";
    /// On generated credentials: a digest of the values that were made. A user who writes [`ADOPT`] instead says that the
    /// values are the right ones.
    pub const CREDENTIALS_DIGEST: &str = "rorun.app/credentials-digest";
    /// See [`CREDENTIALS_DIGEST`].
    pub const ADOPT: &str = "adopt";
    /// On data, what keeps tools that delete what is not in their manifests from deleting it. Argo CD asks for the first when
    /// it prunes (`Prune=false`) and when it deletes an Application (`Delete=false`), for the second when it compares; Helm,
    /// and Argo CD when it deletes an Application, ask for the third
    /// (source: <https://argo-cd.readthedocs.io/en/stable/user-guide/sync-options/>).
    pub const KEPT: [(&str, &str); 3] = [
        ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
        ("argocd.argoproj.io/compare-options", "IgnoreExtraneous"),
        ("helm.sh/resource-policy", "keep"),
    ];
    /// On an object of AWS Controllers for Kubernetes: what becomes of the resource in AWS when the object is deleted.
    pub const ACK_DELETION_POLICY: &str = "services.k8s.aws/deletion-policy";
    /// Likewise: the region of the resource.
    pub const ACK_REGION: &str = "services.k8s.aws/region";
    /// On a DB instance: how AWS deletes it, if its controller ever asks for that. Of `None` the value is the name of the snapshot.
    pub const RDS_FINAL_SNAPSHOT: [(&str, Option<&str>); 3] = [
        ("rds.services.k8s.aws/skip-final-snapshot", Some("false")),
        ("rds.services.k8s.aws/final-db-snapshot-identifier", None),
        ("rds.services.k8s.aws/delete-automated-backups", Some("false")),
    ];
    /// On the volume of an embedded database: which major version of PostgreSQL wrote its files, which user owns them, and where
    /// they are.
    pub const DATA_FILES: &str = "rorun.app/data-files";
    /// On a stack: its own name, to confirm that data of Production may be deleted.
    pub const CONFIRM_DELETE: &str = "rorun.app/confirm-delete";
    /// On a Deployment: what of its pods an earlier release had wrong and is corrected. Not on its pods, which it does not change.
    pub const CORRECTED: &str = "rorun.app/corrected";
    /// On a stack: the uid of the RorunRestore that may change data of Production.
    pub const CONFIRM_RESTORE: &str = "rorun.app/confirm-restore";
    /// On a stack: the name of a database that a restore left, or name and uid of a Cluster as `<name>/<uid>`, to drop it.
    pub const DISCARD: &str = "rorun.app/discard";
    /// On a stack: the owner whose backups become its own, or `none` for those without an owner.
    pub const ADOPT_BACKUPS: &str = "rorun.app/adopt-backups";
    /// On a stack: back up now. A command: each new value asks once more.
    pub const BACKUP: &str = "rorun.app/backup";
    /// On a stack: carry out a drill now. A command: each new value asks once more.
    pub const VERIFY: &str = "rorun.app/verify";
    /// On a stack: try a migration that failed, or a release that was rolled back, once more. Each new value tries again. The last one
    /// is remembered, so that removing the annotation asks for nothing.
    pub const RETRY: &str = "rorun.app/retry";
    /// On a stack: the hash of the release that may go on.
    pub const APPROVE: &str = "rorun.app/approve";
    /// On a stack: the user name of whoever set [`APPROVE`].
    pub const APPROVED_BY: &str = "rorun.app/approved-by";
    /// On a stack: a moment, e.g. `2026-05-04T18:00:00Z`, before which it does not expire.
    pub const KEEP_UNTIL: &str = "rorun.app/keep-until";
    /// On a stack: the hash of the release that may migrate without a recovery point.
    pub const SKIP_RECOVERY_POINT: &str = "rorun.app/skip-recovery-point";
    /// On a stack: the new value of a field whose change interrupts a managed service, to carry it out. Several are separated by commas.
    pub const CONFIRM_CHANGE: &str = "rorun.app/confirm-change";
    /// On a ControllerRevision: what became of the revision.
    pub const PROGRESS: &str = "rorun.app/progress";
    /// On a Deployment: which revision of the workload its pods are of. Not on its pods, which it does not change.
    pub const REVISION: &str = "rorun.app/revision";
}

/// The name of a child: `<stack>-<component>[-<role>]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// The longest name of a stack, which the CRD enforces: with the longest suffix every name stays below 52 characters, what a
/// CronJob (52, for its Jobs) and a StatefulSet (52, for the label `controller-revision-hash`) allow, and below 63 for Services.
pub const STACK_NAME_MAX: usize = 40;

impl ObjectName {
    /// The child of a component itself, e.g. `shop-api`.
    pub fn of(stack: &str, component: Component) -> Self {
        Self(format!("{stack}-{component}"))
    }

    /// A child of a component with a role of its own, e.g. `shop-database-credentials`.
    pub fn with_role(stack: &str, component: Component, role: Role) -> Self {
        Self(format!("{stack}-{component}-{role}"))
    }

    /// A step of a component, e.g. `shop-backup-0d1f7a2c9e`: the digits tell what the step means.
    pub fn step(stack: &str, component: Component, meaning: &str) -> Self {
        Self(format!("{stack}-{component}-{meaning}"))
    }

    /// The Cluster that a restore recovers, e.g. `shop-db-0d1f7a`. Of the longest name of a stack it has 50 bytes, the most that
    /// CloudNativePG takes.
    pub fn recovered(stack: &str, suffix: &str) -> Self {
        Self(format!("{stack}-db-{suffix}"))
    }

    /// A record of a stack: a ControllerRevision, e.g. `shop-commands-3`.
    pub fn record(stack: &str, of: &str, which: impl fmt::Display) -> Self {
        Self(format!("{stack}-{of}-{which}"))
    }

    /// One of several objects of a component, e.g. `shop-database-replica1`.
    pub fn numbered(stack: &str, component: Component, what: &str, number: i32) -> Self {
        Self(format!("{stack}-{component}-{what}{number}"))
    }

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

/// The component label of records: they are the stack's own, and no component defers them.
pub const RECORD: &str = "record";
/// The key of the `ConfigMap` that names the live Cluster of a database.
pub const LIVE_CLUSTER: &str = "cluster";
/// In the name of a record of handled commands.
pub const COMMANDS: &str = "commands";
/// In the name of a record of a revision.
pub const RELEASE: &str = "release";
/// Whether an object can have this name: what is named otherwise does not exist.
pub fn is_object_name(name: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label =
        |label: &str| label.starts_with(end) && label.ends_with(end) && label.chars().all(|c| end(c) || c == '-');
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for name in ["settings", "a.b-c.d1", "1", &"a".repeat(253)] {
            assert!(is_object_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "../x", "A", "a_b", "-a", "a-", "a..b", "a?b", "ünï", &"a".repeat(254)] {
            assert!(!is_object_name(name), "{name}");
        }
    }

    #[test]
    fn the_longest_names_are_legal() {
        let stack = "s".repeat(STACK_NAME_MAX);
        for component in Component::ALL {
            assert!(ObjectName::of(&stack, component).as_str().len() <= 52, "{component}");
            for role in Role::ALL {
                assert!(ObjectName::with_role(&stack, component, role).as_str().len() <= 63, "{component}-{role}");
            }
        }
        // CloudNativePG makes names of it, and allows so many.
        assert!(ObjectName::of(&stack, Component::Database).as_str().len() <= 50);
    }

    /// The last word tells whether a name has a role, so a name has one stack, one component and one role. `shop` with a role
    /// `api` of a component `x` would else share a name with `shop-x` and its component `api`.
    #[test]
    fn no_two_stacks_share_a_name() {
        let stacks = || {
            let words = Component::ALL.map(Component::as_str).into_iter().chain(Role::ALL.map(Role::as_str));
            let suffixed = words.map(|word| format!("shop-{word}"));
            suffixed.chain(["shop".to_owned(), "shop-x".to_owned()])
        };
        let mut owners = std::collections::BTreeMap::new();
        for stack in stacks() {
            for component in Component::ALL {
                let roles = Role::ALL.map(|role| ObjectName::with_role(&stack, component, role));
                for name in roles.into_iter().chain([ObjectName::of(&stack, component)]) {
                    let other = owners.insert(name.clone(), (stack.clone(), component));
                    assert_eq!(other, None, "{name} is also of {stack} and {component}");
                }
            }
        }
    }
}
