//! One pass over one stack: observe, validate, desired, apply, status.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::json;
use tokio::time::timeout;
use tracing::info;

use super::{
    Context, StackKey, Told, events, finalize,
    observe::{self, ObserveError},
    policy::{self, Ending},
};
use crate::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    apply::{Applied, Owner, WRITE_LIMIT, apply, differences},
    desired::{self, Desired},
    names::{Component, FIELD_MANAGER, Waiting, reason},
    objects::{self, LiveSet, Readiness},
    stack::{Stack, validate},
    status::{self, Report},
    telemetry::WriteVerb,
};

/// Why a pass could not be finished. What the user has to mend is never an error, but a condition.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The cluster could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The status could not be written.
    #[error("failed to write the status: {0}")]
    Status(#[source] kube::Error),
    /// The status was not written in time.
    #[error("failed to write the status within {} s", WRITE_LIMIT.as_secs())]
    StatusTimedOut,
    /// The finalizer could not be changed.
    #[error("failed to change the finalizer: {0}")]
    Finalizer(#[source] kube::Error),
}

impl ReconcileError {
    /// The step and the variant, for metrics.
    pub(super) fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Observe(ObserveError::Reference(..)) => ("observe", "Reference"),
            Self::Observe(ObserveError::Volumes(_)) => ("observe", "Volumes"),
            Self::Status(_) => ("status", "Status"),
            Self::StatusTimedOut => ("status", "TimedOut"),
            Self::Finalizer(_) => ("finalize", "Finalizer"),
        }
    }
}

/// Brings one stack one pass further.
pub(super) async fn reconcile(cr: Arc<RorunStack>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = StackKey { namespace: cr.namespace().unwrap_or_default(), name: cr.name_any() };
    let owner = owner(&cr, &key);
    let live = context.cache.of(&key);
    if cr.metadata.deletion_timestamp.is_some() {
        return delete(&context, &cr, &owner, &live).await;
    }
    if cr.spec.suspend != Some(true)
        && finalize::set(&context, &cr, finalize::wanted(&cr)).await.map_err(ReconcileError::Finalizer)?
    {
        // The change comes back through the watch, with the version that the next writes need.
        return Ok(Action::await_change());
    }
    let observed = match observe::observe(&context, &cr, &key, &live).await {
        Ok(observed) => observed,
        Err(error) => return not_observed(&context, &cr, error).await,
    };
    let stack = observe::probed(&context, &cr, validate(&cr, &observed), &live);
    let mut desired = desired::desired(&stack, &live);
    let (mut held, readiness) = (desired.held.clone(), std::mem::take(&mut desired.readiness));
    let applied = if stack.suspend {
        held.extend(kept_back(&owner, &desired, &live));
        Applied::default()
    } else {
        apply_all(&context, &owner, desired, &live).await
    };
    let report = report(&context, (&cr, &stack), &live, &readiness, (held, &applied));
    if applied.again && report.old.is_some() {
        // The pass ended early: what it did not come to is not judged.
        return Ok(policy::next(&context, &key, &Ending::Again));
    }
    let status = status::status(&report, observe::now());
    write_status(&context, &cr, (report.old.clone(), status), &stack.warnings).await?;
    Ok(policy::next(&context, &key, &Ending::of(&applied, &report.readiness)))
}

/// What would be written if the stack were not suspended, by component: it is not as the spec asks for.
fn kept_back(owner: &Owner, desired: &Desired, live: &LiveSet) -> BTreeMap<Component, Waiting> {
    let different = differences(owner, &desired.objects, live).into_iter().filter_map(|object| {
        let message = format!("{} is not as the spec asks for, and spec.suspend keeps it so", object.key());
        Some((Component::from_label(object.component())?, Waiting::new(reason::SUSPENDED, message)))
    });
    different.collect()
}

/// A pass that could not begin. What passes by itself is no news; what somebody has to grant is.
async fn not_observed(context: &Context, cr: &RorunStack, error: ObserveError) -> Result<Action, ReconcileError> {
    if error.is_forbidden() {
        let old = context.last_status(cr);
        let message = format!("{error}: check the operator's RBAC (rorun-operator rbac)");
        let waiting = Waiting::new(reason::FORBIDDEN, message);
        write_status(context, cr, (old.clone(), status::stopped(cr, old, &waiting, observe::now())), &[]).await?;
    }
    Err(error.into())
}

async fn apply_all(context: &Context, owner: &Owner, desired: Desired, live: &LiveSet) -> Applied {
    let held: BTreeSet<String> = desired.held.keys().map(ToString::to_string).collect();
    apply(&context.writer, owner, desired.objects, live, &held).await
}

/// What the status is made of: what is held, what was refused, and what is there.
fn report<'a>(
    context: &Context,
    (cr, stack): (&'a RorunStack, &'a Stack),
    live: &'a LiveSet,
    readiness: &BTreeMap<Component, Readiness>,
    (held, applied): (BTreeMap<Component, Waiting>, &Applied),
) -> Report<'a> {
    let mut waiting = held;
    for (label, key) in &applied.rolling {
        if let Some(component) = Component::from_label(label) {
            waiting.entry(component).or_insert_with(|| objects::rollout_begins(key));
        }
    }
    for refused in &applied.refused {
        if let Some(component) = Component::from_label(&refused.component) {
            waiting.insert(component, refused.waiting.clone());
        }
    }
    // One that the spec no longer has, and that could not be removed, is still there.
    let present =
        Component::ALL.into_iter().filter(|component| stack.has(*component) || waiting.contains_key(component));
    let known = |component| readiness.get(&component).cloned().unwrap_or(Readiness::Ready);
    let readiness = present.map(|component| (component, known(component))).collect();
    Report {
        cr,
        stack,
        live,
        readiness: status::with_refusals(readiness, &waiting),
        backup: desired::last_backup(live),
        old: context.last_status(cr),
    }
}

/// Writes the status if it changed, tells of the change, and shows it as metrics.
async fn write_status(
    context: &Context,
    cr: &RorunStack,
    (old, status): (Option<RorunStackStatus>, RorunStackStatus),
    warnings: &[String],
) -> Result<(), ReconcileError> {
    context.metrics.stack(&super::run::sample(cr, &status));
    if old.as_ref() == Some(&status) || !context.writer.may_write() {
        return Ok(());
    }
    let api = Api::<RorunStack>::namespaced(context.client.clone(), &cr.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": RorunStack::api_version(&()),
        "kind": RorunStack::kind(&()),
        "metadata": {"name": cr.name_any(), "uid": cr.uid()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let (name, patch) = (cr.name_any(), Patch::Apply(&body));
    let answer = timeout(WRITE_LIMIT, api.patch_status(&name, &params, &patch)).await;
    let written = match answer.map_err(|_| ReconcileError::StatusTimedOut)? {
        // It is gone. A conflict is no reason to be silent: another one of the same name may be there, or this one changed.
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
        other => other.map_err(ReconcileError::Status)?,
    };
    context.metrics.written("RorunStack", WriteVerb::Status);
    context.remember_status(cr, status.clone(), written.resource_version());
    if let Some(ready) = status.conditions.iter().find(|condition| condition.type_ == "Ready") {
        info!(ready = ready.status, reason = ready.reason, message = ready.message, "status");
    }
    events::publish(context, cr, (old.as_ref(), &status), warnings).await;
    Ok(())
}

/// A stack that is being deleted: its children are collected by their owner references, its data only if the spec says so.
async fn delete(context: &Context, cr: &RorunStack, owner: &Owner, live: &LiveSet) -> Result<Action, ReconcileError> {
    let key = StackKey { namespace: owner.namespace.clone(), name: owner.name.clone() };
    if !finalize::held(cr) {
        return Ok(Action::await_change());
    }
    if finalize::wanted(cr) {
        if let Err(waiting) = finalize::permitted(cr) {
            let old = context.last_status(cr);
            let status = status::stopped(cr, old.clone(), &waiting, observe::now());
            write_status(context, cr, (old, status), &[]).await?;
            return Ok(Action::await_change());
        }
        let applied = finalize::delete_data(context, cr, owner, live).await;
        if let Some(refused) = applied.refused.first() {
            let old = context.last_status(cr);
            let status = status::stopped(cr, old.clone(), &refused.waiting, observe::now());
            write_status(context, cr, (old, status), &[]).await?;
        }
        if applied.again || !applied.refused.is_empty() {
            return Ok(policy::next(context, &key, &Ending::Again));
        }
    }
    finalize::set(context, cr, false).await.map_err(ReconcileError::Finalizer)?;
    Ok(Action::await_change())
}

fn owner(cr: &RorunStack, key: &StackKey) -> Owner {
    Owner {
        api_version: RorunStack::api_version(&()).into_owned(),
        kind: RorunStack::kind(&()).into_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: cr.uid().unwrap_or_default(),
    }
}

impl Context {
    /// The newest status that is known: that of the cache, or the one written last, kept until the cache has seen it.
    fn last_status(&self, cr: &RorunStack) -> Option<RorunStackStatus> {
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

    fn remember_status(&self, cr: &RorunStack, status: RorunStackStatus, version: Option<String>) {
        let version = version.and_then(|version| version.parse().ok()).unwrap_or(0);
        let told = Told { status, version, at: Instant::now() };
        self.memory().statuses.insert(cr.uid().unwrap_or_default(), told);
    }
}
