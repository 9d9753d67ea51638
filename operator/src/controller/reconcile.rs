//! One pass over one stack: observe, validate, desired, apply, status.

use std::{collections::BTreeMap, time::Instant};

use kube::{Resource, ResourceExt, runtime::controller::Action};

use super::{
    Context, Seen, StackKey, classes, finalize,
    observe::{self, ObserveError},
    outlines,
    policy::{self, Ending},
    questions, refused,
    told::{Written, stopped, write_status},
};
use crate::{
    api::v1alpha1::RorunStack,
    apply::{Applied, Owner, Refused, WRITE_LIMIT, WriteError, apply, differences},
    desired::{self, Desired},
    names::{Component, Waiting, reason},
    objects::{self, DesiredObject, Digest, LiveSet, Readiness},
    stack::{Stack, validate},
    status::{self, Report},
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
    Finalizer(#[source] WriteError),
}

impl ReconcileError {
    /// The step and the variant, for metrics.
    pub(super) fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Observe(ObserveError::Reference(..)) => ("observe", "Reference"),
            Self::Observe(ObserveError::Volumes(_)) => ("observe", "Volumes"),
            Self::Observe(ObserveError::StorageClass(..)) => ("observe", "StorageClass"),
            Self::Observe(ObserveError::Namespace(_)) => ("observe", "Namespace"),
            Self::Status(_) => ("status", "Status"),
            Self::StatusTimedOut => ("status", "TimedOut"),
            Self::Finalizer(_) => ("finalize", "Finalizer"),
        }
    }
}

/// Brings one stack one pass further.
pub(super) async fn reconcile(seen: &Seen, context: &Context) -> Result<Action, ReconcileError> {
    let cr = &*seen.stack;
    let key = StackKey { namespace: cr.namespace().unwrap_or_default(), name: cr.name_any() };
    let owner = owner(cr, &key);
    let live = context.cache.of(&key).at(observe::now().as_second());
    if cr.metadata.deletion_timestamp.is_some() {
        return delete(context, cr, &owner, &live).await;
    }
    if let Some(left) = context.namespace_goes(&owner.uid) {
        return Ok(Action::requeue(left));
    }
    if cr.spec.suspend != Some(true)
        && finalize::set(context, cr, finalize::wanted(cr)).await.map_err(ReconcileError::Finalizer)?
    {
        // The change comes back through the watch, with the version that the next writes need.
        return Ok(Action::await_change());
    }
    let observed = match observe::observe(context, cr, &key, &live).await {
        Ok(observed) => observed,
        Err(error) => return not_observed(context, cr, error).await,
    };
    let live = refused::told(context, cr, &key, live).await;
    let mut stack = questions::probed(context, cr, validate(cr, &observed), &live);
    classes::check(context, cr, &mut stack, &live).await;
    let of = outlines::made_of(seen, &observed);
    let corrected = context.take_turn((cr, &key), &mut stack, of, &live);
    let (judged, applied) = bring_about(context, &owner, of, &stack, &live).await;
    if corrected {
        context.told_correction(cr, &stack, &applied).await;
    }
    if applied.namespace_goes {
        context.memory().going.insert(owner.uid.clone(), Instant::now());
    }
    let report = report(context, (cr, &stack), &live, (judged, &applied));
    if applied.again && report.old.is_some() {
        // The pass ended early: what it did not come to is not judged.
        return Ok(policy::next(context, &key, &Ending::Again));
    }
    let told = report.old.is_some() && applied.refused.is_empty();
    if let Some(soon) = context.prober.awaited(&key).filter(|_| told) {
        // What is told now would be another in a moment. The first status comes at once: without one, tools that wait for
        // resources take a stack for ready (kstatus).
        return Ok(Action::requeue(soon));
    }
    let status = status::status(&report, observe::now());
    match write_status(context, cr, (report.old.clone(), status), &stack.warnings).await? {
        Written::Overtaken => Ok(policy::next(context, &key, &Ending::Again)),
        Written::Done => {
            let ending = Ending::of(&applied, &report.readiness);
            Ok(policy::next_within(context, &key, &ending, live.requeue_after()))
        }
    }
}

/// Decides what is wanted, and applies it. What is wanted is made anew only if something it is made of, or what there is of it,
/// is another than the last time.
async fn bring_about(
    context: &Context,
    owner: &Owner,
    of: Digest,
    stack: &Stack,
    live: &LiveSet,
) -> (Desired<()>, Applied) {
    if stack.suspend {
        let Desired { objects, waiting: mut held, deferred, readiness, notes } = desired::desired(stack, live);
        held.extend(kept_back(owner, objects, live));
        return (Desired { objects: Vec::new(), waiting: held, deferred, readiness, notes }, Applied::default());
    }
    if let Some(kept) = context.keep(owner, of, stack, live).await {
        return kept;
    }
    let desired = desired::desired(stack, live);
    let left_alone = desired.left_alone();
    let Desired { objects, waiting: held, deferred, readiness, notes } = desired;
    let mut applied = apply(&context.writer, owner, objects, live, &left_alone).await;
    let made =
        readiness.keys().copied().filter(|component| !held.contains_key(component) && !deferred.contains(component));
    context.remember_outlines(owner, of, made, std::mem::take(&mut applied.outlines));
    (Desired { objects: Vec::new(), waiting: held, deferred, readiness, notes }, applied)
}

/// What would be written if the stack were not suspended, by component: it is not as the spec asks for.
fn kept_back(owner: &Owner, objects: Vec<DesiredObject>, live: &LiveSet) -> BTreeMap<Component, Waiting> {
    let different = differences(owner, objects, live).into_iter().filter_map(|object| {
        let message = format!("{} is not as the spec asks for, and spec.suspend keeps it so", object.key);
        Some((Component::from_label(object.component)?, Waiting::new(reason::SUSPENDED, message)))
    });
    different.collect()
}

/// A pass that could not begin. What passes by itself is no news; what somebody has to grant is.
async fn not_observed(context: &Context, cr: &RorunStack, error: ObserveError) -> Result<Action, ReconcileError> {
    if error.is_forbidden() {
        let message = format!("{error}: check the operator's RBAC (rorun-operator rbac)");
        stopped(context, cr, &Waiting::new(reason::FORBIDDEN, message)).await?;
    }
    Err(error.into())
}

/// What the status is made of: what is held, what was refused, and what is there.
fn report<'a>(
    context: &Context,
    (cr, stack): (&'a RorunStack, &'a Stack),
    live: &'a LiveSet,
    (judged, applied): (Desired<()>, &Applied),
) -> Report<'a> {
    let Desired { mut waiting, readiness, mut notes, .. } = judged;
    let mut begun = BTreeMap::new();
    for (label, rolling) in &applied.rolling {
        if let Some(component) = Component::from_label(label) {
            waiting.entry(component).or_insert_with(|| objects::rollout_begins(&rolling.key));
            begun.insert(component, rolling.replicas);
        }
    }
    for refused in &applied.refused {
        let Some(component) = Component::from_label(&refused.component) else { continue };
        if serves_unchanged(refused, live) {
            notes.entry(component).or_insert_with(|| refused.waiting.message.clone());
        } else {
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
        notes,
        backup: desired::last_backup(live),
        begun,
        old: context.last_status(cr),
    }
}

/// A volume whose change the API server refuses, e.g. growth beyond a quota, goes on serving as it is.
fn serves_unchanged(refused: &Refused, live: &LiveSet) -> bool {
    let there = live.get(&refused.key).filter(|there| !there.deleting);
    refused.waiting.reason == reason::APPLY_REFUSED && there.is_some_and(|there| there.claim.is_some())
}

/// A stack that is being deleted: its children are collected by their owner references, its data only if the spec says so.
async fn delete(context: &Context, cr: &RorunStack, owner: &Owner, live: &LiveSet) -> Result<Action, ReconcileError> {
    let key = StackKey { namespace: owner.namespace.clone(), name: owner.name.clone() };
    if !finalize::held(cr) {
        return Ok(Action::await_change());
    }
    if finalize::wanted(cr) {
        if let Err(waiting) = finalize::permitted(cr) {
            return match stopped(context, cr, &waiting).await? {
                Written::Overtaken => Ok(policy::next(context, &key, &Ending::Again)),
                Written::Done => Ok(Action::await_change()),
            };
        }
        let applied = match finalize::delete_data(context, cr, owner, live).await {
            Ok(applied) => applied,
            Err(waiting) => {
                stopped(context, cr, &waiting).await?;
                return Ok(policy::next(context, &key, &Ending::Again));
            }
        };
        if let Some(refused) = applied.refused.first() {
            stopped(context, cr, &refused.waiting).await?;
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
