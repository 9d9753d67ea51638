//! What a dump is told to be a recovery point, and what became of its copies.

use super::backup::newest_backup;
use crate::{
    contract::{self, BucketLocation, CopyTarget},
    names::{Waiting, reason},
    objects::LiveSet,
    stack::{BucketAccess, Recovery, Stack},
};

/// The arguments that the fields of the spec ask for; none without them. `verified`: a drill has found a point good. Before, and of
/// points that no drill can read, retention that waits for drills would keep everything for ever.
pub(super) fn arguments(recovery: &Recovery, verified: bool) -> Vec<String> {
    let recipients = recovery.recipients.iter().flat_map(|key| [contract::ARG_RECIPIENT, key]);
    let mut arguments: Vec<String> = recipients.map(str::to_owned).collect();
    if recovery.include_bucket {
        arguments.push(contract::ARG_OBJECTS.to_owned());
        let except = recovery.except.iter().flat_map(|folder| [contract::ARG_OBJECTS_EXCEPT, folder]);
        arguments.extend(except.map(str::to_owned));
        if let Some(to) = recovery.replica.as_ref().filter(|_| !recovery.copies.is_empty()) {
            arguments.extend([contract::ARG_REPLICA.to_owned(), serde_json::to_string(to).unwrap_or_default()]);
        }
    }
    let readable = recovery.recipients.is_empty() || recovery.identity.is_some();
    if verified && readable && recovery.verify.as_ref().is_some_and(|verify| !verify.suspend) {
        arguments.push(contract::ARG_VERIFIED.to_owned());
    }
    arguments
}

/// The variables, with the keys of the other buckets.
pub(super) fn variables(recovery: &Recovery) -> Vec<(&'static str, String)> {
    let mut variables: Vec<_> = source(recovery.source.as_deref()).into_iter().collect();
    if !recovery.copies.is_empty() {
        let copies = recovery.copies.iter().map(|copy| CopyTarget {
            location: location(&copy.access),
            prefix: copy.prefix.clone(),
            retention_days: copy.retention_days.unsigned_abs(),
            minimum_kept: copy.minimum_kept.unsigned_abs(),
        });
        let text = serde_json::to_string(&copies.collect::<Vec<_>>()).unwrap_or_default();
        variables.push((contract::ENV_COPIES, text));
    }
    variables
}

/// The application's bucket, where it is another one than that of the backups.
pub(super) fn source(access: Option<&BucketAccess>) -> Option<(&'static str, String)> {
    Some((contract::ENV_SOURCE, serde_json::to_string(&location(access?)).unwrap_or_default()))
}

pub(super) fn location(access: &BucketAccess) -> BucketLocation {
    BucketLocation {
        endpoint: access.endpoint.clone(),
        region: access.region.clone(),
        bucket: access.name.clone(),
        force_path_style: access.force_path_style,
        access_key_id: access.keys.as_ref().map(|keys| keys.id.clone()),
        secret_access_key: access.keys.as_ref().map(|keys| keys.secret.clone()),
        session_token: access.session_token().map(|token| token.value.clone()),
        ca: access.ca.clone(),
    }
}

/// Why a recovery point is not where the spec wants it.
pub(super) fn not_copied(stack: &Stack, live: &LiveSet) -> Option<Waiting> {
    let recovery = &stack.backup.as_ref()?.recovery;
    if recovery.copies.is_empty() {
        return None;
    }
    let newest = newest_backup(stack, live);
    let told = |why: Option<String>, reason| why.map(|why| Waiting::new(reason, why));
    told(newest.not_copied, reason::COPY_FAILED).or_else(|| told(newest.objects_not_copied, reason::BUCKET_NOT_COPIED))
}
