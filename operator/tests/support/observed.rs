//! What was observed: everything that a spec names, or nothing.

use std::collections::BTreeMap;

use rorun_operator::{
    api::v1alpha1::{ExternalBucket, RorunStack, SecretKeyReference, WorkloadSpec},
    names::Component,
    stack::{CredentialState, Observed, Probe, SecretData, Stack, credential_keys, references},
};

pub const AGENT_IMAGE: &str = "ghcr.io/rorun/rorun-operator:0.1.0";

/// In every secret value, and made so that no encoding of URLs changes it.
pub const CANARY: &str = "Canary7Canary7";

/// A certificate, and behind it what some bundles hold as well, and what must not leave the Secret.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nTWFkZSBmb3IgdGVzdHM=\n-----END CERTIFICATE-----\n\
                         -----BEGIN PRIVATE KEY-----\nCanary7Canary7\n-----END PRIVATE KEY-----\n";

/// Every Secret and `ConfigMap` that the spec names with the keys that it names, and credentials that were made before.
pub fn all_there(cr: &RorunStack) -> Observed {
    let mut there = There::default();
    there.services(cr);
    for workload in [Some(&cr.spec.api), cr.spec.ocr.as_ref(), cr.spec.admin.as_ref()].into_iter().flatten() {
        there.configuration(workload);
    }
    let named = references(&cr.spec);
    let pick = |names: std::collections::BTreeSet<String>, mut from: BTreeMap<String, SecretData>| {
        names.into_iter().map(|name| (name.clone(), from.remove(&name))).collect()
    };
    Observed {
        secrets: pick(named.secrets, there.secrets),
        config_maps: pick(named.config_maps, there.config_maps),
        credentials: embedded(cr)
            .map(|component| (component, CredentialState::Present(credentials(component))))
            .collect(),
        probes: BTreeMap::new(),
        agent_image: AGENT_IMAGE.to_owned(),
    }
}

/// Nothing that the spec names, and credentials that were just made up.
pub fn nothing_there(cr: &RorunStack) -> Observed {
    let named = references(&cr.spec);
    Observed {
        secrets: named.secrets.into_iter().map(|name| (name, None)).collect(),
        config_maps: named.config_maps.into_iter().map(|name| (name, None)).collect(),
        credentials: embedded(cr)
            .map(|component| (component, CredentialState::Minted(credentials(component))))
            .collect(),
        probes: BTreeMap::new(),
        agent_image: AGENT_IMAGE.to_owned(),
    }
}

/// Every service of the stack answers.
pub fn answering(stack: &Stack) -> BTreeMap<Component, Probe> {
    stack.endpoints().into_keys().map(|component| (component, Probe::Answers { note: None })).collect()
}

fn embedded(cr: &RorunStack) -> impl Iterator<Item = Component> {
    let external = [
        (Component::Database, cr.spec.database.as_ref().is_some_and(|database| database.external.is_some())),
        (Component::Redis, cr.spec.redis.as_ref().is_some_and(|redis| redis.external.is_some())),
        (Component::Bucket, cr.spec.bucket.as_ref().is_some_and(|bucket| bucket.external.is_some())),
    ];
    external.into_iter().filter(|(_, external)| !external).map(|(component, _)| component)
}

fn credentials(component: Component) -> SecretData {
    let keys = credential_keys(component).iter();
    keys.map(|(key, recipe)| ((*key).to_owned(), recipe.err().unwrap_or(CANARY).as_bytes().to_vec())).collect()
}

#[derive(Default)]
struct There {
    secrets: BTreeMap<String, SecretData>,
    config_maps: BTreeMap<String, SecretData>,
}

impl There {
    fn secret(&mut self, name: &str, key: Option<&str>, usual: &str, value: impl Into<Vec<u8>>) {
        let key = key.unwrap_or(usual).to_owned();
        self.secrets.entry(name.to_owned()).or_default().insert(key, value.into());
    }

    fn services(&mut self, cr: &RorunStack) {
        if let Some(external) = cr.spec.database.as_ref().and_then(|database| database.external.as_ref()) {
            let url = |host: &str| format!("postgresql://app:{CANARY}@{host}.example.com:5432/rorun");
            let of = &external.secret_ref;
            self.secret(&of.name, of.url_key.as_deref(), "DATABASE_URL", url("pooler"));
            for (key, host) in [(&of.direct_url_key, "database"), (&of.read_url_key, "replica")] {
                if let Some(key) = key {
                    self.secret(&of.name, Some(key), "", url(host));
                }
            }
            self.authority(external.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
        }
        if let Some(external) = cr.spec.redis.as_ref().and_then(|redis| redis.external.as_ref()) {
            let of = &external.secret_ref;
            let url = format!("rediss://default:{CANARY}@redis.example.com:6379/0");
            self.secret(&of.name, of.url_key.as_deref(), "REDIS_URL", url);
            self.authority(external.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
        }
        self.bucket(cr.spec.bucket.as_ref().and_then(|bucket| bucket.external.as_ref()));
        let destination = cr.spec.backup.as_ref().and_then(|backup| backup.destination.as_ref());
        self.bucket(destination.and_then(|destination| destination.external.as_ref()));
        if let Some(tls) = cr.spec.ingress.as_ref().and_then(|ingress| ingress.tls.as_ref()) {
            self.secret(&tls.secret_name, None, "tls.key", CANARY);
        }
    }

    fn bucket(&mut self, bucket: Option<&ExternalBucket>) {
        let Some(bucket) = bucket else { return };
        let of = &bucket.credentials_secret_ref;
        self.secret(&of.name, of.access_key_id_key.as_deref(), "AWS_ACCESS_KEY_ID", format!("id{CANARY}"));
        self.secret(&of.name, of.secret_access_key_key.as_deref(), "AWS_SECRET_ACCESS_KEY", format!("key{CANARY}"));
        self.authority(bucket.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }

    fn authority(&mut self, reference: Option<&SecretKeyReference>) {
        if let Some(of) = reference {
            self.secret(&of.name, of.key.as_deref(), "ca.crt", AUTHORITY);
        }
    }

    /// What is optional is left out.
    fn configuration(&mut self, workload: &WorkloadSpec) {
        for source in workload.env.iter().filter_map(|variable| variable.value_from.as_ref()) {
            if let Some(of) = source.secret_key_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.secret(&of.name, Some(&of.key), "", CANARY);
            }
            if let Some(of) = source.config_map_key_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.config_maps.entry(of.name.clone()).or_default().insert(of.key.clone(), b"on".to_vec());
            }
        }
        for source in &workload.env_from {
            if let Some(of) = source.secret_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.secret(&of.name, None, "SETTING", CANARY);
            }
            if let Some(of) = source.config_map_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.config_maps.entry(of.name.clone()).or_default().insert("SETTING".to_owned(), b"on".to_vec());
            }
        }
    }
}
