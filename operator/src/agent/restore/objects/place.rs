//! `place`: the objects of a sanitized point into the bucket of a new stack.
//!
//! Nothing in the bucket is replaced: what is there under the key of another object stays, and is told. Nothing is written before all
//! the copies were read and compared. The versions that the point lists are those of another environment, so they are looked for in
//! the copies alone.

use tokio_util::sync::CancellationToken;

use super::write::{Done, copy_of, is_whole, refuse_stopped};
use super::{Tally, unless_stopped};
use crate::agent::authorities::Authorities;
use crate::agent::objects::ListReader;
use crate::agent::pool::{self, Name};
use crate::agent::restore::args::StepArgs;
use crate::agent::restore::error::{RestoreError, refused};
use crate::agent::restore::point::{self, Point};
use crate::agent::transfer::{self, Origin, Says, Transferred, Way, transfer};
use crate::agent::{BucketHalf, ListedObject, ManifestObject};
use crate::contract::{OBJECTS_FILE, RestoreRefusal, RestoreResult};
use crate::services::bucket::{BucketClient, Timeouts};

/// The objects of a sanitized point.
struct Copies<'a> {
    point: &'a Point,
    half: &'a BucketHalf,
    list: ManifestObject,
    /// The folder of the copies.
    pool: String,
}

/// Where they go.
struct Bucket<'a> {
    client: BucketClient,
    /// The folders that stay as they are.
    except: &'a [String],
}

/// Looks for the copies of a point, and reads them. `None`: it has none.
pub(in crate::agent::restore) async fn check(
    args: &StepArgs,
    point: &Point,
    stop: &CancellationToken,
) -> Result<Option<u64>, RestoreError> {
    let Some(copies) = Copies::of(args, point) else { return Ok(None) };
    Box::pin(copies.look(stop)).await?;
    Ok(Some(copies.half.count))
}

/// Puts the objects of a point into the bucket.
pub(in crate::agent::restore) async fn place(
    args: &StepArgs,
    stop: &CancellationToken,
) -> Result<RestoreResult, RestoreError> {
    let point = unless_stopped(stop, point::load(&args.point)).await?;
    let own = Authorities::of_bucket(args.objects.objects_ca_file.as_deref())?.for_bucket();
    let (Some(copies), Some(target)) = (Copies::of(args, &point), args.objects.target(own)) else {
        return Ok(RestoreResult { objects: Some(0), ..RestoreResult::default() });
    };
    let client = BucketClient::new(&target, Timeouts::DATA)?;
    let bucket = Bucket { client, except: &args.objects.objects_except };
    Box::pin(copies.look(stop)).await?;
    let work = async |object: ListedObject| Box::pin(copies.place_one(&object, &bucket, stop)).await;
    let tally = Box::pin(copies.walk(work, stop)).await?;
    copies.refuse_missing(&tally, "all other objects are in the bucket")?;
    let left = (tally.left.count > 0).then(|| {
        let (name, count, keys) = (&target.bucket, tally.left.count, tally.left.words());
        format!("found in bucket \"{name}\" and kept instead of those of the point: {count} objects, {keys}")
    });
    let warnings = left.into_iter().collect();
    Ok(RestoreResult { objects: Some(tally.changed), warnings, ..RestoreResult::default() })
}

impl<'a> Copies<'a> {
    fn of(args: &StepArgs, point: &'a Point) -> Option<Self> {
        let half = point.manifest.bucket.as_ref().filter(|_| point.manifest.sanitized)?;
        let list = point.object(&args.point, OBJECTS_FILE)?;
        Some(Self { point, half, list, pool: pool::of_point(&args.point.prefix, &args.point.point) })
    }

    fn key(&self, object: &ListedObject) -> String {
        Name::of(&self.half.bucket, object).key(&self.pool)
    }

    /// Refuses a point of which a copy is gone, or is not what it was.
    async fn look(&self, stop: &CancellationToken) -> Result<(), RestoreError> {
        let work = async |object: ListedObject| {
            refuse_stopped(stop)?;
            let copy = self.key(&object);
            let whole = match copy_of(&self.point.bucket, &copy, object.size).await? {
                Some(says) => is_whole(&self.point.bucket, &copy, &says, stop).await?,
                None => false,
            };
            Ok(if whole { Done::Nothing } else { Done::Missing(object.key) })
        };
        let tally = Box::pin(self.walk(work, stop)).await?;
        self.refuse_missing(&tally, "no object was written")
    }

    fn refuse_missing(&self, Tally { missing, .. }: &Tally, done: &str) -> Result<(), RestoreError> {
        if missing.count == 0 {
            return Ok(());
        }
        let message = format!(
            "of {} objects the copies below {} are gone or changed: {}; {done}; name another sanitized point",
            missing.count,
            self.pool,
            missing.words()
        );
        Err(refused(RestoreRefusal::VersionMissing, message))
    }

    /// Does some work with each object of the list, which has to be that of the manifest.
    async fn walk<W: Future<Output = Result<Done, RestoreError>>>(
        &self,
        work: impl Fn(ListedObject) -> W,
        stop: &CancellationToken,
    ) -> Result<Tally, RestoreError> {
        let (mut tally, mut count) = (Tally::default(), 0);
        let mut list = ListReader::open(&self.point.bucket, &self.list).await?;
        while let Some(objects) = unless_stopped(stop, async { Ok(list.next().await?) }).await? {
            count += objects.len() as u64;
            tally.all(objects, &work).await?;
        }
        if count == self.half.count {
            return Ok(tally);
        }
        let message = format!("{} lists {count} objects, and {} by the manifest", self.list.key, self.half.count);
        Err(refused(RestoreRefusal::PointCorrupt, message))
    }

    async fn place_one(
        &self,
        object: &ListedObject,
        bucket: &Bucket<'_>,
        stop: &CancellationToken,
    ) -> Result<Done, RestoreError> {
        refuse_stopped(stop)?;
        let key = &object.key;
        if bucket.except.iter().any(|folder| key.starts_with(folder.as_str())) {
            return Ok(Done::Left(key.clone()));
        }
        let copy = self.key(object);
        let origin = Origin { bucket: &self.point.bucket, key: &copy, version: None };
        let Some(says) = copy_of(origin.bucket, &copy, object.size).await? else {
            return Ok(Done::Missing(key.clone()));
        };
        if let Some(found) = bucket.client.look(key, None).await? {
            let same = found.size == object.size && self.is_same(&bucket.client, key, (origin, &says), stop).await?;
            return Ok(if same { Done::Nothing } else { Done::Left(key.clone()) });
        }
        Ok(match Box::pin(transfer(origin, (&bucket.client, key, Way::New(&says)), stop)).await? {
            Transferred::Written(_) => Done::Changed,
            Transferred::Taken => Done::Left(key.clone()),
            Transferred::Missing | Transferred::Differs => Done::Missing(key.clone()),
        })
    }

    /// Whether an object of the bucket has the content of a copy: an earlier run has put it there.
    async fn is_same(
        &self,
        bucket: &BucketClient,
        key: &str,
        (copy, says): (Origin<'_>, &Says),
        stop: &CancellationToken,
    ) -> Result<bool, RestoreError> {
        let wanted = match says.sum() {
            Some(sum) => Some(sum.to_owned()),
            None => transfer::sum(copy, stop).await?,
        };
        Ok(transfer::sum(Origin { bucket, key, version: None }, stop).await? == wanted)
    }
}
