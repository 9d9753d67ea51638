//! The end of a reconcile: the report for the status, and the write of it, with Events and metrics.

use std::collections::BTreeMap;

use kube::{ResourceExt, runtime::controller::Action};
use tracing::info;

use super::{
    Context,
    error::{ObserveError, ReconcileError},
    events, observe,
};
use crate::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    apply::{Applied, Owner, Refused, differences},
    desired::{self, Desired},
    names::{Component, Waiting, reason},
    objects::{self, DesiredObject, LiveSet, Readiness},
    plan::Plan,
    runtime::Written,
    stack::Stack,
    status::{self, Report},
    telemetry::StackSample,
};

/// The report for the status: the components that wait, the objects that the API server refused, and those that exist.
pub(super) fn report<'a>(
    context: &Context,
    (cr, stack, plan): (&'a RorunStack, &'a Stack, &'a Plan),
    live: &'a LiveSet,
    (desired, applied): (Desired, &Applied),
) -> Report<'a> {
    let Desired { mut waiting, readiness, mut notes, .. } = desired;
    let mut begun = BTreeMap::new();
    for (label, rolling) in &applied.rolling {
        if let Some(component) = Component::from_label(label) {
            waiting.entry(component).or_insert_with(|| objects::rollout_begins(&rolling.key));
            begun.insert(component, rolling.replicas);
        }
    }
    for refused in &applied.refused {
        // Without its records a stack would take steps twice, which concerns the API.
        let component = Component::from_label(&refused.component).unwrap_or(Component::Api);
        if serves_unchanged(refused, live) {
            notes.entry(component).or_insert_with(|| refused.waiting.message.clone());
        } else {
            waiting.insert(component, refused.waiting.clone());
        }
    }
    // A component that the spec no longer has, and that could not be deleted, still exists.
    let present =
        Component::ALL.into_iter().filter(|component| stack.has(*component) || waiting.contains_key(component));
    let known = |component| readiness.get(&component).cloned().unwrap_or(Readiness::Ready);
    let readiness = present.map(|component| (component, known(component))).collect();
    Report {
        cr,
        stack,
        release: &plan.release,
        restores: &plan.restores,
        operations: &plan.operations,
        live,
        readiness: status::with_refusals(readiness, &waiting),
        notes,
        backup: desired::last_backup(live),
        verified: desired::last_verified(live),
        point_in_time: desired::point_in_time(stack, live),
        begun,
        old: context.runtime.statuses.last(cr),
    }
}

/// A volume whose change the API server refuses, e.g. growth beyond a quota, goes on serving as it is.
fn serves_unchanged(refused: &Refused, live: &LiveSet) -> bool {
    let there = live.get(&refused.key).filter(|there| !there.deleting);
    refused.waiting.reason == reason::APPLY_REFUSED
        && there.is_some_and(|there| there.kind.kind == "PersistentVolumeClaim")
}

/// The components of a suspended stack that an apply would change: they are not as the spec asks for.
pub(super) fn suspended(owner: &Owner, objects: Vec<DesiredObject>, live: &LiveSet) -> BTreeMap<Component, Waiting> {
    let different = differences(owner, objects, live).into_iter().filter_map(|object| {
        let message = format!("{} is not as the spec asks for, and spec.suspend keeps it so", object.key);
        Some((Component::from_label(object.component)?, Waiting::new(reason::SUSPENDED, message)))
    });
    different.collect()
}

/// Writes the status if it changed, publishes Events for the change, and shows it as metrics.
pub(super) async fn write_status(
    context: &Context,
    cr: &RorunStack,
    (old, status): (Option<RorunStackStatus>, RorunStackStatus),
    warnings: &[String],
) -> Result<Written, ReconcileError> {
    let metrics = &context.runtime.metrics;
    if old.as_ref() == Some(&status) {
        metrics.stack(sample(cr, &status));
        return Ok(Written::Stored);
    }
    let written = context.runtime.statuses.write(cr, status.clone()).await;
    if matches!(written, Ok(Written::Dropped | Written::Conflict)) {
        return Ok(written?);
    }
    metrics.stack(sample(cr, &status));
    let written = written?;
    if let Some(ready) = status.conditions.iter().find(|condition| condition.type_ == "Ready") {
        info!(ready = ready.status, reason = ready.reason, message = ready.message, "status");
    }
    let published = events::of_status((old.as_ref(), &status), warnings);
    context.runtime.events.publish(cr, published).await;
    Ok(written)
}

/// Writes why the stack cannot be reconciled.
pub(super) async fn stopped(context: &Context, cr: &RorunStack, waiting: &Waiting) -> Result<Written, ReconcileError> {
    let old = context.runtime.statuses.last(cr);
    let status = status::stopped(cr, old.clone(), waiting, observe::now());
    write_status(context, cr, (old, status), &[]).await
}

/// The cluster could not be read. A failure that ends by itself changes no status; a right that an administrator has to grant does.
pub(super) async fn not_observed(
    context: &Context,
    cr: &RorunStack,
    error: ObserveError,
) -> Result<Action, ReconcileError> {
    if error.is_forbidden() {
        let message = format!("{error}: check the operator's RBAC (rorun-operator rbac)");
        stopped(context, cr, &Waiting::new(reason::FORBIDDEN, message)).await?;
    }
    Err(error.into())
}

/// What the metrics show of a stack.
fn sample(stack: &RorunStack, status: &RorunStackStatus) -> StackSample {
    let last = status.backup.as_ref().and_then(|backup| backup.last_successful.as_ref());
    let database = status.services.iter().find(|row| row.name == Component::Database.as_str());
    StackSample {
        namespace: stack.namespace().unwrap_or_default(),
        name: stack.name_any(),
        environment: format!("{:?}", stack.spec.environment),
        conditions: status.conditions.iter().map(|c| (c.type_.clone(), c.status.as_str().into())).collect(),
        backup_last_success: last.map(|record| record.at.0.as_second()),
        backup_size_bytes: last.map(|record| record.size_bytes),
        hibernated_seconds: status.hibernated_seconds.unwrap_or(0),
        hibernated_since: status::without_pods_since(&status.conditions),
        connections: database.and_then(|row| row.connections.as_ref()).map(|of| (of.needed, of.available)),
    }
}
