//! All reads, and the only place with random numbers and the clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{PersistentVolumeClaim, Secret},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use rand::distr::{Alphanumeric, SampleString};

use super::{Context, StackKey};
use crate::{
    api::v1alpha1::RorunStack,
    names::{Component, FIELD_MANAGER, ObjectName, ROLE_CREDENTIALS, Waiting, annotation, label, reason},
    objects::{LiveObject, LiveSet},
    stack::{self, CredentialState, Observed, Probe, ProbeTarget, SecretData, ServiceUrl, credential_keys},
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
}

impl ObserveError {
    /// Whether the operator lacks a right.
    pub(super) fn is_forbidden(&self) -> bool {
        let (Self::Reference(_, error) | Self::Volumes(error)) = self;
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
    observed.credentials = credentials(context, cr, key, live).await?;
    Ok(observed)
}

/// Adds what is known of the stack's services. They are not waited for: their last answers are taken.
pub(super) fn probed(context: &Context, cr: &RorunStack, mut stack: stack::Stack, live: &LiveSet) -> stack::Stack {
    let key = StackKey { namespace: stack.namespace.clone(), name: stack.name.clone() };
    let endpoints = ready_endpoints(&stack, live);
    if live.iter().any(|object| object.kind.runs_pods() && !object.readiness.is_ready()) {
        context.prober.doubt(&key);
    }
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

/// The generated credentials of the embedded services. They are made up only when neither they nor a volume are there, which
/// is asked of the API server: the caches show only what is labelled.
async fn credentials(
    context: &Context,
    cr: &RorunStack,
    key: &StackKey,
    live: &LiveSet,
) -> Result<BTreeMap<Component, CredentialState>, ObserveError> {
    let uid = cr.metadata.uid.clone().unwrap_or_default();
    let mut states = BTreeMap::new();
    let mut missing = Vec::new();
    for component in stack::embedded(cr) {
        let name = ObjectName::with_role(&key.name, component, ROLE_CREDENTIALS);
        if let Some(data) = live.named("Secret", name.as_str()).and_then(LiveObject::data) {
            context.memory().minted.remove(&(uid.clone(), component));
            states.insert(component, CredentialState::Present(decode(data)));
        } else if let Some(data) = context.memory().minted.get(&(uid.clone(), component)) {
            states.insert(component, CredentialState::Minted(data.clone()));
        } else {
            missing.push((component, name));
        }
    }
    if missing.is_empty() {
        return Ok(states);
    }
    let volumes = volumes(context, &key.namespace).await?;
    for (component, name) in missing {
        let volume = ObjectName::of(&key.name, component);
        let state = if let Some(volume) = volumes.iter().find(|there| there.name_any() == volume.as_str()) {
            unlabelled_secret(context, &key.namespace, name.as_str())
                .await?
                .map_or_else(|| without_credentials(volume, &key.name), CredentialState::Present)
        } else {
            let data = mint(component);
            context.memory().minted.insert((uid.clone(), component), data.clone());
            CredentialState::Minted(data)
        };
        states.insert(component, state);
    }
    Ok(states)
}

type Claim = PartialObjectMeta<PersistentVolumeClaim>;

/// Every volume claim in the namespace, whatever its labels.
async fn volumes(context: &Context, namespace: &str) -> Result<Vec<Claim>, ObserveError> {
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), namespace);
    let list = api.list_metadata(&ListParams::default()).await.map_err(ObserveError::Volumes)?;
    Ok(list.items)
}

/// What to say of a volume whose credentials are nowhere. One that no stack of this name has made holds somebody else's data.
fn without_credentials(volume: &Claim, stack: &str) -> CredentialState {
    let labels = volume.labels();
    let has = |label: &str, value: &str| labels.get(label).is_some_and(|found| found == value);
    let labelled = has(label::MANAGED_BY, FIELD_MANAGER) && has(label::INSTANCE, stack);
    if !labelled && !volume.annotations().contains_key(annotation::STACK_UID) {
        return CredentialState::VolumeTaken;
    }
    if volume.metadata.deletion_timestamp.is_some() {
        return CredentialState::VolumeTerminating;
    }
    CredentialState::Lost
}

/// The volume is there. A Secret that only lost its labels is as good as any; the apply step puts the labels back.
async fn unlabelled_secret(context: &Context, namespace: &str, name: &str) -> Result<Option<SecretData>, ObserveError> {
    let api = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(ObserveError::Volumes)?;
    Ok(found.map(|secret| {
        let data = secret.data.unwrap_or_default();
        data.into_iter().map(|(key, value)| (key, value.0)).collect()
    }))
}

fn mint(component: Component) -> SecretData {
    let mut random = rand::rng();
    let made = credential_keys(component).iter().map(|(key, recipe)| {
        let value = match recipe {
            Ok(length) => Alphanumeric.sample_string(&mut random, *length),
            Err(fixed) => (*fixed).to_owned(),
        };
        ((*key).to_owned(), value.into_bytes())
    });
    made.collect()
}

fn decode(data: &BTreeMap<String, String>) -> SecretData {
    let decoded = data.iter().filter_map(|(key, value)| {
        let bytes: ByteString = serde_json::from_value(serde_json::Value::String(value.clone())).ok()?;
        Some((key.clone(), bytes.0))
    });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DIRECT: &str = "DIRECT_URL in secret/db: failed to log in";

    /// The answers for `DATABASE_URL`, `DIRECT_URL` and `READ_URL` that a status gives back.
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
