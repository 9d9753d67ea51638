//! Whose the backups under a prefix are: the marker there, and taking over what was another's.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::DumpArgs;
use super::inventory::{self, BackupFolder, LONGEST_MANIFEST};
use crate::contract::{ADOPT_NONE, Adoption, MANIFEST_FILE, MARKER_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Headers, Replaced};

/// What a dump says of itself, so that one without a manifest has an owner too.
pub(super) const SAYS: &str = "rorun-owner";
/// The version of the form of a marker.
const VERSION: &str = "backup-owner.rorun.app/v1";

/// The content of the marker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    api_version: String,
    owner: String,
    #[serde(default, rename = "stackUID", skip_serializing_if = "Option::is_none")]
    stack_uid: Option<String>,
    created_at: Timestamp,
}

/// Whose the marker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// One's own.
    Own,
    /// Another owner's.
    Foreign(String),
    /// Something else is under its key.
    Unreadable,
}

fn marker(args: &DumpArgs, owner: &str, now: Timestamp) -> Vec<u8> {
    let marker = Marker {
        api_version: VERSION.to_owned(),
        owner: owner.to_owned(),
        stack_uid: args.stack_uid.clone(),
        created_at: now,
    };
    serde_json::to_vec_pretty(&marker).unwrap_or_default()
}

fn read(body: &[u8], owner: &str) -> Mark {
    match serde_json::from_slice::<Marker>(body) {
        Ok(marker) if marker.api_version == VERSION && marker.owner == owner => Mark::Own,
        Ok(marker) if marker.api_version == VERSION && crate::contract::is_owner(&marker.owner) => {
            Mark::Foreign(marker.owner)
        }
        _ => Mark::Unreadable,
    }
}

/// Reads the owner of the prefix, and marks a prefix without one.
pub(super) async fn mark(
    bucket: &BucketClient,
    args: &DumpArgs,
    owner: &str,
    now: Timestamp,
) -> Result<Mark, ServiceError> {
    let key = format!("{}{MARKER_FILE}", args.prefix);
    if let Some(found) = bucket.get_tagged(&key, LONGEST_MANIFEST).await? {
        return Ok(read(&found.body, owner));
    }
    bucket.create_object(&key, marker(args, owner, now)).await?;
    // On a server without conditional writes two may have marked it at once: what is there in the end counts.
    let found = bucket.get_tagged(&key, LONGEST_MANIFEST).await?;
    Ok(found.map_or(Mark::Unreadable, |found| read(&found.body, owner)))
}

/// What was rewritten, and what could not be.
#[derive(Debug, Default)]
struct Rewritten {
    manifests: u32,
    marker: bool,
    failures: u32,
    first: Option<String>,
}

impl Rewritten {
    fn failed(&mut self, what: &str, why: impl std::fmt::Display) {
        self.failures += 1;
        self.first.get_or_insert_with(|| format!("{what}: {why}"));
    }
}

/// Makes the backups of exactly this owner one's own, and the marker if it is that owner's. Each is replaced only if it still
/// is what was read. Entries that were adopted are one's own afterwards.
pub(super) async fn adopt(
    bucket: &BucketClient,
    args: &DumpArgs,
    (owner, wanted): (&str, &str),
    entries: &mut [BackupFolder],
    now: Timestamp,
) -> (Adoption, Rewrote) {
    let mut done = Rewritten::default();
    let is_wanted =
        |entry: &BackupFolder| if wanted == ADOPT_NONE { entry.has_no_owner() } else { entry.owner() == Some(wanted) };
    if wanted != owner {
        for entry in entries.iter_mut().filter(|entry| is_wanted(entry)) {
            rewrite(bucket, args, ((owner, wanted), now), entry, &mut done).await;
        }
        rewrite_marker(bucket, args, (owner, wanted), now, &mut done).await;
    }
    let rewrote = Rewrote { marker: done.marker };
    (
        Adoption { value: wanted.to_owned(), done: done.failures == 0, message: told(args, owner, wanted, &done) },
        rewrote,
    )
}

/// Whether the marker is that of this stack now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rewrote {
    pub(super) marker: bool,
}

fn told(args: &DumpArgs, owner: &str, wanted: &str, done: &Rewritten) -> String {
    let of = if wanted == ADOPT_NONE { "without an owner".to_owned() } else { format!("of {wanted}") };
    if wanted == owner {
        return format!("adopt-backups names {owner}, which is this stack's own owner: nothing was changed");
    }
    if done.manifests == 0 && !done.marker && done.failures == 0 {
        return format!("adopt-backups: there are no backups {of} under {}: nothing was changed", args.prefix);
    }
    let adopted = format!("{} backups {of} under {} are this stack's own now", done.manifests, args.prefix);
    match &done.first {
        None => adopted,
        Some(first) => format!("{adopted}; {} could not be adopted, the first is {first}", done.failures),
    }
}

/// A lock that ends within these seconds is not set again: the clock of the server may be ahead.
const ENDS_SOON: i64 = 300;

async fn rewrite(
    bucket: &BucketClient,
    args: &DumpArgs,
    ((owner, wanted), now): ((&str, &str), Timestamp),
    entry: &mut BackupFolder,
    done: &mut Rewritten,
) {
    let key = inventory::key(&args.prefix, &entry.id, MANIFEST_FILE);
    let replaced = async {
        let Some(found) = bucket.get_tagged(&key, LONGEST_MANIFEST).await? else { return Ok(None) };
        // As it is now: it may be another's since it was listed.
        let of = inventory::parse(&found.body, &entry.id).map(|manifest| manifest.owner);
        let still = of.is_some_and(|of| of.as_deref().unwrap_or(ADOPT_NONE) == wanted);
        let body = inventory::with_owner(&found.body, owner, args.stack_uid.as_deref()).filter(|_| still);
        let Some(body) = body else { return Ok(None) };
        // One that is locked stays so in its new version.
        let retention = if bucket.locks() { bucket.retention(&key, None).await? } else { None };
        // A lock that is over cannot be set again.
        let retention = retention.filter(|retention| retention.until > now.as_second() + ENDS_SOON);
        bucket.replace_with(&key, body, &Headers::default().locked(retention), &found.tag).await.map(Some)
    };
    match replaced.await {
        Ok(Some(Replaced::Now)) => {
            done.manifests += 1;
            tracing::info!(id = %entry.id, "backup adopted");
            if let inventory::Found::Of { owner: of, .. } = &mut entry.manifest {
                *of = Some(owner.to_owned());
            }
        }
        Ok(Some(Replaced::Changed) | None) => done.failed(&key, "it was changed meanwhile"),
        Err(error) => done.failed(&key, ServiceError::to_string(&error)),
    }
}

async fn rewrite_marker(
    bucket: &BucketClient,
    args: &DumpArgs,
    (owner, wanted): (&str, &str),
    now: Timestamp,
    done: &mut Rewritten,
) {
    let key = format!("{}{MARKER_FILE}", args.prefix);
    let replaced = async {
        let Some(found) = bucket.get_tagged(&key, LONGEST_MANIFEST).await? else { return Ok(None) };
        if read(&found.body, owner) != Mark::Foreign(wanted.to_owned()) {
            return Ok(None);
        }
        bucket.replace(&key, marker(args, owner, now), &found.tag).await.map(Some)
    };
    match replaced.await {
        Ok(Some(Replaced::Now)) => done.marker = true,
        Ok(None) => {}
        Ok(Some(Replaced::Changed)) => done.failed(&key, "it was changed meanwhile"),
        Err(error) => done.failed(&key, ServiceError::to_string(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_for_whose_it_is() {
        let body = |version: &str, owner: &str| {
            let marker =
                serde_json::json!({"apiVersion": version, "owner": owner, "createdAt": "2026-01-01T00:00:00Z"});
            marker.to_string().into_bytes()
        };
        assert_eq!(read(&body(VERSION, "a/s"), "a/s"), Mark::Own);
        assert_eq!(read(&body(VERSION, "b/s"), "a/s"), Mark::Foreign("b/s".to_owned()));
        for (version, owner) in [("backup-owner.rorun.app/v9", "a/s"), (VERSION, "no owner"), (VERSION, "")] {
            assert_eq!(read(&body(version, owner), "a/s"), Mark::Unreadable, "{version} {owner}");
        }
        assert_eq!(read(b"", "a/s"), Mark::Unreadable);
    }
}
