//! The reconcile of a stack that is being deleted.

use std::collections::BTreeMap;

use kube::runtime::controller::Action;

use super::{
    Context,
    error::ReconcileError,
    finalizer,
    observe::now,
    policy::{self, Ending},
    report::stopped,
    steps,
};
use crate::{
    api::v1alpha1::RorunStack,
    apply::Owner,
    names::{Waiting, reason},
    objects::LiveSet,
    plan::last_plan,
    runtime::{ResourceKey, Written},
    stack::Observed,
};

/// Deletes the data if the spec says so, and then gives the stack free. The garbage collector deletes the children by their owner
/// references.
pub(super) async fn reconcile(
    context: &Context,
    cr: &RorunStack,
    owner: &Owner,
    live: &LiveSet,
) -> Result<Action, ReconcileError> {
    let key = ResourceKey { namespace: owner.namespace.clone(), name: owner.name.clone() };
    if !finalizer::is_set(cr) {
        return Ok(Action::await_change());
    }
    let mut observed = Observed::default();
    steps::observe(cr, live, &mut observed);
    context.observe_restores((cr, &key), live, &mut observed);
    context.observe_backups(cr, &key, &mut observed);
    let plan = last_plan(&key.name, &observed, now().as_second());
    context.tell_backups(&key, &plan.backup_runs, &BTreeMap::new());
    context.tell_restores(&key, &plan.restore_runs);
    if let Some((_, job)) = plan.operations.next {
        let message = format!(
            "the stack is deleted once {job} has ended, so that it does not stop half-way; to end it now: kubectl delete {job}"
        );
        stopped(context, cr, &Waiting::new(reason::TERMINATING, message)).await?;
        // The watch of the Job reports its end.
        return Ok(Action::await_change());
    }
    if finalizer::deletes_data(cr) {
        if let Err(waiting) = finalizer::permitted(cr) {
            return match stopped(context, cr, &waiting).await? {
                Written::Conflict => Ok(policy::next(context, &key, &Ending::Again)),
                Written::Stored | Written::Dropped => Ok(Action::await_change()),
            };
        }
        let applied = match finalizer::delete_data(context, cr, owner, live).await {
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
    finalizer::set(context, cr, false).await?;
    Ok(Action::await_change())
}
