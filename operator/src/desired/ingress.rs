//! The Ingress.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress as KubeIngress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::{Component, metadata};
use crate::{
    api::v1alpha1::PathType,
    names::Component as Name,
    objects::{DesiredObject, LiveSet},
    plan::Plan,
    stack::{Host, Route, Stack},
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
        vec![DesiredObject::own(&KubeIngress {
            metadata,
            spec: Some(IngressSpec {
                ingress_class_name: ingress.class.clone(),
                rules: Some(ingress.hosts.iter().map(|host| rule(stack, host)).collect()),
                tls: Some(ingress.certificates().into_iter().map(tls).collect()),
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

fn rule(stack: &Stack, host: &Host) -> IngressRule {
    let paths = host.routes.iter().map(|route| path(stack, route)).collect();
    IngressRule { host: Some(host.name.clone()), http: Some(HTTPIngressRuleValue { paths }) }
}

fn path(stack: &Stack, route: &Route) -> HTTPIngressPath {
    let port = ServiceBackendPort { name: Some("http".to_owned()), number: None };
    let service = IngressServiceBackend { name: stack.child(route.component), port: Some(port) };
    let path_type = match route.path_type {
        PathType::Prefix => "Prefix",
        PathType::Exact => "Exact",
        PathType::ImplementationSpecific => "ImplementationSpecific",
    };
    HTTPIngressPath {
        path: Some(route.path.clone()),
        path_type: path_type.to_owned(),
        backend: IngressBackend { service: Some(service), ..IngressBackend::default() },
    }
}

fn tls((secret, hosts): (&str, Vec<&str>)) -> IngressTLS {
    IngressTLS { hosts: Some(hosts.into_iter().map(str::to_owned).collect()), secret_name: Some(secret.to_owned()) }
}
