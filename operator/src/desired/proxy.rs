//! The proxy of a database as a native sidecar: it is there before the containers that use it, and the kubelet stops it after them.

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::pod;
use crate::{
    names::PROXY,
    stack::{PROXY_HEALTH_PORT, Stack},
};

/// The variable that the proxy reads for its flag `--json-credentials`.
const CREDENTIALS: &str = "CSQL_PROXY_JSON_CREDENTIALS";

/// The sidecar of a pod that uses the database. `None`: it is reached without.
pub(super) fn proxy(stack: &Stack) -> Option<Container> {
    let of = stack.database.mode().proxy()?;
    let mut proxy = pod::container(stack, PROXY, &of.image);
    proxy.args = Some(of.args.clone());
    let credentials = of.credentials.iter().map(|(name, key)| pod::secret_variable(CREDENTIALS, name, key));
    proxy.env = Some(credentials.collect());
    proxy.resources = Some(of.resources.clone());
    proxy.restart_policy = Some("Always".to_owned());
    // It starts whether or not it reaches the instance, which who connects is told.
    proxy.startup_probe = Some(Probe {
        period_seconds: Some(1),
        timeout_seconds: Some(5),
        failure_threshold: Some(60),
        ..asked("/startup")
    });
    proxy.liveness_probe = Some(Probe {
        period_seconds: Some(60),
        timeout_seconds: Some(30),
        failure_threshold: Some(5),
        ..asked("/liveness")
    });
    Some(proxy)
}

fn asked(path: &str) -> Probe {
    let get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(PROXY_HEALTH_PORT),
        scheme: Some("HTTP".to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(get), ..Probe::default() }
}
