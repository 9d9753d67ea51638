//! The Secrets and `ConfigMaps` that a spec names, so that the operator reads them before it validates the spec.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConfigReference, database, ingress, pod_template, services, workload::config_references};
use crate::{
    api::v1alpha1::{RorunStackSpec, SecretKeyReference, WorkloadSpec},
    names::Component,
};

/// The names that a spec mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Names of Secrets.
    pub secrets: BTreeSet<String>,
    /// Names of `ConfigMaps`.
    pub config_maps: BTreeSet<String>,
    /// The keys that the operator itself reads, by Secret. Of a Secret without any it needs to know only that it is there.
    pub keys: BTreeMap<String, BTreeSet<String>>,
}

/// Collects the names of the spec of a stack.
pub fn references(stack: &str, spec: &RorunStackSpec) -> References {
    let mut found = References::default();
    services::references(stack, spec, &mut found);
    found.workload(Component::Api, Some(&spec.api));
    found.workload(Component::Ocr, spec.ocr.as_ref());
    found.workload(Component::Admin, spec.admin.as_ref());
    found.contents(pod_template::references(spec).into_values().flatten());
    for tls in ingress::certificates(spec) {
        found.secret(&tls.secret_name, []);
    }
    found
}

impl References {
    /// Adds the Secrets of a Cluster of CloudNativePG.
    pub fn cluster(&mut self, name: &str) {
        database::add_references(name, self);
    }

    /// Adds the names that another spec mentions.
    pub fn add(&mut self, other: Self) {
        self.secrets.extend(other.secrets);
        self.config_maps.extend(other.config_maps);
        for (name, keys) in other.keys {
            self.keys.entry(name).or_default().extend(keys);
        }
    }

    /// Adds a Secret with the keys that the operator reads.
    pub(super) fn secret<const N: usize>(&mut self, name: &str, keys: [&str; N]) {
        self.secrets.insert(name.to_owned());
        self.keys.entry(name.to_owned()).or_default().extend(keys.map(str::to_owned));
    }

    /// Adds the Secret of a certificate authority.
    pub(super) fn authority(&mut self, reference: Option<&SecretKeyReference>) {
        if let Some(of) = reference {
            self.secret(&of.name, [of.key.as_deref().unwrap_or("ca.crt")]);
        }
    }

    fn workload(&mut self, component: Component, workload: Option<&WorkloadSpec>) {
        let Some(workload) = workload else { return };
        self.contents(config_references(component, &workload.env, &workload.env_from));
    }

    /// Adds objects that are read as a whole, or only have to exist.
    fn contents(&mut self, references: impl Iterator<Item = ConfigReference>) {
        for reference in references {
            let list = if reference.secret { &mut self.secrets } else { &mut self.config_maps };
            list.insert(reference.name);
        }
    }
}
