//! The recovery point of a release: a good backup that is young enough or made now, and held in its folder, so that no retention
//! removes it as long as the release is in the history.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::inventory::{self, BackupFolder, Found};
use super::manifest::{Contents, Manifest};
use super::{BackupId, DumpArgs, copies};
use crate::contract::{DUMP_FILE, DumpRecord, HOLD_OF_RESTORE, MANIFEST_FILE, hold_file};
use crate::services::ServiceError;
use crate::services::bucket::BucketClient;

/// The newest good backup of this owner that is young enough, held. `None`: there is none, and one has to be made.
pub(super) async fn reused(
    bucket: &BucketClient,
    args: &DumpArgs,
    now: Timestamp,
) -> Result<Option<(DumpRecord, Manifest)>, ServiceError> {
    let (Some(hold), Some(seconds), Some(owner)) = (&args.hold, args.reuse_within_seconds, &args.owner) else {
        return Ok(None);
    };
    let mut entries = inventory::read(bucket, &args.prefix).await?;
    let newest = newest(&entries, owner, now - SignedDuration::from_secs(seconds.into())).cloned();
    let Some(id) = &newest else { return Ok(None) };
    let key = inventory::key(&args.prefix, id, MANIFEST_FILE);
    let body = bucket.get(&key).await?.unwrap_or_default();
    let Some(manifest) = inventory::parse(&body, id) else { return Ok(None) };
    put(bucket, args, id, hold, now).await?;
    // It was removed while the hold was written: then the hold holds nothing.
    if bucket.get(&key).await?.is_none() {
        bucket.delete(&inventory::key(&args.prefix, id, &hold_file(hold))).await?;
        return Ok(None);
    }
    // This run makes no backup, so nothing else comes after it.
    release_holds(bucket, args, owner, &mut entries).await;
    let not_copied = entries.iter().find(|entry| entry.id == *id).and_then(|entry| copies::lacking(args, entry));
    if let Some(problem) = &not_copied {
        tracing::warn!(problem, "a copy is missing");
    }
    tracing::info!(%id, hold, "a backup that is young enough is held as the recovery point");
    let record = record(&manifest, format!("s3://{}/{key}", bucket.bucket()));
    Ok(record.map(|record| (DumpRecord { not_copied, ..record }, manifest)))
}

/// The newest whole backup of an owner that was begun after a moment.
fn newest<'a>(entries: &'a [BackupFolder], owner: &str, after: Timestamp) -> Option<&'a BackupId> {
    let good = |entry: &&BackupFolder| {
        let whole = matches!(&entry.manifest, Found::Of { owner: Some(of), whole: true } if of == owner);
        whole && entry.id.created() >= after
    };
    entries.iter().filter(good).map(|entry| &entry.id).max()
}

/// Writes a hold. One that is there already holds as well.
pub(super) async fn put(
    bucket: &BucketClient,
    args: &DumpArgs,
    id: &BackupId,
    hold: &str,
    now: Timestamp,
) -> Result<(), ServiceError> {
    let body = json!({"owner": args.owner, "release": hold, "heldAt": now.to_string()});
    bucket.create_object(&inventory::key(&args.prefix, id, &hold_file(hold)), body.to_string().into_bytes()).await?;
    Ok(())
}

/// Takes back the hold of a backup that did not come to be.
pub(super) async fn withdraw(bucket: &BucketClient, args: &DumpArgs, id: &BackupId, hold: &str) {
    let key = inventory::key(&args.prefix, id, &hold_file(hold));
    if let Err(error) = bucket.delete(&key).await {
        tracing::warn!(%error, key, "the hold of a broken backup is left in the bucket");
    }
}

/// Removes the holds of releases that are no longer in the history, from backups of this owner.
pub(super) async fn release_holds(bucket: &BucketClient, args: &DumpArgs, owner: &str, entries: &mut [BackupFolder]) {
    let Some(own) = &args.hold else { return };
    let kept: BTreeSet<String> = args.held.iter().chain([own]).map(|hold| hold_file(hold)).collect();
    for entry in entries.iter_mut().filter(|entry| entry.owner() == Some(owner)) {
        let is_over = |file: &&String| !kept.contains(*file) && !file.starts_with(HOLD_OF_RESTORE);
        let over: Vec<String> = entry.holds.iter().filter(is_over).cloned().collect();
        for file in over {
            let key = inventory::key(&args.prefix, &entry.id, &file);
            match bucket.delete(&key).await {
                Ok(()) => drop(entry.holds.remove(&file)),
                Err(error) => tracing::warn!(%error, key, "a hold is not removed"),
            }
        }
    }
}

fn record(manifest: &Manifest, location: String) -> Option<DumpRecord> {
    let dump = manifest.object(DUMP_FILE)?;
    Some(DumpRecord {
        id: manifest.id.to_string(),
        at: manifest.created_at,
        size_bytes: i64::try_from(dump.size).unwrap_or(i64::MAX),
        database_bytes: manifest.contents.as_ref().and_then(|contents| contents.database_bytes),
        sha256: dump.sha256.clone(),
        location,
        points: Vec::new(),
        removed: 0,
        shared_with: None,
        without_owner: 0,
        not_removed: None,
        adoption: None,
        not_locked: None,
        rows: manifest.contents.as_ref().map(Contents::total_rows),
        objects: manifest.bucket.as_ref().map(|half| half.count),
        not_whole: None,
        copied: 0,
        not_copied: None,
        objects_not_copied: None,
        locked_until: None,
        lock_note: None,
        reused: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_young_whole_backup_of_the_owner_is_used_again() {
        let entry = |id: &str, owner: Option<&str>, whole| BackupFolder {
            id: id.parse().expect("an id"),
            manifest: Found::Of { owner: owner.map(str::to_owned), whole },
            dump: Some(1),
            holds: BTreeSet::new(),
            verified: false,
            copied: BTreeSet::new(),
            lists: false,
        };
        let entries = [
            entry("20260101T000000Z-aaaaa", Some("u/s"), true),
            entry("20260101T010000Z-aaaaa", Some("u/s"), true),
            entry("20260101T020000Z-aaaaa", Some("u/s"), false),
            entry("20260101T030000Z-aaaaa", Some("v/s"), true),
            entry("20260101T040000Z-aaaaa", None, true),
        ];
        let newest = |after: &str| newest(&entries, "u/s", after.parse().expect("a moment")).map(BackupId::as_str);
        assert_eq!(newest("2026-01-01T00:00:00Z"), Some("20260101T010000Z-aaaaa"));
        assert_eq!(newest("2026-01-01T01:00:01Z"), None);
    }
}
