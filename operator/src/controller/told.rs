//! Tells the user: writes statuses, to exactly the stack that was judged, and remembers them until the cache shows them.

use std::{collections::hash_map::Entry, time::Instant};

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;
use tracing::info;

use super::{Context, Told, events, observe, passes, reconcile::ReconcileError};
use crate::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    apply::WRITE_LIMIT,
    names::{FIELD_MANAGER, Waiting},
    status,
    telemetry::WriteVerb,
};

/// What became of a status.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there, or there is nobody to be told.
    Done,
    /// The stack is no longer the one that was judged: changed, or another of its name.
    Overtaken,
}

/// Writes the status if it changed, tells of the change, and shows it as metrics. It is written to exactly the stack that was
/// judged: the API server compares no uid in a status, but it compares versions.
pub(super) async fn write_status(
    context: &Context,
    cr: &RorunStack,
    (old, status): (Option<RorunStackStatus>, RorunStackStatus),
    warnings: &[String],
) -> Result<Written, ReconcileError> {
    if old.as_ref() == Some(&status) {
        context.metrics.stack(passes::sample(cr, &status));
        return Ok(Written::Done);
    }
    let Some(turn) = context.writer.permitted().await else { return Ok(Written::Done) };
    let api = Api::<RorunStack>::namespaced(context.client.clone(), &cr.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": RorunStack::api_version(&()),
        "kind": RorunStack::kind(&()),
        "metadata": {"name": cr.name_any(), "uid": cr.uid(), "resourceVersion": context.last_version(cr)},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let (name, patch) = (cr.name_any(), Patch::Apply(&body));
    let answer = timeout(WRITE_LIMIT, api.patch_status(&name, &params, &patch)).await;
    drop(turn);
    match &answer {
        // It is gone.
        Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => return Ok(Written::Done),
        Ok(Err(kube::Error::Api(answer))) if answer.code == 409 => return Ok(Written::Overtaken),
        _ => context.metrics.stack(passes::sample(cr, &status)),
    }
    let written = answer.map_err(|_| ReconcileError::StatusTimedOut)?.map_err(ReconcileError::Status)?;
    context.metrics.written("RorunStack", WriteVerb::Status);
    context.remember_status(cr, status.clone(), written.resource_version());
    if let Some(ready) = status.conditions.iter().find(|condition| condition.type_ == "Ready") {
        info!(ready = ready.status, reason = ready.reason, message = ready.message, "status");
    }
    events::publish(context, cr, (old.as_ref(), &status), warnings).await;
    Ok(Written::Done)
}

/// Tells why a stack could not be looked at.
pub(super) async fn stopped(context: &Context, cr: &RorunStack, waiting: &Waiting) -> Result<Written, ReconcileError> {
    let old = context.last_status(cr);
    let status = status::stopped(cr, old.clone(), waiting, observe::now());
    write_status(context, cr, (old, status), &[]).await
}

impl Context {
    /// The newest status that is known: that of the cache, or the one written last, kept until the cache has seen it.
    pub(super) fn last_status(&self, cr: &RorunStack) -> Option<RorunStackStatus> {
        let uid = cr.uid().unwrap_or_default();
        let seen: u64 = cr.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0);
        match self.memory().statuses.entry(uid) {
            Entry::Occupied(told) if told.get().version > seen => Some(told.get().status.clone()),
            Entry::Occupied(told) => {
                told.remove();
                cr.status.clone()
            }
            Entry::Vacant(_) => cr.status.clone(),
        }
    }

    /// The version that the stack has as far as is known: that of the cache, or the one that its last status gave it.
    fn last_version(&self, cr: &RorunStack) -> Option<String> {
        let seen = cr.resource_version();
        let memory = self.memory();
        let told = memory.statuses.get(cr.metadata.uid.as_deref().unwrap_or_default());
        let newer =
            told.filter(|told| seen.as_ref().is_none_or(|seen| seen.parse().is_ok_and(|seen| told.version > seen)));
        newer.map_or(seen.clone(), |told| Some(told.version.to_string()))
    }

    fn remember_status(&self, cr: &RorunStack, status: RorunStackStatus, version: Option<String>) {
        let version = version.and_then(|version| version.parse().ok()).unwrap_or(0);
        let told = Told { status, version, at: Instant::now() };
        self.memory().statuses.insert(cr.uid().unwrap_or_default(), told);
    }
}
