//! Removes the stack's own backups that `retention` names. It runs only after a good backup, which its failure leaves good.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::inventory::{self, BackupFolder, Found, parts};
use super::object_lock;
use super::retention::{Backup, Spared, expired, is_leftover, older};
use super::{BackupId, DumpArgs, owner};
use crate::contract::{DUMP_FILE, MANIFEST_FILE, OBJECTS_FILE, SPEC_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Version};

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    pub(super) removed: BTreeSet<BackupId>,
    failures: BTreeMap<BackupId, ServiceError>,
    locked: BTreeMap<BackupId, Timestamp>,
}

impl Pruned {
    /// Why old backups are still there.
    pub(super) fn problem(&self, prefix: &str) -> Option<String> {
        let (oldest, error) = self.failures.first_key_value()?;
        let count = self.failures.len();
        let word = if count == 1 { "backup" } else { "backups" };
        Some(format!("{count} old {word} under {prefix} could not be removed, the oldest is {oldest}: {error}"))
    }

    /// What Object Lock keeps longer than retention does.
    pub(super) fn kept(&self, prefix: &str) -> Option<String> {
        let (oldest, until) = self.locked.first_key_value()?;
        let count = self.locked.len();
        let words = if count == 1 { "backup is" } else { "backups are" };
        Some(format!("{count} old {words} kept under {prefix} by Object Lock, the oldest, {oldest}, until {until}"))
    }
}

/// Removes the old backups of this owner. One that cannot be removed does not keep the others.
pub(super) async fn prune(
    bucket: &BucketClient,
    args: &DumpArgs,
    (owner, now): (&str, Timestamp),
    (entries, spared): (&[BackupFolder], &Spared),
    stop: &CancellationToken,
) -> Pruned {
    let mut pruned = Pruned::default();
    let own = own(bucket, args, (owner, now), entries).await;
    let good: BTreeSet<_> = own.iter().filter(|backup| backup.good).map(|backup| backup.id.clone()).collect();
    for id in expired(now, &own, args.retention_days, args.minimum_kept) {
        if stop.is_cancelled() {
            break;
        }
        if args.spare.iter().any(|spared| *spared == id.to_string()) || (good.contains(&id) && spared.keeps(&id)) {
            continue;
        }
        if let Some(until) = object_lock::still_locked(bucket, &args.prefix, &id, now).await {
            // To remove it would only hide it, and what is hidden nobody restores.
            tracing::info!(%id, %until, "an old backup is locked");
            pruned.locked.insert(id, until);
            continue;
        }
        let leftover = entries.iter().find(|entry| entry.id == id && entry.manifest == Found::Missing);
        // Asked just before: a release may have taken it for its way back meanwhile.
        let removed = match inventory::is_held(bucket, &args.prefix, &id).await {
            Ok(true) if leftover.is_none() => continue,
            Ok(true) => remove_leftover(bucket, &args.prefix, leftover).await,
            Ok(false) => remove(bucket, &args.prefix, &id).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                tracing::info!(%id, "old backup removed");
                pruned.removed.insert(id);
            }
            Err(error) => {
                tracing::warn!(%error, %id, "an old backup is not removed");
                pruned.failures.insert(id, error);
            }
        }
    }
    pruned
}

/// A backup without a manifest is no way back, so what holds it holds nothing.
async fn remove_leftover(
    bucket: &BucketClient,
    prefix: &str,
    leftover: Option<&BackupFolder>,
) -> Result<(), ServiceError> {
    let Some(entry) = leftover else { return Ok(()) };
    remove(bucket, prefix, &entry.id).await?;
    for hold in &entry.holds {
        bucket.delete(&inventory::key(prefix, &entry.id, hold)).await?;
    }
    Ok(())
}

/// The backups that are this owner's to remove. One without a manifest is a leftover of this owner if its dump says so.
async fn own(
    bucket: &BucketClient,
    args: &DumpArgs,
    (owner, now): (&str, Timestamp),
    entries: &[BackupFolder],
) -> Vec<Backup> {
    let mut own = Vec::new();
    // What is held is not counted either: it never makes another one the oldest.
    for entry in entries.iter().filter(|entry| entry.holds.is_empty() || entry.manifest == Found::Missing) {
        let good = match &entry.manifest {
            Found::Of { owner: Some(of), whole } if of == owner => *whole,
            Found::Missing if is_leftover(now, &entry.id) => {
                let file = match entry.dump {
                    Some(_) => DUMP_FILE,
                    None if entry.lists => OBJECTS_FILE,
                    None => SPEC_FILE,
                };
                let key = inventory::key(&args.prefix, &entry.id, file);
                match bucket.said_by(&key, owner::SAYS).await {
                    Ok(Some(of)) if of == owner => {}
                    Ok(_) => continue,
                    Err(error) => {
                        tracing::warn!(%error, key, "whose this is cannot be found out");
                        continue;
                    }
                }
                false
            }
            Found::Missing | Found::Unreadable | Found::Sanitized { .. } | Found::Of { .. } => continue,
        };
        // A manifest whose dump is not as it says does not count as a good one, and stays as long as a good one would.
        let broken = !good && entry.manifest != Found::Missing;
        if !broken || older(now, &entry.id, days(args)) {
            own.push(Backup { id: entry.id.clone(), good });
        }
    }
    own
}

fn days(args: &DumpArgs) -> SignedDuration {
    SignedDuration::from_hours(24 * i64::from(args.retention_days))
}

/// The dump first: if that is refused, a whole backup stays, and is tried again the next time. The manifest last: when we are
/// killed in between, it still says whose it is. Only what is there is deleted: a bucket with versioning would note the removal of
/// what never was.
pub(super) async fn remove(bucket: &BucketClient, prefix: &str, id: &BackupId) -> Result<(), ServiceError> {
    let folder = format!("{prefix}{id}/");
    let listed = bucket.list(&folder).await?;
    let rank = |file: &str| match file {
        DUMP_FILE => 0,
        MANIFEST_FILE => 2,
        _ => 1,
    };
    let mut files: Vec<&str> = listed.iter().filter_map(|object| object.key.strip_prefix(&folder)).collect();
    files.retain(|file| inventory::is_part(file));
    files.sort_by_key(|file| rank(file));
    for file in files {
        bucket.delete(&format!("{folder}{file}")).await?;
    }
    Ok(())
}

/// A run that was killed leaves its parts, which are invisible and cost.
pub(super) async fn abort_leftovers(bucket: &BucketClient, prefix: &str, now: Timestamp) -> Result<(), ServiceError> {
    for upload in bucket.uploads(prefix).await? {
        if parts(prefix, &upload.key).is_some_and(|(id, _)| is_leftover(now, &id)) {
            bucket.abort_upload(&upload).await?;
        }
    }
    Ok(())
}

/// In a bucket with versioning a removal only hides: deletes every version of what was removed just now, or in an earlier run
/// and is older than what is kept. Gives what Object Lock keeps.
pub(super) async fn delete_versions(
    bucket: &BucketClient,
    args: &DumpArgs,
    removed: &BTreeSet<BackupId>,
    now: Timestamp,
) -> Result<Option<String>, ServiceError> {
    let versions = bucket.versions(&args.prefix).await?;
    let (mut kept, mut last) = (BTreeSet::new(), 0);
    for version in hidden(&args.prefix, &versions, |id| removed.contains(id) || older(now, id, days(args))) {
        // Without the word that it was deleted what is locked would be there again.
        if version.marker && kept.contains(&version.key) {
            continue;
        }
        let Err(error) = bucket.delete_version(version).await else { continue };
        let locked = if bucket.locks() { bucket.retention(&version.key, Some(version)).await? } else { None };
        match locked {
            Some(locked) if locked.until >= now.as_second() => {
                kept.insert(&version.key);
                last = last.max(locked.until);
            }
            _ => return Err(error),
        }
    }
    let until = Timestamp::from_second(last).unwrap_or(now);
    let count = kept.len();
    let told =
        || format!("{count} objects of removed backups under {} are kept by Object Lock until {until}", args.prefix);
    Ok((count > 0).then(told))
}

/// The versions of backups of which nothing is left to see. Those that say that an object was deleted come last: until the
/// others are gone they hide them.
fn hidden<'a>(prefix: &str, versions: &'a [Version], gone: impl Fn(&BackupId) -> bool) -> Vec<&'a Version> {
    let mut by_id: BTreeMap<BackupId, Vec<&Version>> = BTreeMap::new();
    for version in versions {
        if let Some((id, file)) = parts(prefix, &version.key)
            && inventory::is_part(file)
        {
            by_id.entry(id).or_default().push(version);
        }
    }
    by_id.retain(|id, all| gone(id) && all.iter().all(|version| version.marker || !version.latest));
    let mut hidden: Vec<_> = by_id.into_values().flatten().collect();
    hidden.sort_by_key(|version| version.marker);
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(key: &str, latest: bool, marker: bool) -> Version {
        Version { key: format!("b/s/{key}"), id: format!("{key}{latest}{marker}"), latest, marker }
    }

    #[test]
    fn only_versions_of_what_is_gone_are_deleted() {
        let (gone, there, young) = ("20260101T000000Z-aaaaa", "20260102T000000Z-bbbbb", "20260103T000000Z-ccccc");
        let mut all = Vec::new();
        for (id, hidden) in [(gone, true), (there, false), (young, true)] {
            for file in [MANIFEST_FILE, DUMP_FILE] {
                all.push(version(&format!("{id}/{file}"), !hidden, false));
                all.extend(hidden.then(|| version(&format!("{id}/{file}"), true, true)));
            }
        }
        all.push(version(&format!("{gone}/notes.txt"), false, false));
        all.push(version("photos/database.dump", false, false));
        all.push(version("owner.json", false, false));
        let found = hidden("b/s/", &all, |id| id.as_str() != young);
        let keys: Vec<_> =
            found.iter().map(|version| (version.key.trim_start_matches("b/s/"), version.marker)).collect();
        let of = |file: &str| format!("{gone}/{file}");
        let (manifest, dump) = (of(MANIFEST_FILE), of(DUMP_FILE));
        assert_eq!(keys, [(&*manifest, false), (&*dump, false), (&*manifest, true), (&*dump, true)]);
    }

    #[test]
    fn one_file_that_is_still_there_keeps_the_versions_of_both() {
        let id = "20260101T000000Z-aaaaa";
        let all = [
            version(&format!("{id}/{DUMP_FILE}"), false, false),
            version(&format!("{id}/{DUMP_FILE}"), true, true),
            version(&format!("{id}/{MANIFEST_FILE}"), true, false),
        ];
        assert_eq!(hidden("b/s/", &all, |_| true), Vec::<&Version>::new());
    }
}
