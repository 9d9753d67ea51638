//! Placeholders for what a spec names, to render the objects of a manifest without a cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CredentialState, JobPhase, ManagedService, Observed, ObservedCluster, ObservedJob, SecretData, SecretTraits,
    ingress, pod_template, point_in_time, references, services,
};
use crate::{
    api::v1alpha1::{RorunStack, SecretKeyReference, WorkloadSpec},
    names::Component,
};

/// Placeholders for values that only a cluster has.
#[derive(Clone, Copy, Debug)]
pub struct Placeholders<'a> {
    /// For each password, key and other value of a Secret; it means nothing in a URL.
    pub value: &'a str,
    /// For each certificate authority (PEM).
    pub authority: &'a str,
    /// The image of the operator.
    pub agent_image: &'a str,
}

/// The placeholder of the namespace's uid.
const NAMESPACE_UID: &str = "00000000-0000-4000-8000-000000000000";
/// The placeholder of the uid of a Cluster.
const CLUSTER_UID: &str = "00000000-0000-4000-8000-000000000001";

impl Placeholders<'_> {
    /// Every Secret and `ConfigMap` that the spec names with the keys that it names, and stored credentials. References that are
    /// optional do not exist.
    pub fn observed(self, cr: &RorunStack) -> Observed {
        let name = cr.metadata.name.clone().unwrap_or_default();
        let namespace = cr.metadata.namespace.as_deref().unwrap_or_default();
        let mut values = Values {
            placeholders: self,
            stack: name.clone(),
            secrets: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            managed: BTreeMap::new(),
            jobs: Vec::new(),
        };
        services::placeholders(&name, &cr.spec, &mut values);
        for workload in [Some(&cr.spec.api), cr.spec.ocr.as_ref(), cr.spec.admin.as_ref()].into_iter().flatten() {
            values.configuration(workload);
        }
        values.mounted(cr);
        for tls in ingress::certificates(&cr.spec) {
            values.secret(&tls.secret_name, "tls.key", self.value);
        }
        let named = references(&name, &cr.spec);
        let pick = |names: BTreeSet<String>, mut from: BTreeMap<String, SecretData>| {
            names.into_iter().map(|name| (name.clone(), from.remove(&name))).collect()
        };
        let credentials = services::generated(cr).map(|(component, keys)| {
            let keys = keys.iter();
            let data =
                keys.map(|(key, recipe)| ((*key).to_owned(), recipe.err().unwrap_or(self.value).as_bytes().to_vec()));
            (component, CredentialState::Present(data.collect()))
        });
        let traits = SecretTraits { for_s3: true, too_large: false };
        Observed {
            traits: named.keys.into_keys().map(|name| (name, traits)).collect(),
            secrets: pick(named.secrets, values.secrets),
            config_maps: pick(named.config_maps, values.config_maps),
            credentials: credentials.collect(),
            managed: values.managed,
            jobs: values.jobs,
            agent_image: self.agent_image.to_owned(),
            backup_owner: Some(format!("{NAMESPACE_UID}/{name}")),
            cluster: services::cluster(cr).map(|_| ObservedCluster {
                archives_to: Some(point_in_time::names(&cr.spec, (namespace, &name), CLUSTER_UID).0),
                serves: true,
                uid: CLUSTER_UID.to_owned(),
                can_archive: true,
                ..ObservedCluster::default()
            }),
            ..Observed::default()
        }
    }
}

/// The members of Secrets and `ConfigMaps` so far.
pub(super) struct Values<'a> {
    placeholders: Placeholders<'a>,
    stack: String,
    secrets: BTreeMap<String, SecretData>,
    config_maps: BTreeMap<String, SecretData>,
    managed: BTreeMap<String, ManagedService>,
    jobs: Vec<ObservedJob>,
}

impl<'a> Values<'a> {
    /// The placeholder of a password.
    pub(super) fn value(&self) -> &'a str {
        self.placeholders.value
    }

    /// The name of the stack.
    pub(super) fn stack(&self) -> &str {
        &self.stack
    }

    /// Adds an object of another project.
    pub(super) fn managed(&mut self, name: String, service: ManagedService) {
        self.managed.insert(name, service);
    }

    /// Adds a Job that ended well.
    pub(super) fn done(&mut self, component: Component, name: String) {
        let phase = JobPhase::Complete;
        self.jobs.push(ObservedJob { begun: None, name, component, created: 0, said: None, phase, ended: Some(0) });
    }

    /// Adds a member of a Secret.
    pub(super) fn secret(&mut self, name: &str, key: &str, value: impl Into<Vec<u8>>) {
        self.secrets.entry(name.to_owned()).or_default().insert(key.to_owned(), value.into());
    }

    /// Adds a certificate authority, if a field names one.
    pub(super) fn authority(&mut self, reference: Option<&SecretKeyReference>) {
        if let Some(of) = reference {
            self.certificate(&of.name, of.key.as_deref().unwrap_or("ca.crt"));
        }
    }

    /// Adds a certificate (PEM) under a key.
    pub(super) fn certificate(&mut self, name: &str, key: &str) {
        self.secret(name, key, self.placeholders.authority);
    }

    /// What volumes of `podTemplate` name.
    fn mounted(&mut self, cr: &RorunStack) {
        for of in pod_template::references(&cr.spec).into_values().flatten() {
            let key = of.key.as_deref().unwrap_or("file");
            if of.secret {
                self.secret(&of.name, key, self.value());
            } else {
                self.config_map(&of.name, key);
            }
        }
    }

    fn config_map(&mut self, name: &str, key: &str) {
        self.config_maps.entry(name.to_owned()).or_default().insert(key.to_owned(), b"on".to_vec());
    }

    fn configuration(&mut self, workload: &WorkloadSpec) {
        let value = self.value();
        for source in workload.env.iter().filter_map(|variable| variable.value_from.as_ref()) {
            if let Some(of) = source.secret_key_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.secret(&of.name, &of.key, value);
            }
            if let Some(of) = source.config_map_key_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.config_map(&of.name, &of.key);
            }
        }
        for source in &workload.env_from {
            if let Some(of) = source.secret_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.secret(&of.name, "SETTING", value);
            }
            if let Some(of) = source.config_map_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.config_map(&of.name, "SETTING");
            }
        }
    }
}
