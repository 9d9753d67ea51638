//! The inputs of a reconcile, as plain data, so that a test needs no cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{BackupRequest, Clusters, Hibernation, ManagedService, RestoreRequest, Revision};
use crate::{
    api::v1alpha1::KeptDatabaseStatus,
    contract::ServiceFacts,
    names::{Component, Waiting, annotation},
};

/// The decoded members of a Secret or `ConfigMap`.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// The inputs of a reconcile.
#[derive(Clone, Debug, Default, Hash)]
pub struct Observed {
    /// The Secrets that the spec names, with the keys that are needed. `None`: it does not exist.
    pub secrets: BTreeMap<String, Option<SecretData>>,
    /// Facts about Secrets beside their values.
    pub traits: BTreeMap<String, SecretTraits>,
    /// The `ConfigMaps` that the spec names, where their content is needed. `None`: it does not exist.
    pub config_maps: BTreeMap<String, Option<SecretData>>,
    /// The hashes of what workloads are configured with, or what is missing of it. Of a workload that is not in here, `secrets`
    /// and `config_maps` hold the whole content of what it names.
    pub configuration: BTreeMap<Component, Result<String, Waiting>>,
    /// The credentials of embedded services.
    pub credentials: BTreeMap<Component, CredentialState>,
    /// The volumes of embedded services that exist, and that of the servers of a Cluster.
    pub volumes: BTreeMap<Component, ObservedVolume>,
    /// What the objects of other projects that hold data of the stack say of the services that they stand for, by name.
    pub managed: BTreeMap<String, ManagedService>,
    /// The Cluster of another project that is the database, if it exists. Its volume is among the others.
    pub cluster: Option<ObservedCluster>,
    /// The Clusters of the stack, of which one is the database.
    pub clusters: Clusters,
    /// The image of the operator itself.
    pub agent_image: String,
    /// An admission policy makes sure of the name in `rorun.app/approved-by`.
    pub approvals_verified: bool,
    /// The corrections that the Deployments record.
    pub corrected: BTreeMap<Component, String>,
    /// The same of the Deployments of candidates, by the workload.
    pub corrected_candidates: BTreeMap<Component, String>,
    /// The owner of the stack's backups. `None`: the operator may not read the namespace.
    pub backup_owner: Option<String>,
    /// The value of the annotation that adopts backups, unless a backup run has handled it.
    pub adopt_backups: Option<String>,
    /// The annotations of the stack that this operator reads: those under `rorun.app/`.
    pub annotations: BTreeMap<String, String>,
    /// The newest record of commands that were obeyed. `None`: none ever was.
    pub handled: Option<Handled>,
    /// The Jobs that the stack itself owns: its steps. Those of its CronJob are not in here.
    pub jobs: Vec<ObservedJob>,
    /// The name of a Job of the backup that runs, whoever made it. One whose pod cannot start does not.
    pub dump: Option<String>,
    /// The RorunBackups of the stack that are not over, the oldest first.
    pub backups: Vec<BackupRequest>,
    /// The RorunRestores of the stack that are not over, the oldest first.
    pub restores: Vec<RestoreRequest>,
    /// The databases that restores left, as the last status tells.
    pub kept: Vec<KeptDatabaseStatus>,
    /// Components that need a kind of another project which cannot be used now, and why.
    pub missing_apis: BTreeMap<Component, Waiting>,
    /// The releases of the stack, and what runs of them.
    pub releases: ObservedReleases,
    /// The address that the status of the Ingress tells, while a smoke test is to ask by it.
    pub ingress_address: Option<String>,
    /// Whether the stack is to hibernate at this moment.
    pub hibernation: Hibernation,
}

impl Observed {
    /// The value that `rorun.app/retry` has, or had when it was removed: taking a command away asks for nothing. `None`: it never had one.
    pub fn retry(&self) -> Option<&str> {
        let remembered = || self.handled.as_ref()?.commands.get(annotation::RETRY).map(|command| &command.value);
        self.annotations.get(annotation::RETRY).or_else(remembered).map(String::as_str)
    }
}

/// The releases of a stack, and what runs of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObservedReleases {
    /// The revisions that the cluster keeps.
    pub revisions: Vec<Revision>,
    /// The Deployments of the workloads.
    pub workloads: BTreeMap<Component, ObservedWorkload>,
    /// The Deployments of candidates, by the workload.
    pub candidates: BTreeMap<Component, ObservedWorkload>,
    /// What keeps any release from becoming ready: a service is down.
    pub excuse: Option<Excuse>,
    /// An operator that kept no revisions has rolled out the images of the spec.
    pub adoptable: bool,
    /// The hashes of what the workloads of the revision that served last are configured with, as `configuration` has them for
    /// the spec.
    pub configuration: BTreeMap<Component, Result<String, Waiting>>,
}

impl ObservedReleases {
    /// The revision that began to serve last.
    pub fn served(&self) -> Option<&Revision> {
        let served = self.revisions.iter().filter(|revision| revision.progress.served_at.is_some());
        served.max_by_key(|revision| (revision.progress.served_at, revision.number))
    }
}

/// What keeps a release from going on though it is not at fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Excuse {
    /// The component that it is about. `None`: all of them.
    pub component: Option<Component>,
    /// What is amiss.
    pub waiting: Waiting,
}

impl Excuse {
    /// What is amiss with a component.
    pub fn of(component: Component, waiting: Waiting) -> Self {
        Self { component: Some(component), waiting }
    }
}

/// The Deployment of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObservedWorkload {
    /// The revision that its template is of.
    pub revision: Option<String>,
    /// Every pod is of its template.
    pub rolled_out: bool,
    /// It has no pods since the operator applied that it has none.
    pub asleep: bool,
    /// There are pods of it, also such as are being stopped.
    pub has_pods: bool,
    /// The digests that its ready pods run of the image that the spec asks for. `None` among them: that of a node which has the
    /// image from no registry.
    pub digests: BTreeSet<Option<String>>,
    /// What keeps its pods from serving, and the release is at fault.
    pub trouble: Option<Waiting>,
    /// What keeps its pods from serving, and the release is not at fault: the cluster has no room for them, say.
    pub excuse: Option<Waiting>,
    /// What the pods of before a rollout say, or all of them where none goes on, if there are some and none of them serves.
    pub before: Option<Waiting>,
}

/// The commands that were obeyed, and the last value of [`annotation::RETRY`], also where there was nothing to try again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Handled {
    /// The number of the record; of two, the greater is the newer.
    pub revision: i64,
    /// The last command of each annotation.
    pub commands: BTreeMap<String, Command>,
}

/// A command that was obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// The value of the annotation.
    pub value: String,
    /// How many commands of the annotation were obeyed, this one included: a value that comes back is another command.
    pub count: i64,
}

/// A Job that the stack owns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObservedJob {
    /// `metadata.name`.
    pub name: String,
    /// The component that asked for it.
    pub component: Component,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: i64,
    /// What its newest pod said at its end, if it is complete, goes on trying, or did not begin.
    pub said: Option<String>,
    /// Whether what it is for has begun: `true` while a container of its newest pod runs that is none of its init containers, `false`
    /// when that pod ended before one was made, so that the command of a migration never ran. `None`: nothing tells.
    pub begun: Option<bool>,
    /// How far it is.
    pub phase: JobPhase,
    /// When it ended, in seconds since 1970.
    pub ended: Option<i64>,
}

/// How far a Job is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobPhase {
    /// Its pod runs, or is about to.
    Running,
    /// Its pod cannot start before a user acts.
    CannotStart,
    /// It succeeded.
    Complete,
    /// It failed, in the words of its condition.
    Failed(String),
}

/// A volume that exists, and what can be changed of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObservedVolume {
    /// The uid of its PersistentVolumeClaim.
    pub uid: String,
    /// How much its PersistentVolumeClaim asks for.
    pub size: String,
    /// Its StorageClass.
    pub class: Option<String>,
    /// Whether the operator applied the class, so that it must go on to do so.
    pub class_applied: bool,
    /// Whether the class can expand volumes. `None`: the operator did not need to know, or may not read the class.
    pub expandable: Option<bool>,
    /// What its annotation says of the files of the database on it.
    pub data_files: Option<String>,
    /// The server that runs on it, of a volume whose annotation says nothing.
    pub server: Option<RunningServer>,
}

/// A Cluster of another project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObservedCluster {
    /// The volume of each server for its log. `None`: it has none of its own.
    pub wal: Option<ObservedVolume>,
    /// Whether it serves, and what leads to it, in the words of its own operator.
    pub serves: bool,
    /// Its uid, which tells it from others that have the name before or after it.
    pub uid: String,
    /// It archives, or what it would archive to is there: before, the plugin would stop it.
    pub can_archive: bool,
    /// The folder that its log is archived to, in the words of its own operator.
    pub archives_to: Option<String>,
    /// The names of the base backups by a schedule that are there.
    pub base_backups: Vec<String>,
}

/// What the StatefulSet of the embedded database runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunningServer {
    /// The image.
    pub image: String,
    /// The user of its processes.
    pub user: Option<i64>,
    /// Where the volume is mounted.
    pub mount: String,
    /// Whether it serves.
    pub ready: bool,
}

/// Facts about a Secret beside its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SecretTraits {
    /// Its owner says by the label `rorun.app/s3` that it holds keys of S3, whatever they are called.
    pub for_s3: bool,
    /// The values of the required keys are too large for the cache, so they are absent.
    pub too_large: bool,
}

/// The state of generated credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialState {
    /// The Secret is there.
    Present(SecretData),
    /// Neither Secret nor volume exist: the operator generated these just now, and has not stored them yet.
    Minted(SecretData),
    /// The Secret is there, and its values are not those that were made.
    Changed,
    /// The Secret is there, and nothing says that its values are those that were made.
    Unconfirmed,
    /// The volume is there and the Secret is not.
    Lost,
    /// Likewise, and no stack of this name has made the volume.
    VolumeTaken,
    /// Likewise, and the volume is being deleted.
    VolumeTerminating,
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The operator has not probed the service yet.
    Pending,
    /// The service answers. The note is for the user, e.g. that versioning is not supported.
    Answers {
        /// One sentence, or nothing.
        note: Option<String>,
        /// Its answers take long.
        slow: bool,
        /// What it says of itself. `None`: an earlier process asked it.
        facts: Option<Arc<ServiceFacts>>,
    },
    /// The service does not answer.
    Failed(Waiting),
}

impl Probe {
    /// A service that answers, of which nothing else is known.
    pub fn answers(note: Option<String>) -> Self {
        Self::Answers { note, slow: false, facts: None }
    }
}
