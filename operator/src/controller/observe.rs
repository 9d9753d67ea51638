//! All reads but those of [`credentials`], and the only place with the clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Context, StackKey, credentials};
use crate::{
    api::v1alpha1::RorunStack,
    desired,
    names::{Component, ObjectName, Waiting, reason},
    objects::{Claim, LiveSet},
    stack::{self, Observed, ObservedVolume, Probe, ProbeTarget, ServiceUrl},
};

/// Why the cluster could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A Secret or `ConfigMap` that the spec names could not be read.
    #[error("failed to read {0}, which the spec names: {1}")]
    Reference(String, #[source] kube::Error),
    /// Whether a volume exists could not be found out.
    #[error("failed to look for volumes and credentials of an earlier stack: {0}")]
    Volumes(#[source] kube::Error),
    /// Whether a volume can grow could not be found out.
    #[error("failed to read storageclass/{0}, to find out whether it can expand a volume: {1}")]
    StorageClass(String, #[source] kube::Error),
}

impl ObserveError {
    /// Whether the operator lacks a right.
    pub(super) fn is_forbidden(&self) -> bool {
        let (Self::Reference(_, error) | Self::StorageClass(_, error) | Self::Volumes(error)) = self;
        matches!(error, kube::Error::Api(status) if status.code == 403)
    }
}

/// The time, in whole seconds as statuses keep it.
#[expect(clippy::disallowed_methods, reason = "the clock of the controller is read here and nowhere else")]
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Reads what the spec names and what is there.
pub(super) async fn observe(
    context: &Context,
    cr: &RorunStack,
    key: &StackKey,
    live: &LiveSet,
) -> Result<Observed, ObserveError> {
    let named = stack::references(&cr.spec);
    context.references.set(key, &named);
    let mut observed = Observed { agent_image: context.agent_image.clone(), ..Observed::default() };
    for name in named.secrets {
        let data = context.references.secret(&key.namespace, &name).await;
        let data = data.map_err(|error| ObserveError::Reference(format!("secret/{name}"), error))?;
        observed.secrets.insert(name, data);
    }
    for name in named.config_maps {
        let data = context.references.config_map(&key.namespace, &name).await;
        let data = data.map_err(|error| ObserveError::Reference(format!("configmap/{name}"), error))?;
        observed.config_maps.insert(name, data);
    }
    observed.credentials = credentials::observe(context, cr, key, live).await?;
    observed.volumes = existing_volumes(context, cr, key, live).await?;
    Ok(observed)
}

/// The volumes of embedded services that exist. A StorageClass is asked for only where a volume is to grow.
async fn existing_volumes(
    context: &Context,
    cr: &RorunStack,
    key: &StackKey,
    live: &LiveSet,
) -> Result<BTreeMap<Component, ObservedVolume>, ObserveError> {
    let mut volumes = BTreeMap::new();
    for component in stack::embedded(cr) {
        let name = ObjectName::of(&key.name, component);
        let live = live.named("PersistentVolumeClaim", name.as_str());
        let Some(claim) = live.and_then(|live| live.claim.as_deref()) else { continue };
        let expandable = match &claim.class {
            Some(class) if stack::grows(stack::storage(cr, component), component, &claim.size) => {
                let asked = context.storage_classes.expandable(&context.client, class).await;
                asked.map_err(|error| ObserveError::StorageClass(class.clone(), error))?
            }
            _ => None,
        };
        let Claim { size, class, class_applied } = claim.clone();
        volumes.insert(component, ObservedVolume { size, class, class_applied, expandable });
    }
    Ok(volumes)
}

/// Adds what is known of the stack's services. They are not waited for: their last answers are taken.
pub(super) fn probed(context: &Context, cr: &RorunStack, mut stack: stack::Stack, live: &LiveSet) -> stack::Stack {
    let key = StackKey { namespace: stack.namespace.clone(), name: stack.name.clone() };
    let endpoints = ready_endpoints(&stack, live);
    if live.iter().any(|object| object.kind.runs_pods() && !object.readiness.is_ready()) {
        context.prober.doubt(&key);
    }
    let told = context.last_status(cr).and_then(|status| status.backup?.last_successful);
    let newest = told.into_iter().chain(desired::last_backup(live)).map(|record| record.at.0.as_second());
    stack.last_backup = newest.max();
    stack.probes = context.prober.answers(&key, endpoints, |target| answer_of(cr, &stack, target));
    stack
}

/// What the status says about a service, if it speaks of this very spec.
fn answer_of(cr: &RorunStack, stack: &stack::Stack, target: ProbeTarget) -> Option<Probe> {
    const ANSWERS: [reason::Reason; 6] = [
        reason::UNREACHABLE,
        reason::TLS_FAILED,
        reason::AUTHENTICATION_FAILED,
        reason::NOT_FOUND,
        reason::ACCESS_DENIED,
        reason::UNSUPPORTED,
    ];
    let condition = |component: Component| {
        let conditions = &cr.status.as_ref()?.conditions;
        let told = conditions.iter().find(|condition| condition.type_ == component.condition())?;
        (told.observed_generation == cr.metadata.generation).then_some(told)
    };
    let failed = |told: &Condition| {
        let reason = ANSWERS.into_iter().find(|reason| *reason == told.reason)?;
        Some(Probe::Failed(Waiting::new(reason, told.message.clone())))
    };
    if target == ProbeTarget::DIRECT
        && let (Some(told), Some(opening)) = (condition(Component::Backup), stack.opening(target))
        && told.message.starts_with(&opening)
    {
        return failed(told);
    }
    let told = condition(target.component)?;
    if told.status == "True" {
        return Some(stack.noted(target, Some(told.message.as_str()).filter(|message| !message.is_empty())));
    }
    if target.url == ServiceUrl::Main { failed(told) } else { None }
}

/// Services that can be asked now: not the embedded bucket before its pod is ready, and under `suspend` nothing that changes it.
fn ready_endpoints(stack: &stack::Stack, live: &LiveSet) -> BTreeMap<ProbeTarget, stack::Endpoint> {
    let mut endpoints = stack.endpoints();
    endpoints.retain(|target, endpoint| match endpoint {
        stack::Endpoint::Bucket { create, versioning, .. } => {
            let embedded = std::mem::replace(create, *create && !stack.suspend);
            *versioning &= !stack.suspend;
            let name = stack.child(target.component);
            !embedded || live.named("StatefulSet", &name).is_some_and(|server| server.readiness.is_ready())
        }
        _ => true,
    });
    endpoints
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DIRECT: &str = "DIRECT_URL in secret/db: failed to log in";

    /// The answers for DATABASE_URL, DIRECT_URL and READ_URL that a status gives back.
    fn answers(backup: bool, conditions: &[(&str, &str, &str, &str)]) -> [Option<Probe>; 3] {
        let condition = |(kind, status, reason, message): &(&str, &str, &str, &str)| {
            json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 3,
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let external = json!({"external": {"secretRef": {"name": "db"}}});
        let mut spec = json!({"environment": "Development", "api": {"image": "api:1"}, "database": external});
        if backup {
            spec["backup"] = json!({});
        }
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        let manifest = json!({"metadata": {"name": "shop", "namespace": "n", "generation": 3}, "spec": spec,
            "status": {"conditions": conditions}});
        let cr: RorunStack = serde_json::from_value(manifest).expect("a stack");
        let url = |host: &str| Some(format!("postgresql://u:p@{host}/d").into_bytes());
        let urls = [("DATABASE_URL", "a"), ("DIRECT_URL", "b"), ("READ_URL", "c")];
        let data = urls.into_iter().filter_map(|(key, host)| Some((key.to_owned(), url(host)?))).collect();
        let observed = Observed { secrets: [("db".to_owned(), Some(data))].into(), ..Observed::default() };
        let stack = stack::validate(&cr, &observed);
        let targets = [Component::Database.into(), ProbeTarget::DIRECT, ProbeTarget::READ];
        targets.map(|target| answer_of(&cr, &stack, target))
    }

    #[test]
    fn a_restart_knows_each_url_from_the_condition_that_tells_of_it() {
        let good = Some(Probe::Answers { note: None });
        let failed = |reason, message: &str| Some(Probe::Failed(Waiting::new(reason, message)));
        let serves = ("DatabaseReady", "True", "Ready", "");
        assert_eq!(answers(true, &[serves]), [good.clone(), good.clone(), good.clone()]);
        let backup = ("BackupHealthy", "False", "AuthenticationFailed", DIRECT);
        let direct = failed(reason::AUTHENTICATION_FAILED, DIRECT);
        assert_eq!(answers(true, &[serves, backup]), [good.clone(), direct, good.clone()]);
        let other = ("BackupHealthy", "False", "BackupFailed", "job/x failed");
        assert_eq!(answers(true, &[serves, other]), [good.clone(), good.clone(), good.clone()]);
        let noted = ("DatabaseReady", "True", "Ready", DIRECT);
        assert_eq!(answers(false, &[noted]), [good.clone(), failed(reason::UNREACHABLE, DIRECT), good]);
        let main = "DATABASE_URL in secret/db: no answer";
        let down = ("DatabaseReady", "False", "Unreachable", main);
        assert_eq!(answers(true, &[down]), [failed(reason::UNREACHABLE, main), None, None]);
    }
}
