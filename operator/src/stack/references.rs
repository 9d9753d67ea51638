//! Which Secrets and `ConfigMaps` of the user a spec names, so that they can be read before it is judged.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The keys that the operator itself reads, by Secret. Of a Secret without any it needs to know only that it is there.
    pub keys: BTreeMap<String, BTreeSet<String>>,
}

/// Collects the names.
pub fn references(spec: &RorunStackSpec) -> References {
    let mut found = References::default();
    if let Some(external) = spec.database.as_ref().and_then(|database| database.external.as_ref()) {
        let of = &external.secret_ref;
        let keys = [
            of.url_key.as_deref().unwrap_or("DATABASE_URL"),
            of.direct_url_key.as_deref().unwrap_or("DIRECT_URL"),
            of.read_url_key.as_deref().unwrap_or("READ_URL"),
        ];
        found.secret(&of.name, keys);
        found.authority(external.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }
    if let Some(external) = spec.redis.as_ref().and_then(|redis| redis.external.as_ref()) {
        found.secret(&external.secret_ref.name, [external.secret_ref.url_key.as_deref().unwrap_or("REDIS_URL")]);
        found.authority(external.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }
    found.bucket(spec.bucket.as_ref().and_then(|bucket| bucket.external.as_ref()));
    let destination = spec.backup.as_ref().and_then(|backup| backup.destination.as_ref());
    found.bucket(destination.and_then(|bucket| bucket.external.as_ref()));
    found.workload(Component::Api, Some(&spec.api));
    found.workload(Component::Ocr, spec.ocr.as_ref());
    found.workload(Component::Admin, spec.admin.as_ref());
    if let Some(ingress) = &spec.ingress {
        let extra = ingress.extra_hosts.iter().filter_map(|host| host.tls.as_ref());
        for tls in ingress.tls.iter().chain(extra) {
            found.secret(&tls.secret_name, []);
        }
    }
    found
}

impl References {
    fn secret<const N: usize>(&mut self, name: &str, keys: [&str; N]) {
        self.secrets.insert(name.to_owned());
        self.keys.entry(name.to_owned()).or_default().extend(keys.map(str::to_owned));
    }

    fn authority(&mut self, reference: Option<&SecretKeyReference>) {
        if let Some(of) = reference {
            self.secret(&of.name, [of.key.as_deref().unwrap_or("ca.crt")]);
        }
    }

    fn bucket(&mut self, bucket: Option<&ExternalBucket>) {
        let Some(bucket) = bucket else { return };
        let of = &bucket.credentials_secret_ref;
        let keys = [
            of.access_key_id_key.as_deref().unwrap_or("AWS_ACCESS_KEY_ID"),
            of.secret_access_key_key.as_deref().unwrap_or("AWS_SECRET_ACCESS_KEY"),
            of.session_token_key.as_deref().unwrap_or("AWS_SESSION_TOKEN"),
        ];
        self.secret(&of.name, keys);
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
