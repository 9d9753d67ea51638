//! All reads, and the only place with random numbers and the clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{PersistentVolumeClaim, Secret},
};
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use rand::distr::{Alphanumeric, SampleString};

use super::{Context, StackKey, ownership};
use crate::{
    api::v1alpha1::RorunStack,
    names::{Component, FIELD_MANAGER, ObjectName, ROLE_CREDENTIALS, Waiting, annotation, label, reason},
    objects::{LiveObject, LiveSet},
    stack::{self, CredentialState, Observed, Probe, SecretData, credential_keys},
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
    /// The uid of the namespace could not be read.
    #[error("failed to read the namespace, whose uid tells backups apart: {0}")]
    Namespace(#[source] kube::Error),
}

impl ObserveError {
    /// Whether the operator lacks a right.
    pub(super) fn is_forbidden(&self) -> bool {
        let (Self::Reference(_, error) | Self::Volumes(error) | Self::Namespace(error)) = self;
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
    observed.corrected = [Component::Api, Component::Ocr, Component::Admin]
        .into_iter()
        .filter_map(|of| {
            let there = live.named("Deployment", ObjectName::of(&key.name, of).as_str())?;
            Some((of, there.corrected.as_deref()?.to_owned()))
        })
        .collect();
    ownership::observe(context, cr, key, &mut observed).await?;
    Ok(observed)
}

/// Adds what is known of the stack's services. They are not waited for: their last answers are taken.
pub(super) fn probed(context: &Context, cr: &RorunStack, mut stack: stack::Stack, live: &LiveSet) -> stack::Stack {
    let key = StackKey { namespace: stack.namespace.clone(), name: stack.name.clone() };
    let endpoints = ready_endpoints(&stack, live);
    if live.iter().any(|object| object.kind.runs_pods() && !object.readiness.is_ready()) {
        context.prober.doubt(&key);
    }
    stack.probes = context.prober.answers(&key, endpoints, |component| answer_of(cr, component));
    stack
}

/// What the status says about a service, if it speaks of this very spec.
fn answer_of(cr: &RorunStack, component: Component) -> Option<Probe> {
    const ANSWERS: [reason::Reason; 6] = [
        reason::UNREACHABLE,
        reason::TLS_FAILED,
        reason::AUTHENTICATION_FAILED,
        reason::NOT_FOUND,
        reason::ACCESS_DENIED,
        reason::UNSUPPORTED,
    ];
    let conditions = &cr.status.as_ref()?.conditions;
    let told = conditions.iter().find(|condition| condition.type_ == component.condition())?;
    if told.observed_generation != cr.metadata.generation {
        return None;
    }
    let note = Some(told.message.clone()).filter(|message| !message.is_empty());
    if told.status == "True" {
        return Some(Probe::Answers { note });
    }
    let reason = ANSWERS.into_iter().find(|reason| *reason == told.reason)?;
    Some(Probe::Failed(Waiting::new(reason, told.message.clone())))
}

/// Services that can be asked now: not the embedded bucket before its pod is ready, and under `suspend` nothing that changes it.
fn ready_endpoints(stack: &stack::Stack, live: &LiveSet) -> BTreeMap<Component, stack::Endpoint> {
    let mut endpoints = stack.endpoints();
    endpoints.retain(|component, endpoint| match endpoint {
        stack::Endpoint::Bucket { create, versioning, .. } => {
            let embedded = std::mem::replace(create, *create && !stack.suspend);
            *versioning &= !stack.suspend;
            let name = stack.child(*component);
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

pub(super) fn decode(data: &BTreeMap<String, String>) -> SecretData {
    let decoded = data.iter().filter_map(|(key, value)| {
        let bytes: ByteString = serde_json::from_value(serde_json::Value::String(value.clone())).ok()?;
        Some((key.clone(), bytes.0))
    });
    decoded.collect()
}
