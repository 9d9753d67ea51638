//! One reconcile of one stack: observe, validate, plan, desired, apply, status.

use kube::{Resource, ResourceExt, runtime::controller::Action};

use super::{
    Context, WatchedStack, classes, corrections, delete,
    error::ReconcileError,
    finalizer, observe, optional, pods_refused,
    policy::{self, Ending},
    probes,
    report::{not_observed, report, suspended, write_status},
    unseen,
};
use crate::{
    api::v1alpha1::RorunStack,
    apply::{Applied, Owner, apply, discard},
    desired::{self, Desired},
    objects::{CLUSTER, LiveSet, ObjectKey},
    plan::{Plan, picked, plan},
    runtime::{ResourceKey, Written},
    stack::{Stack, validate},
    status,
};

/// Brings the cluster closer to what a stack asks for.
pub(super) async fn reconcile(watched: &WatchedStack, context: &Context) -> Result<Action, ReconcileError> {
    let cr = &*watched.resource;
    let key = ResourceKey::of(cr);
    let owner = owner(cr, &key);
    context.requests.known().await;
    let live = context.runtime.cache.of(&key).at(observe::now().as_second());
    let live = match unseen::observe(context, &owner, live).await {
        Ok(live) => live,
        Err(error) => return not_observed(context, cr, error).await,
    };
    if cr.metadata.deletion_timestamp.is_some() {
        return delete::reconcile(context, cr, &owner, &live).await;
    }
    if let Some(left) = context.namespace_terminates(&owner.uid) {
        return Ok(Action::requeue(left));
    }

    // Observe: all reads of the cluster.
    let live = pods_refused::observe(context, cr, &key, live).await;
    let observed = match observe::observe(context, cr, &key, &live).await {
        Ok(observed) => observed,
        Err(error) => return not_observed(context, cr, error).await,
    };

    // Validate: what the spec means, or a reason for the user.
    let stack = probes::observe(context, cr, validate(cr, &observed), &live);

    // Plan: the steps that are due, and the release that the Deployments get.
    let plan = plan(&stack, &observed, observe::now().as_second());
    let holds = finalizer::deletes_data(cr) || plan.works_on_data;
    if !stack.suspend && finalizer::set(context, cr, holds).await? {
        // The watch brings the change back, with the version that the next writes need.
        return Ok(Action::await_change());
    }
    let mut stack = picked(stack, &plan);
    classes::check(context, cr, &mut stack, &live).await;
    for moment in plan.turns_at().chain(observed.hibernation.turns_at) {
        live.has_passed(moment);
    }
    let inputs = || corrections::inputs(watched, &observed);
    let corrected = context.may_correct((cr, &key), &mut stack, inputs, &live);

    // Desired, and apply.
    let desired = desired::desired(&stack, &plan, &live);
    context.tell_backups(&key, &plan.backup_runs, &desired.waiting);
    let (desired, mut applied) = bring_about(context, &owner, &stack, (desired, &live)).await;
    if let Some(name) = plan.restores.discard_cluster.clone().filter(|_| !stack.suspend) {
        let cluster = ObjectKey { kind: CLUSTER.key, name };
        discard(&context.runtime.writer, &owner, &cluster, &live, &mut applied).await;
    }
    if corrected {
        context.correction_applied(cr, &stack, &applied).await;
    }
    if optional::is_gone(&applied) {
        context.runtime.optional.doubt();
    }
    if applied.namespace_terminating {
        context.note_namespace_terminating(&owner.uid);
    }

    // Status, also of what failed.
    finish(context, (cr, &key), (&stack, &plan), &live, (desired, &applied)).await
}

/// Applies what is desired. Of a suspended stack nothing is written: what an apply would write is a reason to wait.
async fn bring_about(
    context: &Context,
    owner: &Owner,
    stack: &Stack,
    (mut desired, live): (Desired, &LiveSet),
) -> (Desired, Applied) {
    let objects = std::mem::take(&mut desired.objects);
    if stack.suspend {
        desired.waiting.extend(suspended(owner, objects, live));
        return (desired, Applied::default());
    }
    let applied = apply(&context.runtime.writer, owner, objects, live, &desired.left_alone()).await;
    (desired, applied)
}

/// Writes the status, and says when the next reconcile is due.
async fn finish(
    context: &Context,
    (cr, key): (&RorunStack, &ResourceKey),
    (stack, plan): (&Stack, &Plan),
    live: &LiveSet,
    (desired, applied): (Desired, &Applied),
) -> Result<Action, ReconcileError> {
    let report = report(context, (cr, stack, plan), live, (desired, applied));
    if applied.again && report.old.is_some() {
        // The apply ended early: the components that it did not reach are not judged.
        return Ok(policy::next(context, key, &Ending::Again));
    }
    let may_wait = report.old.is_some() && applied.refused.is_empty();
    if let Some(soon) = context.prober.awaited(key).filter(|_| may_wait) {
        // The first answers of services come at any moment, and would change the status again. The first status of a stack is
        // written at once: tools that wait for resources take a stack without one for ready (kstatus).
        return Ok(Action::requeue(soon));
    }
    let status = status::status(&report, observe::now());
    match write_status(context, cr, (report.old.clone(), status), &stack.warnings).await? {
        Written::Conflict => Ok(policy::next(context, key, &Ending::Again)),
        Written::Stored | Written::Dropped => {
            context.tell_restores(key, &plan.restores.runs);
            let ending = Ending::of(applied, &report.readiness);
            Ok(policy::next_within(context, key, &ending, live.requeue_after()))
        }
    }
}

fn owner(cr: &RorunStack, key: &ResourceKey) -> Owner {
    Owner {
        api_version: RorunStack::api_version(&()).into_owned(),
        kind: RorunStack::kind(&()).into_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: cr.uid().unwrap_or_default(),
    }
}
