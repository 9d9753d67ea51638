//! The finalizer, which a stack has while a Job works on its live data, and always when its data go with it; and the deletion of
//! data with the stack: only when the spec says so, and in Production only when the user confirms it.

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Context, evidence::embedded_bucket_has_backups};
use crate::{
    api::v1alpha1::{DeletionPolicy, Environment, RorunStack},
    apply::{Applied, Owner, WriteError, delete_retained},
    desired::optional_kinds,
    names::{Component, FINALIZER, Waiting, annotation, reason},
    objects::LiveSet,
};

/// Whether the operator deletes the data of the stack with it.
pub(super) fn deletes_data(cr: &RorunStack) -> bool {
    cr.spec.deletion_policy == Some(DeletionPolicy::Delete)
}

/// Whether the stack has the finalizer.
pub(super) fn is_set(cr: &RorunStack) -> bool {
    cr.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Whether the data may be deleted. The error names the confirmation that is missing.
pub(super) fn permitted(cr: &RorunStack) -> Result<(), Waiting> {
    let name = cr.name_any();
    let confirmed = cr.annotations().get(annotation::CONFIRM_DELETE).is_some_and(|confirmed| *confirmed == name);
    if cr.spec.environment != Environment::Production || confirmed {
        return Ok(());
    }
    Err(Waiting::new(
        reason::CONFIRMATION_REQUIRED,
        format!(
            "deletionPolicy is Delete in Production: to delete the data, set the annotation {}={name}; to keep them, set \
             deletionPolicy to Retain",
            annotation::CONFIRM_DELETE
        ),
    ))
}

/// Adds or removes the finalizer, if that is a change. `true`: the reconcile ends here.
pub(super) async fn set(context: &Context, cr: &RorunStack, wanted: bool) -> Result<bool, WriteError> {
    if is_set(cr) == wanted {
        return Ok(false);
    }
    let mut finalizers: Vec<String> =
        cr.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    let api = Api::<RorunStack>::namespaced(context.runtime.client.clone(), &cr.namespace().unwrap_or_default());
    // The version is a precondition: finalizers of other controllers must not be lost.
    let patch =
        json!({"metadata": {"resourceVersion": cr.resource_version(), "uid": cr.uid(), "finalizers": finalizers}});
    let (name, params, patch) = (cr.name_any(), PatchParams::default(), Patch::Merge(&patch));
    match context.runtime.writer.limited(api.patch_metadata(&name, &params, &patch)).await {
        // A process that may not write now must not create anything later in the reconcile either: data without the finalizer
        // would outlast their stack.
        Ok(_) | Err(WriteError::NotPermitted) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Deletes the data of a stack that is being deleted, but never its backups. It is done when no write was needed. The error: it
/// is unknown whether the bucket holds backups, so nothing is deleted.
pub(super) async fn delete_data(
    context: &Context,
    cr: &RorunStack,
    owner: &Owner,
    live: &LiveSet,
) -> Result<Applied, Waiting> {
    // The passwords of a service that goes on to exist at its provider.
    let at_a_provider = optional_kinds(&cr.spec).into_iter().filter(|(_, kind)| !kind.is_in_cluster());
    let mut spared: Vec<_> = at_a_provider.map(|(component, _)| component.as_str()).collect();
    spared.extend(embedded_bucket_has_backups(cr, live).await?.then(|| Component::Bucket.as_str()));
    Ok(delete_retained(&context.runtime.writer, owner, &spared, live).await)
}
