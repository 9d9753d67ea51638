//! Object Lock of a place of recovery points: where it is on, what belongs to a point is locked for as long as retention keeps it at
//! least. What is replaced or taken back is not: marks of owners, of copies and of drills, holds, and probes.

use jiff::Timestamp;

use super::BackupId;
use super::inventory;
use super::manifest::Manifest;
use crate::contract::{DUMP_FILE, MANIFEST_FILE, OBJECTS_FILE, SPEC_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, ObjectLock, Retention};

const DAY: i64 = 24 * 3600;
/// A lock that ends sooner than in this time is none: its moment must lie before us when the request arrives.
const SHORTEST: i64 = 300;
/// Locks of the objects of copies, which many points share, are prolonged so many times within the retention of one.
const TERMS: i64 = 4;

/// What is locked in a bucket, and for how long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Locking {
    found: Option<ObjectLock>,
    days: u32,
}

impl Locking {
    /// Asks the bucket, once per run. The note is about a bucket that does not say.
    pub(super) async fn of(bucket: &BucketClient, days: u32) -> (Self, Option<String>) {
        match bucket.object_lock().await {
            Ok(found) => (Self { found, days }, None),
            Err(error) => {
                tracing::warn!(%error, "Object Lock is not used");
                (Self::default(), Some(unknown(bucket.bucket(), &error)))
            }
        }
    }

    /// Of an object of a point: for as long as retention keeps the point, and no shorter than the bucket itself would lock it.
    pub(super) fn of_point(&self, id: &BackupId, now: Timestamp) -> Option<Retention> {
        self.until(id.created().as_second() + self.period(), now)
    }

    /// Of an object of the pool, for as long as a point of now is kept and up to one term longer: so that not every run has to
    /// prolong the locks of all.
    pub(super) fn of_pool(&self, now: Timestamp) -> Option<Retention> {
        self.until(self.term(now.as_second()), now)
    }

    /// Whether what was locked at a moment is locked no shorter than what is locked now.
    pub(super) fn is_same_term(&self, then: i64, now: Timestamp) -> bool {
        self.found.is_none() || self.term(then) >= self.term(now.as_second())
    }

    fn period(&self) -> i64 {
        i64::from(self.days) * DAY
    }

    /// The end of the term that a moment belongs to, and the retention after it.
    fn term(&self, moment: i64) -> i64 {
        let length = (self.period() / TERMS).max(DAY);
        (moment.div_euclid(length) + 1) * length + self.period()
    }

    fn until(&self, base: i64, now: Timestamp) -> Option<Retention> {
        let ObjectLock { mode, default_seconds } = self.found?;
        let until = base.max(now.as_second() + default_seconds);
        (until > now.as_second() + SHORTEST).then_some(Retention { mode, until })
    }
}

/// Until when all of a point is locked. `sent`: as the server took it in this run, for keys that may not read it back. The note is
/// about a lock that is not set.
pub(super) async fn locked_until(
    bucket: &BucketClient,
    prefix: &str,
    manifest: &Manifest,
    sent: Option<Retention>,
) -> (Option<Timestamp>, Option<String>) {
    if !bucket.locks() {
        return (None, None);
    }
    if bucket.lock_refused() {
        return (None, Some(refused(bucket.bucket())));
    }
    let files = manifest.objects.iter().filter_map(|object| object.key.rsplit('/').next());
    let mut first = None;
    for file in files.chain([MANIFEST_FILE]) {
        let until = until(bucket, &inventory::key(prefix, &manifest.id, file)).await;
        let Some(until) = until.or(sent.map(|sent| sent.until)) else { return (None, None) };
        first = Some(first.map_or(until, |first: i64| first.min(until)));
    }
    // A copy that an earlier release made has no spec, whatever its manifest says.
    if manifest.spec.is_some()
        && let Some(until) = until(bucket, &inventory::key(prefix, &manifest.id, SPEC_FILE)).await
    {
        first = first.map(|first| first.min(until));
    }
    (first.and_then(|first| Timestamp::from_second(first).ok()), None)
}

/// Until when a point may not be removed, if that lies before us.
pub(super) async fn still_locked(
    bucket: &BucketClient,
    prefix: &str,
    id: &BackupId,
    now: Timestamp,
) -> Option<Timestamp> {
    if !bucket.locks() {
        return None;
    }
    let mut last = now.as_second();
    for file in [DUMP_FILE, OBJECTS_FILE, SPEC_FILE, MANIFEST_FILE] {
        last = last.max(until(bucket, &inventory::key(prefix, id, file)).await.unwrap_or(last));
    }
    Timestamp::from_second(last).ok().filter(|last| last.as_second() > now.as_second())
}

/// What the server says of an object, if it says anything.
async fn until(bucket: &BucketClient, key: &str) -> Option<i64> {
    match bucket.retention(key, None).await {
        Ok(found) => Some(found?.until),
        Err(error) => {
            tracing::warn!(%error, key, "how long it is locked is not known");
            None
        }
    }
}

fn unknown(bucket: &str, error: &ServiceError) -> String {
    if matches!(error, ServiceError::AccessDenied { .. }) {
        return format!(
            "whether Object Lock of bucket \"{bucket}\" is on is not known: its keys lack s3:GetBucketObjectLockConfiguration"
        );
    }
    format!("whether Object Lock is on is not known: {error}")
}

pub(super) fn refused(bucket: &str) -> String {
    format!("Object Lock of bucket \"{bucket}\" is on, and points are not locked: its keys lack s3:PutObjectRetention")
}

/// That what is there already is not locked for longer.
pub(super) fn not_prolonged(bucket: &str) -> String {
    format!(
        "Object Lock of bucket \"{bucket}\" is on, and objects of earlier runs are not locked for longer: its keys lack \
         s3:PutObjectRetention or s3:GetObjectRetention"
    )
}

/// What a place tells of its lock.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<String>);

impl Notes {
    pub(super) fn add(&mut self, note: Option<String>) {
        self.0.extend(note.filter(|note| !self.0.contains(note)));
    }

    pub(super) fn told(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::agent::retention;
    use crate::services::bucket::LockMode;

    const NOW: i64 = 1_800_000_000;

    fn locking(default_days: i64, days: u32) -> Locking {
        let found = ObjectLock { mode: LockMode::Governance, default_seconds: default_days * DAY };
        Locking { found: Some(found), days }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    /// The first moment at which retention removes a point is one at which it is no longer locked.
    #[test]
    fn a_point_is_locked_for_as_long_as_it_is_kept() {
        let id = BackupId::new(at(NOW));
        let until = |locking: Locking, now| locking.of_point(&id, at(now)).map(|retention| retention.until);
        let kept = until(locking(0, 7), NOW + 3600).expect("a lock");
        assert_eq!(kept, NOW + 7 * DAY, "whenever its objects are written");
        let days = SignedDuration::from_hours(7 * 24);
        assert!(!retention::older(at(kept), &id, days) && retention::older(at(kept + 1), &id, days));
        assert_eq!(until(locking(30, 7), NOW + 60), Some(NOW + 60 + 30 * DAY), "no shorter than the bucket would");
        assert_eq!(until(locking(0, 7), NOW + 8 * DAY), None, "an old one that is copied late");
        assert_eq!(until(Locking { found: None, days: 7 }, NOW), None);
    }

    /// Whatever is listed at a moment is locked until the point that lists it goes, and few runs prolong the locks.
    #[test]
    fn objects_of_copies_are_locked_in_terms() {
        for days in [1, 3, 30] {
            let locking = locking(0, days);
            let (mut prolonged, mut locked_at) = (0, NOW);
            for hour in 0..24 * 30 {
                let now = NOW + hour * 3600;
                if !locking.is_same_term(locked_at, at(now)) {
                    (prolonged, locked_at) = (prolonged + 1, now);
                }
                let until = locking.of_pool(at(locked_at)).expect("a lock").until;
                let least = i64::from(days) * DAY;
                assert!(until >= now + least && until <= now + least + (least / TERMS).max(DAY), "{days} {hour}");
            }
            assert!(prolonged <= 30, "{prolonged}");
        }
        assert!(Locking::default().is_same_term(0, at(NOW)));
    }
}
