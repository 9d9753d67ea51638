//! The owner of the backups of a stack, by which the rules of its bucket are found too: the uid of its namespace, which is another in every cluster, and the name of the stack. The
//! operator reads the uid once in the life of a stack, and stores the owner in its status.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use tracing::warn;

use super::{Context, error::ObserveError};
use crate::{
    api::v1alpha1::RorunStack,
    contract::is_owner,
    names::{Component, annotation},
    runtime::ResourceKey,
    stack::{self, Observed},
};

/// How soon the operator tries again to read a namespace that it may not read.
const FORBIDDEN_FOR: Duration = Duration::from_mins(10);

/// The owner of the backups of one stack, as far as it is known.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The owner.
    Owner(String),
    /// The namespace may not be read.
    Forbidden(Instant),
}

/// Observes the owner of the backups of a stack, and the owner whose backups it is to adopt.
pub(super) async fn observe(
    context: &Context,
    cr: &RorunStack,
    key: &ResourceKey,
    observed: &mut Observed,
) -> Result<(), ObserveError> {
    let rules =
        stack::asks_for_rules(&cr.spec) || observed.jobs.iter().any(|job| job.component == Component::BucketRules);
    if !stack::backed_up(&cr.spec) && !rules {
        return Ok(());
    }
    observed.backup_owner = owner(context, cr, key).await?;
    let handled = context.runtime.statuses.last(cr).and_then(|status| status.backup?.adopted);
    let wanted = cr.annotations().get(annotation::ADOPT_BACKUPS).filter(|wanted| Some(*wanted) != handled.as_ref());
    observed.adopt_backups = wanted.cloned();
    Ok(())
}

async fn owner(context: &Context, cr: &RorunStack, key: &ResourceKey) -> Result<Option<String>, ObserveError> {
    if let Some(known) = known(context, cr, key) {
        return Ok(Some(known));
    }
    let uid = cr.uid().unwrap_or_default();
    let remembered = context.memory().owners.get(&uid).cloned();
    match remembered {
        Some(Found::Owner(owner)) => return Ok(Some(owner)),
        Some(Found::Forbidden(since)) if since.elapsed() < FORBIDDEN_FOR => return Ok(None),
        Some(Found::Forbidden(_)) | None => {}
    }
    let found = match Api::<Namespace>::all(context.runtime.client.clone()).get_metadata(&key.namespace).await {
        Ok(namespace) => Found::Owner(format!("{}/{}", namespace.uid().unwrap_or_default(), key.name)),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            warn!(namespace = key.namespace, "the namespace may not be read, so old backups are not removed");
            Found::Forbidden(Instant::now())
        }
        Err(error) => return Err(ObserveError::Namespace(error)),
    };
    context.memory().owners.insert(uid, found.clone());
    Ok(match found {
        Found::Owner(owner) => Some(owner),
        Found::Forbidden(_) => None,
    })
}

/// The owner in the status, if the status is of this very stack: a copy of a stack in another cluster may have its status.
fn known(context: &Context, cr: &RorunStack, key: &ResourceKey) -> Option<String> {
    let backup = context.runtime.statuses.last(cr)?.backup?;
    let owner = backup.owner.filter(|_| backup.stack_uid.is_some() && backup.stack_uid == cr.metadata.uid)?;
    let of_this_name = owner.split_once('/').is_some_and(|(_, name)| name == key.name);
    (is_owner(&owner) && of_this_name).then_some(owner)
}
