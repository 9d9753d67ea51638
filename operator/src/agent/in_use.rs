//! A point that a restore reads is held by an object in its folder, so that no retention removes it, be it of another stack.
//!
//! A hold has an end, since nobody gives back that of a `RorunRestore` that was deleted. Each step that reads the point puts it off.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::BackupId;
use super::inventory::{self, BackupFolder};
use crate::contract::{HOLD_OF_RESTORE, use_file};
use crate::services::ServiceError;
use crate::services::bucket::BucketClient;

/// Twice as long as a step may take, so that a clock that is hours off matters to none.
const LASTS: SignedDuration = SignedDuration::from_hours(48);

/// What the object says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hold {
    /// The uid of the `RorunRestore`.
    restore: String,
    until: Timestamp,
}

impl Hold {
    /// One of a clock that is far ahead would hold for ever.
    fn lasts(&self, now: Timestamp) -> bool {
        self.until > now && self.until < now + LASTS + LASTS
    }
}

/// Holds a point from now on.
pub(super) async fn put(
    bucket: &BucketClient,
    prefix: &str,
    (id, uid): (&BackupId, &str),
    now: Timestamp,
) -> Result<(), ServiceError> {
    let hold = Hold { restore: uid.to_owned(), until: now + LASTS };
    let body = serde_json::to_vec(&hold).unwrap_or_default();
    bucket.put(&inventory::key(prefix, id, &use_file(uid)), body).await
}

/// Gives a hold back. One that is left has an end.
pub(super) async fn give_back(bucket: &BucketClient, prefix: &str, (id, uid): (&BackupId, &str)) {
    let key = inventory::key(prefix, id, &use_file(uid));
    if let Err(error) = bucket.delete(&key).await {
        tracing::warn!(%error, key, "the hold of a restore is left until its end");
    }
}

/// Removes the holds of restores that have ended, from backups of this owner.
pub(super) async fn forget(
    bucket: &BucketClient,
    prefix: &str,
    (owner, now): (&str, Timestamp),
    entries: &mut [BackupFolder],
) {
    for entry in entries.iter_mut().filter(|entry| entry.owner() == Some(owner)) {
        let files = entry.holds.iter().filter(|file| file.starts_with(HOLD_OF_RESTORE));
        for file in files.cloned().collect::<Vec<_>>() {
            let key = inventory::key(prefix, &entry.id, &file);
            match over(bucket, &key, now).await {
                Ok(true) => drop(entry.holds.remove(&file)),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, key, "the hold of a restore is not removed"),
            }
        }
    }
}

/// Removes a hold that has ended, or says no end. Gives whether it did.
async fn over(bucket: &BucketClient, key: &str, now: Timestamp) -> Result<bool, ServiceError> {
    let body = bucket.get(key).await?.unwrap_or_default();
    if serde_json::from_slice(&body).is_ok_and(|hold: Hold| hold.lasts(now)) {
        return Ok(false);
    }
    bucket.delete(key).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::fresh(48, true)]
    #[case::of_a_clock_ahead(50, true)]
    #[case::about_to_end(1, true)]
    #[case::ended(0, false)]
    #[case::of_another_year(9000, false)]
    fn a_hold_lasts_until_its_end(#[case] hours: i64, #[case] expected: bool) {
        let now = Timestamp::UNIX_EPOCH;
        let hold = Hold { restore: "u".to_owned(), until: now + SignedDuration::from_hours(hours) };
        assert_eq!(hold.lasts(now), expected);
    }
}
