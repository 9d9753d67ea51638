//! Jobs on live data that this operator made, or may have made, and that the watch does not show yet. They decide what else a stack
//! may do, so they are read instead of being taken for absent: a database that is switched off, or copied, under a migration that
//! began a moment ago breaks it off half-way.

use std::sync::Arc;

use super::{Context, error::ObserveError};
use crate::{
    apply::Owner,
    names::{Component, ObjectName},
    objects::{LiveSet, kind_with_key},
};

/// The components whose Jobs work on live data.
const ON_LIVE_DATA: [Component; 3] = [Component::Migration, Component::Backup, Component::Restore];

/// Adds them to what the caches show. It costs a call only between a creation and its event.
pub(super) async fn observe(context: &Context, owner: &Owner, mut live: LiveSet) -> Result<LiveSet, ObserveError> {
    let writer = &context.runtime.writer;
    let begins = ON_LIVE_DATA.map(|of| String::from(ObjectName::step(&owner.name, of, "")));
    for key in writer.settled.unseen(&owner.namespace) {
        if live.get(&key).is_some() || !begins.iter().any(|begin| key.name.starts_with(begin)) {
            continue;
        }
        let Some(kind) = kind_with_key(key.kind) else { continue };
        let found = writer.get(kind, &owner.namespace, &key.name).await;
        match found.map_err(|error| ObserveError::Job(key.name.clone(), error))? {
            Some(job) if job.owner.as_ref().is_some_and(|of| *of.uid == *owner.uid) => live.put(Arc::new(job)),
            Some(_) => {}
            None => writer.settled.forget(&owner.namespace, &key),
        }
    }
    Ok(live)
}
