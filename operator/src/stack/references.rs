//! Which Secrets and `ConfigMaps` of the user a spec names, so that they can be read before it is judged.

use std::collections::BTreeSet;

use super::workload::config_references;
use crate::{
    api::v1alpha1::{ExternalBucket, RorunStackSpec, SecretKeyReference, WorkloadSpec},
    names::Component,
};

/// The names that a spec mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Names of Secrets.
    pub secrets: BTreeSet<String>,
    /// Names of `ConfigMaps`.
    pub config_maps: BTreeSet<String>,
}

/// Collects the names.
pub fn references(spec: &RorunStackSpec) -> References {
    let mut found = References::default();
    if let Some(external) = spec.database.as_ref().and_then(|database| database.external.as_ref()) {
        found.secrets.insert(external.secret_ref.name.clone());
        found.authority(external.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }
    if let Some(external) = spec.redis.as_ref().and_then(|redis| redis.external.as_ref()) {
        found.secrets.insert(external.secret_ref.name.clone());
        found.authority(external.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }
    found.bucket(spec.bucket.as_ref().and_then(|bucket| bucket.external.as_ref()));
    let destination = spec.backup.as_ref().and_then(|backup| backup.destination.as_ref());
    found.bucket(destination.and_then(|bucket| bucket.external.as_ref()));
    found.workload(Component::Api, Some(&spec.api));
    found.workload(Component::Ocr, spec.ocr.as_ref());
    found.workload(Component::Admin, spec.admin.as_ref());
    if let Some(tls) = spec.ingress.as_ref().and_then(|ingress| ingress.tls.as_ref()) {
        found.secrets.insert(tls.secret_name.clone());
    }
    found
}

impl References {
    fn authority(&mut self, reference: Option<&SecretKeyReference>) {
        self.secrets.extend(reference.map(|reference| reference.name.clone()));
    }

    fn bucket(&mut self, bucket: Option<&ExternalBucket>) {
        let Some(bucket) = bucket else { return };
        self.secrets.insert(bucket.credentials_secret_ref.name.clone());
        self.authority(bucket.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }

    fn workload(&mut self, component: Component, workload: Option<&WorkloadSpec>) {
        let Some(workload) = workload else { return };
        for reference in config_references(component, &workload.env, &workload.env_from) {
            let list = if reference.secret { &mut self.secrets } else { &mut self.config_maps };
            list.insert(reference.name);
        }
    }
}
