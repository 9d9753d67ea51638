//! All reads but those of [`credentials`], and the only place with the clock.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Context, StackKey, credentials};
use crate::{
    api::v1alpha1::RorunStack,
    desired,
    names::{Component, ObjectName, Waiting, reason},
    objects::{Claim, LiveSet},
    stack::{self, Observed, ObservedVolume, Probe},
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
