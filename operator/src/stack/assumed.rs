//! What a spec names, as if it were all there: for looking at what a manifest would become, without a cluster.

use std::collections::BTreeMap;

use super::{CredentialState, Observed, SecretData, SecretTraits, credential_keys, references};
use crate::{
    api::v1alpha1::{ExternalBucket, RorunStack, SecretKeyReference, Storage, WorkloadSpec},
    names::Component,
};

/// What stands for values that are not known.
#[derive(Clone, Copy, Debug)]
pub struct Assumption<'a> {
    /// For each password, key and other value of a Secret; it means nothing in a URL.
    pub value: &'a str,
    /// For each certificate authority (PEM).
    pub authority: &'a str,
    /// The image of the operator.
    pub agent_image: &'a str,
}

/// Every Secret and `ConfigMap` that the spec names with the keys that it names, and credentials that were made before. What
/// is optional is not there.
pub fn assumed(cr: &RorunStack, assumption: Assumption<'_>) -> Observed {
    let mut there = There { assumption, secrets: BTreeMap::new(), config_maps: BTreeMap::new() };
    there.services(cr);
    for workload in [Some(&cr.spec.api), cr.spec.ocr.as_ref(), cr.spec.admin.as_ref()].into_iter().flatten() {
        there.configuration(workload);
    }
    let named = references(&cr.spec);
    let pick = |names: std::collections::BTreeSet<String>, mut from: BTreeMap<String, SecretData>| {
        names.into_iter().map(|name| (name.clone(), from.remove(&name))).collect()
    };
    let credentials = embedded(cr).map(|component| {
        let keys = credential_keys(component).iter();
        let data =
            keys.map(|(key, recipe)| ((*key).to_owned(), recipe.err().unwrap_or(assumption.value).as_bytes().to_vec()));
        (component, CredentialState::Present(data.collect()))
    });
    let traits = SecretTraits { for_s3: true, too_large: false };
    Observed {
        traits: named.keys.into_keys().map(|name| (name, traits)).collect(),
        secrets: pick(named.secrets, there.secrets),
        config_maps: pick(named.config_maps, there.config_maps),
        credentials: credentials.collect(),
        volumes: BTreeMap::new(),
        agent_image: assumption.agent_image.to_owned(),
        configuration: BTreeMap::new(),
        corrected: BTreeMap::new(),
        backup_owner: Some(format!("{NAMESPACE_UID}/{}", cr.metadata.name.as_deref().unwrap_or_default())),
        adopt_backups: None,
    }
}

/// What stands for the uid of the namespace.
const NAMESPACE_UID: &str = "00000000-0000-4000-8000-000000000000";

/// The services that run in the cluster.
pub fn embedded(cr: &RorunStack) -> impl Iterator<Item = Component> {
    let external = [
        (Component::Database, cr.spec.database.as_ref().is_some_and(|database| database.external.is_some())),
        (Component::Redis, cr.spec.redis.as_ref().is_some_and(|redis| redis.external.is_some())),
        (Component::Bucket, cr.spec.bucket.as_ref().is_some_and(|bucket| bucket.external.is_some())),
    ];
    external.into_iter().filter(|(_, external)| !external).map(|(component, _)| component)
}

/// The volume that the spec asks for, for an embedded service.
pub fn storage(cr: &RorunStack, component: Component) -> Option<&Storage> {
    let spec = &cr.spec;
    match component {
        Component::Database => spec.database.as_ref()?.embedded.as_ref()?.storage.as_ref(),
        Component::Redis => spec.redis.as_ref()?.embedded.as_ref()?.storage.as_ref(),
        Component::Bucket => spec.bucket.as_ref()?.embedded.as_ref()?.storage.as_ref(),
        _ => None,
    }
}

struct There<'a> {
    assumption: Assumption<'a>,
    secrets: BTreeMap<String, SecretData>,
    config_maps: BTreeMap<String, SecretData>,
}

impl There<'_> {
    fn secret(&mut self, name: &str, key: Option<&str>, usual: &str, value: impl Into<Vec<u8>>) {
        let key = key.unwrap_or(usual).to_owned();
        self.secrets.entry(name.to_owned()).or_default().insert(key, value.into());
    }

    fn services(&mut self, cr: &RorunStack) {
        let value = self.assumption.value;
        if let Some(external) = cr.spec.database.as_ref().and_then(|database| database.external.as_ref()) {
            let url = |host: &str| format!("postgresql://app:{value}@{host}.example.com:5432/rorun");
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
            let url = format!("rediss://default:{value}@redis.example.com:6379/0");
            self.secret(&of.name, of.url_key.as_deref(), "REDIS_URL", url);
            self.authority(external.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
        }
        self.bucket(cr.spec.bucket.as_ref().and_then(|bucket| bucket.external.as_ref()));
        let destination = cr.spec.backup.as_ref().and_then(|backup| backup.destination.as_ref());
        self.bucket(destination.and_then(|destination| destination.external.as_ref()));
        let extra =
            cr.spec.ingress.iter().flat_map(|ingress| &ingress.extra_hosts).filter_map(|host| host.tls.as_ref());
        for tls in cr.spec.ingress.iter().filter_map(|ingress| ingress.tls.as_ref()).chain(extra) {
            self.secret(&tls.secret_name, None, "tls.key", value);
        }
    }

    fn bucket(&mut self, bucket: Option<&ExternalBucket>) {
        let Some(bucket) = bucket else { return };
        let (of, value) = (&bucket.credentials_secret_ref, self.assumption.value);
        self.secret(&of.name, of.access_key_id_key.as_deref(), "AWS_ACCESS_KEY_ID", format!("id{value}"));
        self.secret(&of.name, of.secret_access_key_key.as_deref(), "AWS_SECRET_ACCESS_KEY", format!("key{value}"));
        if let Some(key) = &of.session_token_key {
            self.secret(&of.name, Some(key), "", format!("token{value}"));
        }
        self.authority(bucket.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref()));
    }

    fn authority(&mut self, reference: Option<&SecretKeyReference>) {
        if let Some(of) = reference {
            self.secret(&of.name, of.key.as_deref(), "ca.crt", self.assumption.authority);
        }
    }

    fn configuration(&mut self, workload: &WorkloadSpec) {
        let value = self.assumption.value;
        for source in workload.env.iter().filter_map(|variable| variable.value_from.as_ref()) {
            if let Some(of) = source.secret_key_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.secret(&of.name, Some(&of.key), "", value);
            }
            if let Some(of) = source.config_map_key_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.config_maps.entry(of.name.clone()).or_default().insert(of.key.clone(), b"on".to_vec());
            }
        }
        for source in &workload.env_from {
            if let Some(of) = source.secret_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.secret(&of.name, None, "SETTING", value);
            }
            if let Some(of) = source.config_map_ref.as_ref().filter(|of| of.optional != Some(true)) {
                self.config_maps.entry(of.name.clone()).or_default().insert("SETTING".to_owned(), b"on".to_vec());
            }
        }
    }
}
