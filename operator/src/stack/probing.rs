//! Which services the operator probes, and how often. A probe sends keys and passwords from the operator's pod to an address of
//! the spec, so a doubtful one is not made: the pods use the service all the same, and its condition says how to allow the probe.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;

use super::{Replicas, Stack};
use crate::{
    api::v1alpha1::Environment,
    names::{Component, Waiting, reason},
};

/// How the operator probes a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probing {
    /// How often while the service answers. `None`: as suits the service.
    pub interval: Option<Duration>,
    /// Why the operator does not probe the service. `None`: it does.
    pub not_probed: Option<Waiting>,
    /// Whether the operator probes the service also while no workload has a pod.
    pub without_pods: bool,
}

impl Probing {
    /// `doubt` says why the operator does not probe the service.
    pub(super) fn new(interval: Option<&str>, doubt: Option<String>) -> Self {
        let not_probed = doubt.map(|why| Waiting::new(reason::NOT_PROBED, why));
        Self { interval: interval.and_then(duration), not_probed, without_pods: false }
    }
}

/// How the operator probes each service of a stack.
pub(super) fn probing(stack: &Stack) -> BTreeMap<Component, Probing> {
    let services = [
        (Component::Database, stack.database.mode().probing()),
        (Component::Redis, stack.redis.mode().probing()),
        (Component::Bucket, stack.bucket.mode().probing()),
        (Component::Backup, stack.backup.as_ref().and_then(|backup| backup.probing.as_ref())),
    ];
    let probed = services.into_iter().filter_map(|(component, probing)| Some((component, probing?)));
    probed
        .map(|(component, probing)| {
            let paused = paused(stack, probing).map(|why| Waiting::new(reason::NOT_PROBED, why));
            let not_probed = paused.or_else(|| probing.not_probed.clone());
            (component, Probing { not_probed, ..probing.clone() })
        })
        .collect()
}

impl Stack {
    /// Whether every workload has 0 replicas.
    pub(super) fn asks_for_no_pods(&self) -> bool {
        let mut workloads = [Some(&self.api), self.ocr.as_ref(), self.admin.as_ref()].into_iter().flatten();
        workloads.all(|workload| workload.replicas == Replicas::Fixed(0))
    }

    /// Why the operator does not probe a service.
    pub fn not_probed(&self, component: Component) -> Option<&Waiting> {
        self.probing.get(&component)?.not_probed.as_ref()
    }
}

/// Why the operator pauses the probes of a service.
fn paused(stack: &Stack, probing: &Probing) -> Option<String> {
    if stack.suspend {
        return Some("it is not asked whether it answers while spec.suspend is true".to_owned());
    }
    if stack.hibernation.cause.is_some() {
        return Some("it is not asked whether it answers while the stack hibernates".to_owned());
    }
    let none = !probing.without_pods && stack.asks_for_no_pods();
    none.then(|| "it is not asked whether it answers while every workload has 0 replicas".to_owned())
}

/// Whether the operator sends no credentials in clear text. `allowed` is `allowInsecure` of the spec.
pub(super) fn refuses_clear_text(environment: Environment, allowed: Option<bool>) -> bool {
    environment != Environment::Development && allowed != Some(true)
}

/// Why the operator does not probe a service whose connection is not encrypted.
pub(super) fn clear_text(field: &str, why: &str, instead: &str) -> String {
    format!(
        "it is used by the pods and not asked whether it answers, since {why} and a password would leave the operator in \
         clear: use {instead}, or set {field}.allowInsecure to true"
    )
}

/// As the CRD admits it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}
