//! The Ingress.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress as KubeIngress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::{Component, metadata};
use crate::{
    names::Component as Name,
    objects::{DesiredObject, LiveSet},
    plan::Plan,
    stack::Stack,
};

/// How long a controller may take to give an Ingress its address, in seconds.
const ADDRESS_WITHIN: i64 = 120;

pub(super) struct Ingress;

impl Component for Ingress {
    fn name(&self) -> Name {
        Name::Ingress
    }

    fn objects(&self, stack: &Stack, _: &Plan) -> Vec<DesiredObject> {
        let Some(ingress) = &stack.ingress else { return Vec::new() };
        let mut metadata = metadata::owned(stack, Name::Ingress, stack.child(Name::Ingress));
        metadata.annotations = Some(ingress.annotations.clone());
        let hosts = ingress.hosts.iter().map(|(host, _)| host.clone()).collect();
        vec![DesiredObject::own(&KubeIngress {
            metadata,
            spec: Some(IngressSpec {
                ingress_class_name: ingress.class.clone(),
                rules: Some(ingress.hosts.iter().map(|(host, component)| rule(stack, host, *component)).collect()),
                tls: ingress
                    .tls_secret
                    .clone()
                    .map(|secret| vec![IngressTLS { hosts: Some(hosts), secret_name: Some(secret) }]),
                ..IngressSpec::default()
            }),
            ..KubeIngress::default()
        })]
    }

    /// Some controllers never write an address, so this is no fault by itself.
    fn note(&self, stack: &Stack, live: &LiveSet) -> Option<String> {
        let name = stack.child(Name::Ingress);
        let there = live.named("Ingress", &name)?;
        if there.note.is_some() || !live.has_passed(there.created + ADDRESS_WITHIN) {
            return None;
        }
        let class = stack.ingress.as_ref().and_then(|ingress| ingress.class.as_deref());
        let of = class.map_or_else(|| "the default class".to_owned(), |class| format!("the class {class}"));
        Some(format!(
            "ingress/{name} has no address yet: check that an ingress controller serves {of}; some write no address"
        ))
    }
}

fn rule(stack: &Stack, host: &str, component: Name) -> IngressRule {
    let port = ServiceBackendPort { name: Some("http".to_owned()), number: None };
    let service = IngressServiceBackend { name: stack.child(component), port: Some(port) };
    IngressRule {
        host: Some(host.to_owned()),
        http: Some(HTTPIngressRuleValue {
            paths: vec![HTTPIngressPath {
                path: Some("/".to_owned()),
                path_type: "Prefix".to_owned(),
                backend: IngressBackend { service: Some(service), ..IngressBackend::default() },
            }],
        }),
    }
}
