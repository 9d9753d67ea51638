//! What was seen before a reconcile decides: plain data, so that the decision can be tested without a cluster.

use std::collections::BTreeMap;

use crate::names::{Component, Waiting};

/// The decoded members of a Secret or `ConfigMap`.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// What was seen.
#[derive(Clone, Debug, Default, Hash)]
pub struct Observed {
    /// The Secrets that the spec names, with the keys that are needed. `None`: it does not exist.
    pub secrets: BTreeMap<String, Option<SecretData>>,
    /// What else is known of Secrets.
    pub traits: BTreeMap<String, SecretTraits>,
    /// The `ConfigMaps` that the spec names, where their content is needed. `None`: it does not exist.
    pub config_maps: BTreeMap<String, Option<SecretData>>,
    /// The hashes of what workloads are configured with, or what is missing of it. Of a workload that is not in here, `secrets`
    /// and `config_maps` hold the whole content of what it names.
    pub configuration: BTreeMap<Component, Result<String, Waiting>>,
    /// The credentials of embedded services.
    pub credentials: BTreeMap<Component, CredentialState>,
    /// The volumes of embedded services that exist.
    pub volumes: BTreeMap<Component, ObservedVolume>,
    /// The image of the operator itself.
    pub agent_image: String,
    /// What the Deployments say of their corrections.
    pub corrected: BTreeMap<Component, String>,
    /// Whose the stack's backups are. `None`: the namespace may not be read.
    pub backup_owner: Option<String>,
    /// The wish to adopt backups that was not handled yet, as it stands in the annotation.
    pub adopt_backups: Option<String>,
}

/// A volume that exists, and what can be changed of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObservedVolume {
    /// How much its PersistentVolumeClaim asks for.
    pub size: String,
    /// Its StorageClass.
    pub class: Option<String>,
    /// Whether the operator applied the class, so that it must go on to do so.
    pub class_applied: bool,
    /// Whether the class can expand volumes. `None`: that was not asked, or may not be.
    pub expandable: Option<bool>,
    /// What its annotation says of the files of the database on it.
    pub data_files: Option<String>,
    /// The server that runs on it, of a volume whose annotation says nothing.
    pub server: Option<RunningServer>,
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

/// What is known of a Secret beside its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SecretTraits {
    /// Its owner says by the label `rorun.app/s3` that it holds keys of S3, whatever they are called.
    pub for_s3: bool,
    /// The values of the keys that are needed are too large to be kept, and so are left out.
    pub too_large: bool,
}

/// The state of generated credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialState {
    /// The Secret is there.
    Present(SecretData),
    /// Neither Secret nor volume are there: these were just made up, and are not stored yet.
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

/// What was found out about a service by talking to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It was not asked yet.
    Pending,
    /// It answers. The note is what the user should know, e.g. that versioning is not supported.
    Answers {
        /// One sentence, or nothing.
        note: Option<String>,
    },
    /// It does not.
    Failed(Waiting),
}
