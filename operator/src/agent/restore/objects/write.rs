//! What is done with one object.

use tokio_util::sync::CancellationToken;

use super::{Objects, Work};
use crate::agent::pool::Name;
use crate::agent::restore::error::RestoreError;
use crate::agent::transfer::{self, Origin, Says, Transferred, Way, transfer};
use crate::agent::{ListedObject, Manifest};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Current, Past, bare};

/// S3 takes at most 10,000 parts: with these of 512 MiB a copy may have as much as an object may.
const PART: u64 = 512 << 20;

/// What came of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It is as it was.
    Nothing,
    /// It has a new version, or is deleted.
    Changed,
    /// Its version is gone.
    Missing(String),
    /// It is not listed, and was there.
    Left(String),
    /// Somebody else's, in a bucket that is to be filled.
    Found(String),
}

/// Where the content of a listed object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In the bucket itself, as the version that is listed.
    Version,
    /// In the pool beside the point, under this key, with what the copy says of itself.
    Pool(String, Says),
}

/// When a point was made, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    begun: i64,
    ended: i64,
}

impl Moment {
    /// `listed`: when the list was written, by the clock of the server.
    pub(super) fn new(manifest: &Manifest, listed: Option<i64>) -> Self {
        let begun = manifest.started_at.as_second();
        Self { begun: listed.map_or(begun, |listed| listed.min(begun)), ended: manifest.created_at.as_second() }
    }

    /// Whether an object was there before the point was made, and stayed until it was: then the list should have it. Servers tell
    /// whole seconds. What was deleted meanwhile is judged by the list.
    fn knows(self, past: &[Past]) -> bool {
        let before = || past.iter().filter(|event| event.modified < self.begun);
        let meanwhile = |event: &Past| (self.begun..=self.ended + 1).contains(&event.modified);
        let deleted = past.iter().any(|event| event.marker && meanwhile(event));
        let last = before().map(|event| event.modified).max();
        let mut last = before().filter(|event| Some(event.modified) == last).peekable();
        !deleted && last.peek().is_some() && last.all(|event| !event.marker)
    }
}

impl Objects<'_> {
    /// Deletes an object that is newer than the point, so that it stays as an old version. `SeaweedFS` leaves some keys out of long
    /// lists of versions, so an object that is not listed and was there, or of which the server does not tell when it was
    /// written, stays. In a bucket that is to be filled everything stays.
    pub(super) async fn hide_one(&self, object: Current, stop: &CancellationToken) -> Result<Done, RestoreError> {
        refuse_stopped(stop)?;
        if self.fills {
            return Ok(Done::Found(object.key));
        }
        let past = self.bucket.past(&object.key).await?;
        if past.is_empty() || self.moment.knows(&past) {
            return Ok(Done::Left(object.key));
        }
        self.bucket.hide(&object.key).await?;
        Ok(Done::Changed)
    }

    /// Makes the listed version the current one, unless the current one is the same.
    pub(super) async fn put_back_one(
        &self,
        listed: ListedObject,
        work: Work,
        stop: &CancellationToken,
    ) -> Result<Done, RestoreError> {
        refuse_stopped(stop)?;
        if self.fills && self.is_taken(&listed, stop).await? {
            return Ok(Done::Found(listed.key));
        }
        if work == Work::Look {
            let source = self.source(&listed).await?;
            let whole = match &source {
                Some(Source::Pool(copy, says)) => is_whole(&self.point.bucket, copy, says, stop).await?,
                found => found.is_some(),
            };
            return Ok(if whole { Done::Nothing } else { Done::Missing(listed.key) });
        }
        let ListedObject { key, version_id, size, etag } = &listed;
        let tag = bare(etag);
        let current = self.bucket.look(key, None).await?.filter(|current| current.size == *size);
        if current.as_ref().is_some_and(|current| !tag.is_empty() && current.tag == tag) {
            return Ok(Done::Nothing);
        }
        let Some(source) = self.source(&listed).await? else {
            return Err(RestoreError::Failed(format!("failed to restore {key}: its version went meanwhile")));
        };
        if current.is_some() && self.has_content(&source, &listed, stop).await? {
            return Ok(Done::Nothing);
        }
        match &source {
            Source::Version if *size > self.copied_at_once => self.copy_in_parts(&listed, stop).await?,
            Source::Version => drop(self.copier.put_back(key, version_id).await?),
            Source::Pool(_, says) => {
                let origin = self.origin(&source, &listed);
                let moved = Box::pin(transfer(origin, (&self.bucket, key, Way::Out(says)), stop)).await?;
                if !matches!(moved, Transferred::Written(_)) {
                    return Ok(Done::Missing(listed.key));
                }
            }
        }
        self.verify(&listed, current.as_ref()).await?;
        Ok(Done::Changed)
    }

    pub(super) fn origin<'b>(&'b self, source: &'b Source, listed: &'b ListedObject) -> Origin<'b> {
        match source {
            Source::Version => Origin { bucket: &self.bucket, key: &listed.key, version: Some(&listed.version_id) },
            Source::Pool(copy, _) => Origin { bucket: &self.point.bucket, key: copy, version: None },
        }
    }

    /// Where the content of a listed object is, if it is anywhere.
    pub(super) async fn source(&self, listed: &ListedObject) -> Result<Option<Source>, ServiceError> {
        let ListedObject { key, version_id, size, etag } = listed;
        if self.of.is_of(self.bucket.bucket()) {
            let found = self.bucket.look(key, Some(version_id)).await?;
            let good = |found: &Current| found.size == *size && is_like(&found.tag, bare(etag)) && !found.archived;
            if found.as_ref().is_some_and(good) {
                return Ok(Some(Source::Version));
            }
        }
        let copy = Name::of(&self.of.bucket, listed).key(&self.pool);
        let says = copy_of(&self.point.bucket, &copy, *size).await?;
        Ok(says.map(|says| Source::Pool(copy, says)))
    }

    /// Whether the current version of the same size has the content of the source. `ETag`s tell it only where they are equal: a
    /// copy of an object that was written in parts, or is encrypted, has another.
    pub(super) async fn has_content(
        &self,
        source: &Source,
        listed: &ListedObject,
        stop: &CancellationToken,
    ) -> Result<bool, RestoreError> {
        let (origin, key) = (self.origin(source, listed), &*listed.key);
        if let Source::Pool(_, Says::Sum(sum)) = source {
            let found = transfer::sum(Origin { bucket: &self.bucket, key, version: None }, stop).await?;
            return Ok(found.as_ref() == Some(sum));
        }
        let origin = origin.bucket.download(origin.key, origin.version);
        let (one, other) = tokio::try_join!(origin, self.bucket.download(key, None))?;
        let (Some(mut one), Some(mut other)) = (one, other) else { return Ok(false) };
        let (Some(mut left), Some(mut right)) = tokio::try_join!(one.next(), other.next())? else {
            // Both are empty.
            return Ok(one.size() == other.size());
        };
        loop {
            let length = left.len().min(right.len());
            if left.split_to(length) != right.split_to(length) {
                return Ok(false);
            }
            if left.is_empty() {
                let Some(next) = one.next().await? else {
                    return Ok(right.is_empty() && other.next().await?.is_none());
                };
                left = next;
            }
            if right.is_empty() {
                let Some(next) = other.next().await? else { return Ok(false) };
                right = next;
            }
        }
    }

    /// As S3 wants it of more than 5 GiB. A copy that breaks off leaves nothing.
    async fn copy_in_parts(&self, listed: &ListedObject, stop: &CancellationToken) -> Result<(), RestoreError> {
        let ListedObject { key, version_id, size, .. } = listed;
        let mut upload = self.copier.start_copy(key, version_id).await?;
        let part = PART.min(self.copied_at_once);
        let copied = async {
            let mut first = 0;
            while first < *size {
                refuse_stopped(stop)?;
                let end = (first + part).min(*size);
                upload.copy(version_id, (first, end - 1)).await?;
                first = end;
            }
            upload.complete().await.map_err(RestoreError::from)
        };
        let copied = copied.await;
        if copied.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(%error, key, "a copy that broke off is not aborted: its parts stay in the bucket");
        }
        copied
    }

    /// A server that does not know versions as sources would have copied the current one.
    async fn verify(&self, listed: &ListedObject, before: Option<&Current>) -> Result<(), RestoreError> {
        let ListedObject { key, size, etag, .. } = listed;
        let now = self.bucket.look(key, None).await?;
        let is_as_before = |now: &Current| {
            before.is_some_and(|before| !now.tag.is_empty() && before.tag == now.tag && now.tag != bare(etag))
        };
        if now.is_some_and(|now| now.size == *size && !is_as_before(&now)) {
            return Ok(());
        }
        let bucket = self.bucket.bucket();
        Err(RestoreError::Failed(format!(
            "failed to restore {key} in bucket \"{bucket}\": after the copy its current version is another one; end whoever writes to \
             the bucket"
        )))
    }
}

/// What a copy of an object of this size says of itself. `None`: there is none that counts.
pub(super) async fn copy_of(points: &BucketClient, copy: &str, size: u64) -> Result<Option<Says>, ServiceError> {
    let found = points.untagged(copy, None).await?.filter(|(found, _)| found.size == size && !found.archived);
    Ok(found.map(|(_, headers)| Says::of(&headers)).filter(|says| *says != Says::Nothing))
}

/// Whether a copy still has the content that it was read back with when it was written.
pub(super) async fn is_whole(
    points: &BucketClient,
    copy: &str,
    says: &Says,
    stop: &CancellationToken,
) -> Result<bool, RestoreError> {
    let Some(sum) = says.sum() else { return Ok(true) };
    let found = transfer::sum(Origin { bucket: points, key: copy, version: None }, stop).await?;
    Ok(found.as_deref() == Some(sum))
}

/// Whether an `ETag` may be of the same content: some answers have none.
fn is_like(found: &str, listed: &str) -> bool {
    found.is_empty() || listed.is_empty() || found == listed
}

/// Every object is changed as a whole, so that it may end between any two.
pub(super) fn refuse_stopped(stop: &CancellationToken) -> Result<(), RestoreError> {
    if stop.is_cancelled() { Err(RestoreError::Stopped) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The point was made from 100 to 110.
    #[rstest]
    #[case::newer(&[(112, false)], false)]
    #[case::of_the_second_in_which_it_ended(&[(111, false)], false)]
    #[case::written_meanwhile(&[(100, false)], false)]
    #[case::older(&[(99, false)], true)]
    #[case::older_and_written_since(&[(99, false), (112, false)], true)]
    #[case::older_and_written_meanwhile(&[(99, false), (105, false)], true)]
    #[case::deleted_before(&[(50, false), (60, true), (112, false)], false)]
    #[case::deleted_and_written_before(&[(50, false), (60, true), (70, false)], true)]
    #[case::deleted_and_written_in_one_second(&[(60, true), (60, false)], false)]
    #[case::deleted_meanwhile(&[(50, false), (105, true), (112, false)], false)]
    #[case::of_no_time(&[], false)]
    fn an_object_was_there_when_all_its_versions_say_so(#[case] past: &[(i64, bool)], #[case] expected: bool) {
        let past: Vec<_> =
            past.iter().map(|(modified, marker)| Past { modified: *modified, marker: *marker }).collect();
        assert_eq!(Moment { begun: 100, ended: 110 }.knows(&past), expected);
    }
}
