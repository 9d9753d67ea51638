//! `objects`: makes the versions of a point the current ones.
//!
//! A version that is not the current one is copied to a new version, within the server; one that is gone, or of another bucket, comes
//! from the pool beside the copy of the point. What is newer than the point is deleted so that it stays as an old version. Nothing is
//! removed for ever, and nothing is written before all the versions were found, and those in the pool read and compared.

mod found;
mod index;
mod place;
mod write;

use std::pin::pin;

use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use self::index::Index;
pub(super) use self::place::{check as check_copies, place};
use self::write::{Done, Moment};
use super::args::StepArgs;
use super::error::{RestoreError, refused};
use super::point::{self, Point};
use super::unless_stopped;
use crate::agent::authorities::Authorities;
use crate::agent::objects::{ListReader, hash, is_folder};
use crate::agent::parts::Part;
use crate::agent::{BackupId, BucketHalf, ListedObject, ManifestObject, pool};
use crate::contract::{OBJECTS_FILE, RestoreRefusal, RestoreResult};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Current, Timeouts, Versioning};

/// How many objects are asked for, or copied, at once.
const CONCURRENT: usize = 16;
/// How many keys a message names.
const NAMED: usize = 3;

/// The objects of a point, and the bucket that they belong to.
struct Objects<'a> {
    point: &'a Point,
    id: &'a BackupId,
    list: ManifestObject,
    count: u64,
    /// The bucket that the point lists.
    of: &'a BucketHalf,
    /// The folder of the copies of its objects, beside the point.
    pool: String,
    bucket: BucketClient,
    /// Waits longer.
    copier: BucketClient,
    /// The bucket is a new stack's: what is there already is never replaced or deleted.
    fills: bool,
    /// The folders that stay as they are.
    except: Vec<String>,
    moment: Moment,
    copied_at_once: u64,
}

/// What is done with what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Its version is looked for.
    Look,
    /// It is restored.
    Restore,
}

/// What came of it.
#[derive(Debug, Default)]
struct Tally {
    changed: u64,
    /// Versions that are gone.
    missing: Keys,
    /// Objects that are not listed, and were there.
    left: Keys,
    /// Objects of somebody else in a bucket that is to be filled.
    found: Keys,
}

/// Some keys by name, and the number of all.
#[derive(Debug, Default)]
struct Keys {
    named: Vec<String>,
    count: usize,
}

impl Keys {
    fn add(&mut self, key: String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(key);
        }
    }

    fn words(&self) -> String {
        let more = self.count - self.named.len();
        let named = self.named.join(", ");
        if more > 0 { format!("{named} and {more} more") } else { named }
    }
}

/// Looks for the versions, and writes nothing. Gives how many objects the point has.
pub(super) async fn check(args: &StepArgs, point: &Point, stop: &CancellationToken) -> Result<u64, RestoreError> {
    let objects = unless_stopped(stop, Objects::open(args, point)).await?;
    Box::pin(objects.look(stop)).await?;
    Ok(objects.count)
}

/// Restores the objects.
pub(super) async fn restore(args: &StepArgs, stop: &CancellationToken) -> Result<RestoreResult, RestoreError> {
    let point = unless_stopped(stop, point::load(&args.point)).await?;
    let objects = unless_stopped(stop, Objects::open(args, &point)).await?;
    Box::pin(objects.look(stop)).await?;
    let tally = Box::pin(objects.walk(Work::Restore, stop)).await?;
    objects.refuse_found(&tally.found)?;
    objects.refuse_missing(&tally.missing, "they were there before, and all other objects are restored")?;
    let left = (tally.left.count > 0).then(|| {
        format!(
            "not listed by the point, though older than it, and left as they are: {} objects, {}",
            tally.left.count,
            tally.left.words()
        )
    });
    Ok(RestoreResult { objects: Some(tally.changed), warnings: left.into_iter().collect(), ..RestoreResult::default() })
}

impl<'a> Objects<'a> {
    async fn open(args: &'a StepArgs, point: &'a Point) -> Result<Self, RestoreError> {
        let id = &args.point.point;
        let (Some(list), Some(half)) = (point.object(&args.point, OBJECTS_FILE), &point.manifest.bucket) else {
            let message = format!(
                "recovery point {id} holds the database only, not the objects of the bucket: leave Bucket out of scope, or restore \
                 a point that was made with backup.includeBucket"
            );
            return Err(refused(RestoreRefusal::PointIncomplete, message));
        };
        let of_points =
            args.point.bucket.target(Authorities::of_bucket(args.point.bucket_ca_file.as_deref())?.for_bucket());
        let own = Authorities::of_bucket(args.objects.objects_ca_file.as_deref())?.for_bucket();
        let target = args.objects.target(own).unwrap_or_else(|| of_points.clone());
        let of_point = || pool::of_point(&args.point.prefix, id);
        let pool = if point.manifest.sanitized { of_point() } else { pool::folder(&args.point.prefix) };
        if !half.is_of(&target.bucket) && half.count > 0 && !point.bucket.has_any(&pool).await? {
            let message = format!(
                "recovery point {id} lists the objects of bucket \"{}\" at {}, and this stack has bucket \"{}\": restore a copy of \
                 the point by its location in a bucket of backup.copies,{} or leave Bucket out of scope",
                half.bucket,
                half.endpoint,
                target.bucket,
                replicated(half, &target.bucket)
            );
            return Err(refused(RestoreRefusal::AnotherBucket, message));
        }
        let bucket = BucketClient::new(&target, Timeouts::DATA)?;
        refuse_unversioned(&bucket).await?;
        let mut except = args.objects.objects_except.clone();
        if target.endpoint == of_points.endpoint && target.bucket == of_points.bucket {
            except.push(pool::above(&args.point.prefix));
        }
        let listed = point.bucket.look(&list.key, None).await?.and_then(|object| object.modified);
        Ok(Self {
            id,
            moment: Moment::new(&point.manifest, listed),
            count: half.count,
            fills: args.fill,
            of: half,
            pool,
            copier: BucketClient::new(&target, Timeouts::COPY)?,
            copied_at_once: args.objects.copied_at_once,
            point,
            list,
            bucket,
            except,
        })
    }

    /// Refuses a point of which a version is gone.
    async fn look(&self, stop: &CancellationToken) -> Result<(), RestoreError> {
        let Tally { missing, found, .. } = self.walk(Work::Look, stop).await?;
        self.refuse_found(&found)?;
        self.refuse_missing(&missing, "no object was written")
    }

    fn refuse_missing(&self, missing: &Keys, done: &str) -> Result<(), RestoreError> {
        if missing.count == 0 {
            return Ok(());
        }
        let message = format!(
            "of {} objects the versions that recovery point {} lists are gone, changed or in an archive: {}; {done}; restore \
             another recovery point, or a copy of this one by its location in a bucket of backup.copies,{} or leave Bucket out of \
             scope",
            missing.count,
            self.id,
            missing.words(),
            replicated(self.of, self.bucket.bucket())
        );
        Err(refused(RestoreRefusal::VersionMissing, message))
    }

    /// Compares the bucket with the list, in parts.
    async fn walk(&self, work: Work, stop: &CancellationToken) -> Result<Tally, RestoreError> {
        let mut tally = Tally::default();
        for part in Part::all(self.count) {
            let mut index = unless_stopped(stop, self.index(part)).await?;
            let mut from = None;
            loop {
                let (page, next) = unless_stopped(stop, async { Ok(self.bucket.page("", from.take()).await?) }).await?;
                let newer =
                    page.into_iter().filter(|object| part.holds(hash(&object.key)) && !self.is_excepted(&object.key));
                let newer: Vec<_> = newer.filter(|object| !index.see(&object.key, object.size, &object.tag)).collect();
                if self.fills || work == Work::Restore {
                    self.hide(newer, &mut tally, stop).await?;
                }
                from = next;
                if from.is_none() {
                    break;
                }
            }
            let mut list = ListReader::open(&self.point.bucket, &self.list).await?;
            while let Some(objects) = unless_stopped(stop, async { Ok(list.next().await?) }).await? {
                let differing =
                    objects.into_iter().filter(|object| self.is_of_list(object) && index.differs(&object.key));
                self.put_back(differing.collect(), work, &mut tally, stop).await?;
            }
        }
        Ok(tally)
    }

    /// Reads the whole list, which has to be that of the manifest.
    async fn index(&self, part: Part) -> Result<Index, RestoreError> {
        let mut list = ListReader::open(&self.point.bucket, &self.list).await?;
        let (mut index, mut count) = (Index::new(part), 0);
        while let Some(objects) = list.next().await? {
            count += objects.len() as u64;
            objects.iter().filter(|object| self.is_of_list(object)).for_each(|object| index.add(object));
        }
        if count != self.count {
            let message = format!(
                "{} lists {count} objects, and {} by the manifest: restore another recovery point",
                self.list.key, self.count
            );
            return Err(refused(RestoreRefusal::PointCorrupt, message));
        }
        index.finish();
        Ok(index)
    }

    fn is_excepted(&self, key: &str) -> bool {
        self.except.iter().any(|folder| key.starts_with(folder.as_str()))
    }

    /// A server that keeps no versions of folders lists them as well. They hold nothing.
    fn is_of_list(&self, object: &ListedObject) -> bool {
        !object.is_unkept() && !self.is_excepted(&object.key)
    }

    async fn hide(&self, newer: Vec<Current>, tally: &mut Tally, stop: &CancellationToken) -> Result<(), RestoreError> {
        let newer = newer.into_iter().filter(|object| !is_folder(&object.key, object.size));
        tally.all(newer, |object| self.hide_one(object, stop)).await
    }

    async fn put_back(
        &self,
        objects: Vec<ListedObject>,
        work: Work,
        tally: &mut Tally,
        stop: &CancellationToken,
    ) -> Result<(), RestoreError> {
        tally.all(objects, |object| Box::pin(self.put_back_one(object, work, stop))).await
    }
}

/// The other bucket that has the versions, as a way out.
fn replicated(half: &BucketHalf, bucket: &str) -> String {
    let replica = half.replica.as_ref().filter(|replica| *replica != bucket);
    replica.map_or_else(String::new, |replica| {
        format!(" or give the stack the bucket \"{replica}\", which the objects were replicated to,")
    })
}

/// Refuses a bucket that would not keep what is replaced.
async fn refuse_unversioned(bucket: &BucketClient) -> Result<(), RestoreError> {
    let state = match bucket.versioning().await {
        Ok(Versioning::Enabled) => return Ok(()),
        Ok(Versioning::Suspended) => "suspended",
        Ok(Versioning::Off) => "off",
        Err(ServiceError::Unsupported { .. }) => "unknown to its server",
        Err(error) => return Err(error.into()),
    };
    let message = format!(
        "versioning of bucket \"{}\" is {state}, so what a restore replaces would be lost: turn it on with bucket.versioning",
        bucket.bucket()
    );
    Err(refused(RestoreRefusal::BucketNotVersioned, message))
}

impl Tally {
    /// Does some work with each object, several at once. After an error none begins, and those that have begun end: an upload that is
    /// dropped leaves its parts in the bucket.
    async fn all<T, W: Future<Output = Result<Done, RestoreError>>>(
        &mut self,
        objects: impl IntoIterator<Item = T>,
        work: impl Fn(T) -> W,
    ) -> Result<(), RestoreError> {
        let broken = CancellationToken::new();
        let begun = stream::iter(objects).take_until(broken.cancelled()).map(work);
        let mut ended = pin!(begun.buffered(CONCURRENT));
        let mut failed = None;
        while let Some(done) = ended.next().await {
            match done {
                Ok(done) => self.add(done),
                Err(error) => {
                    broken.cancel();
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn add(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Changed => self.changed += 1,
            Done::Missing(key) => self.missing.add(key),
            Done::Left(key) => self.left.add(key),
            Done::Found(key) => self.found.add(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_some_keys() {
        let mut keys = Keys::default();
        for key in ["a", "b", "c", "d", "e"] {
            keys.add(key.to_owned());
        }
        assert_eq!(keys.words(), "a, b, c and 2 more");
    }

    /// The third of many fails: those that have begun end, and no other begins.
    #[tokio::test(start_paused = true)]
    async fn after_an_error_what_has_begun_ends_and_nothing_begins() {
        use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut tally = Tally::default();
        let work = async |number: usize| {
            begun.fetch_add(1, Relaxed);
            if number == 2 {
                return Err(RestoreError::Failed("the third".to_owned()));
            }
            tokio::time::sleep(std::time::Duration::from_secs(number as u64 + 1)).await;
            ended.fetch_add(1, Relaxed);
            Ok(Done::Changed)
        };
        let error = tally.all(0..1000, work).await.expect_err("the third fails");
        assert_eq!(error.to_string(), "the third");
        let (begun, ended) = (begun.into_inner(), ended.into_inner());
        assert!(begun <= CONCURRENT + 2 && ended == begun - 1, "{begun} {ended}");
        assert_eq!(tally.changed, ended as u64);
        let mut tally = Tally::default();
        tally.all(0..100, async |_| Ok(Done::Changed)).await.expect("all of them");
        assert_eq!(tally.changed, 100);
    }
}
