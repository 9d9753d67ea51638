//! How requests reach a stack.

use std::collections::BTreeMap;

use super::{Observed, mode::Unresolved};
use crate::{
    api::v1alpha1::RorunStackSpec,
    names::{Component, Waiting, reason},
};

/// How requests reach the stack.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// The class. `None`: the cluster's default.
    pub class: Option<String>,
    /// Host and component, in this order: API, admin panel, OCR service.
    pub hosts: Vec<(String, Component)>,
    /// The Secret with the certificate.
    pub tls_secret: Option<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Ingress {
    /// The URL of a component, if it has a host.
    pub fn url(&self, component: Component) -> Option<String> {
        let scheme = if self.tls_secret.is_some() { "https" } else { "http" };
        self.hosts.iter().find(|(_, of)| *of == component).map(|(host, _)| format!("{scheme}://{host}"))
    }
}

/// The Ingress that a spec asks for.
pub(super) fn resolve(spec: &RorunStackSpec, observed: &Observed, unresolved: &mut Unresolved) -> Option<Ingress> {
    let ingress = spec.ingress.as_ref()?;
    let tls_secret = ingress.tls.as_ref().map(|tls| tls.secret_name.clone());
    if let Some(secret) = &tls_secret
        && !matches!(observed.secrets.get(secret), Some(Some(_)))
    {
        // The operator makes the Ingress all the same: cert-manager writes the Secret only after it finds the Ingress.
        let message = format!(
            "secret/{secret}, named by ingress.tls.secretName, does not exist: create it (kubectl create secret tls), or \
             let cert-manager write it; until then the controller serves its own certificate"
        );
        unresolved.insert(Component::Ingress, Waiting::new(reason::CERTIFICATE_MISSING, message));
    }
    let mut hosts = vec![(ingress.host.clone(), Component::Api)];
    hosts.extend(ingress.admin_host.iter().map(|host| (host.clone(), Component::Admin)));
    hosts.extend(ingress.ocr_host.iter().map(|host| (host.clone(), Component::Ocr)));
    Some(Ingress { class: ingress.class_name.clone(), hosts, tls_secret, annotations: ingress.annotations.clone() })
}
