//! Removes what `retention` names. Runs only after a good backup, and its failure is not the backup's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::retention::{Backup, expired, is_leftover};
use super::{BackupId, DumpArgs};
use crate::contract::{DUMP_FILE, MANIFEST_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Object};

/// Removes old backups and leftovers, and says how many backups are gone. Anything else under the prefix is left alone.
pub(super) async fn prune(bucket: &BucketClient, args: &DumpArgs, now: Timestamp, stop: &CancellationToken) -> u32 {
    let removed = match bucket.list(&args.prefix).await {
        Ok(objects) => remove_expired(bucket, args, now, &objects, stop).await,
        Err(error) => {
            tracing::warn!(%error, "old backups are not removed");
            0
        }
    };
    if let Err(error) = abort_leftovers(bucket, &args.prefix, now).await {
        tracing::warn!(%error, "unfinished uploads are not removed");
    }
    removed
}

async fn remove_expired(
    bucket: &BucketClient,
    args: &DumpArgs,
    now: Timestamp,
    objects: &[Object],
    stop: &CancellationToken,
) -> u32 {
    let mut removed = 0;
    for id in expired(now, &backups(&args.prefix, objects), args.retention_days, args.minimum_kept) {
        if stop.is_cancelled() {
            break;
        }
        if let Err(error) = remove(bucket, &args.prefix, &id).await {
            tracing::warn!(%error, %id, "an old backup is not removed");
            break;
        }
        tracing::info!(%id, "old backup removed");
        removed += 1;
    }
    removed
}

/// The manifest first: a manifest always has its dump, also when we are killed in between.
pub(super) async fn remove(bucket: &BucketClient, prefix: &str, id: &BackupId) -> Result<(), ServiceError> {
    for file in [MANIFEST_FILE, DUMP_FILE] {
        bucket.delete(&format!("{prefix}{id}/{file}")).await?;
    }
    Ok(())
}

/// A run that was killed leaves its parts, which are invisible and cost.
async fn abort_leftovers(bucket: &BucketClient, prefix: &str, now: Timestamp) -> Result<(), ServiceError> {
    for upload in bucket.uploads(prefix).await? {
        if parts(prefix, &upload.key).is_some_and(|(id, _)| is_leftover(now, &id)) {
            bucket.abort_upload(&upload).await?;
        }
    }
    Ok(())
}

fn backups(prefix: &str, objects: &[Object]) -> Vec<Backup> {
    let mut found: BTreeMap<BackupId, (bool, bool)> = BTreeMap::new();
    for object in objects {
        match parts(prefix, &object.key) {
            Some((id, MANIFEST_FILE)) => found.entry(id).or_default().0 = object.size > 0,
            Some((id, DUMP_FILE)) => found.entry(id).or_default().1 = object.size > 0,
            _ => {}
        }
    }
    found.into_iter().map(|(id, (manifest, dump))| Backup { id, good: manifest && dump }).collect()
}

/// `<prefix><id>/<file>`
fn parts<'a>(prefix: &str, key: &'a str) -> Option<(BackupId, &'a str)> {
    let (id, file) = key.strip_prefix(prefix)?.split_once('/')?;
    Some((id.parse().ok()?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(keys: &[&str]) -> Vec<Object> {
        keys.iter().map(|key| Object { key: (*key).to_owned(), size: 1 }).collect()
    }

    #[test]
    fn only_manifest_and_dump_together_are_good() {
        let found = backups(
            "b/s/",
            &objects(&[
                "b/s/20260101T000000Z-aaaaa/database.dump",
                "b/s/20260101T000000Z-aaaaa/manifest.json",
                "b/s/20260102T000000Z-bbbbb/database.dump",
                "b/s/20260103T000000Z-ccccc/manifest.json",
            ]),
        );
        let good: Vec<_> = found.iter().map(|backup| (backup.id.as_str().to_owned(), backup.good)).collect();
        assert_eq!(
            good,
            [
                ("20260101T000000Z-aaaaa".to_owned(), true),
                ("20260102T000000Z-bbbbb".to_owned(), false),
                ("20260103T000000Z-ccccc".to_owned(), false),
            ]
        );
    }

    #[test]
    fn what_is_not_ours_is_not_seen() {
        let keys = [
            "b/s/notes.txt",
            "b/s/20260101T000000Z-aaaaa",
            "b/s/20260101T000000Z-aaaaa/notes.txt",
            "b/s/20260101T000000Z-aaaaa/deep/manifest.json",
            "b/s/photos/database.dump",
            "b/s2/20260101T000000Z-aaaaa/manifest.json",
            "b/s/x/20260101T000000Z-aaaaa/manifest.json",
        ];
        assert_eq!(backups("b/s/", &objects(&keys)), []);
    }
}
