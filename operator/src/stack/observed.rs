//! What was seen before a reconcile decides: plain data, so that the decision can be tested without a cluster.

use std::collections::BTreeMap;

use crate::names::{Component, Waiting};

/// The decoded members of a Secret or `ConfigMap`.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// What was seen.
#[derive(Clone, Debug, Default, Hash)]
pub struct Observed {
    /// The Secrets that the spec names. `None`: it does not exist.
    pub secrets: BTreeMap<String, Option<SecretData>>,
    /// The `ConfigMaps` that the spec names. `None`: it does not exist.
    pub config_maps: BTreeMap<String, Option<SecretData>>,
    /// The credentials of embedded services.
    pub credentials: BTreeMap<Component, CredentialState>,
    /// The image of the operator itself.
    pub agent_image: String,
    /// What the Deployments say of their corrections.
    pub corrected: BTreeMap<Component, String>,
    /// Whose the stack's backups are. `None`: the namespace may not be read.
    pub backup_owner: Option<String>,
    /// The wish to adopt backups that was not handled yet, as it stands in the annotation.
    pub adopt_backups: Option<String>,
}

/// The state of generated credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CredentialState {
    /// The Secret is there.
    Present(SecretData),
    /// Neither Secret nor volume are there: these were just made up, and are not stored yet.
    Minted(SecretData),
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
