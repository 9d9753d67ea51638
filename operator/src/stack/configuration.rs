//! The hash of a workload's configuration. The operator hashes one source after the other, so it never needs all of them at once.
//!
//! An upgrade must never change the bytes that are hashed, nor their order: each key and value with its length before it, first
//! the values of the operator, then those that `env` and `envFrom` name, in the order in which they name them.

use sha2::{Digest, Sha256};

use super::{
    Observed, SecretData, Workload,
    workload::{ConfigReference, config_references, hex},
};
use crate::names::{Component, Waiting, reason};

/// How much the Secrets and `ConfigMaps` that `env` and `envFrom` name may hold in all for one stack: more than three times what
/// Linux hands to a process.
pub const CONFIGURATION_MAX: usize = 8 * 1024 * 1024;

/// The configuration of a workload's pods.
#[derive(Debug)]
pub struct ConfigInput {
    /// The workload.
    pub component: Component,
    own: Vec<u8>,
    references: Vec<ConfigReference>,
}

/// The hash so far.
#[derive(Debug)]
pub struct ConfigHasher(Sha256);

impl ConfigInput {
    pub(super) fn new(workload: &Workload, own: Vec<u8>) -> Self {
        let references = config_references(workload.component, &workload.env, &workload.env_from).collect();
        Self { component: workload.component, own, references }
    }

    /// The Secrets and `ConfigMaps` in the order in which they are hashed.
    pub fn references(&self) -> &[ConfigReference] {
        &self.references
    }

    /// What the pods of a component mount, which must exist and is not hashed.
    pub(super) fn of_mounts(component: Component, references: Vec<ConfigReference>) -> Self {
        Self { component, own: Vec::new(), references }
    }

    /// Adds what the pods mount.
    pub(super) fn add_mounts(&mut self, references: Vec<ConfigReference>) {
        self.references.extend(references);
    }

    /// Tells inputs apart.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        add(self.component.as_str().as_bytes());
        add(&self.own);
        for reference in &self.references {
            add(reference.identity().as_bytes());
        }
        digest.finalize().into()
    }

    /// The hash of the operator's own values; the sources are still to be added.
    pub fn hasher(&self) -> ConfigHasher {
        ConfigHasher(Sha256::new_with_prefix(&self.own))
    }

    /// The hash of what was observed as a whole.
    pub(super) fn hash(&self, observed: &Observed) -> Result<String, Waiting> {
        let mut hasher = self.hasher();
        for reference in &self.references {
            let list = if reference.secret { &observed.secrets } else { &observed.config_maps };
            hasher.add(reference, list.get(&reference.name).and_then(Option::as_ref))?;
        }
        Ok(hasher.finish())
    }
}

impl ConfigHasher {
    /// Adds what a reference takes of its source. The error names what is missing.
    pub fn add(&mut self, reference: &ConfigReference, source: Option<&SecretData>) -> Result<(), Waiting> {
        for (key, value) in reference.values(source)? {
            for part in [key.as_bytes(), value] {
                self.0.update((part.len() as u64).to_be_bytes());
                self.0.update(part);
            }
        }
        Ok(())
    }

    /// The hash.
    pub fn finish(self) -> String {
        hex(&self.0.finalize()[..16])
    }
}

/// The reason of a workload whose sources are too large.
pub fn configuration_too_large() -> Waiting {
    let message = format!(
        "the Secrets and ConfigMaps that env, envFrom and items of volumes of this stack name hold more than {} MiB in all, which no process can \
         be given: name fewer of them, or in env.valueFrom just the keys that are needed; large files belong into a volume",
        CONFIGURATION_MAX / 1024 / 1024
    );
    Waiting::new(reason::TOO_LARGE, message)
}
