//! The objects that a copied point lists: each version once, in the pool beside the copies.

use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, stream as futures_stream};
use tokio_util::sync::CancellationToken;

use super::{BEGUN_WITHIN, hash};
use crate::agent::DumpArgs;
use crate::agent::checked::ReadError;
use crate::agent::error::DumpError;
use crate::agent::manifest::{BucketHalf, ManifestObject};
use crate::agent::objects::{self, ListReader, ListedObject};
use crate::agent::parts::Part;
use crate::agent::pool::{self, Name};
use crate::agent::transfer::{Origin, transfer};
use crate::services::bucket::{BucketClient, Timeouts};

/// How many objects are copied at once. Each large one has two parts in memory.
const CONCURRENT: usize = 4;

/// One copies, and the next looks.
const PASSES: u32 = 3;

/// The pool of a target, and what is copied into it.
pub(super) struct Pool<'a> {
    /// The bucket with the points, which has the list.
    pub(super) points: &'a BucketClient,
    pub(super) to: &'a BucketClient,
    /// The folder of the copies.
    pub(super) prefix: &'a str,
    pub(super) begun: Instant,
}

impl Pool<'_> {
    /// Copies what the pool lacks of a list, and looks once more that nothing of it went meanwhile.
    pub(super) async fn fill(
        &self,
        args: &DumpArgs,
        (half, list): (&BucketHalf, &ManifestObject),
        stop: &CancellationToken,
    ) -> Result<(), DumpError> {
        let source = match objects::named_source(args.source.as_deref())? {
            Some(target) => BucketClient::new(&target, Timeouts::DATA)?,
            None => self.points.clone(),
        };
        if source.bucket() != half.bucket {
            tracing::warn!(bucket = half.bucket, "the objects of a bucket that the stack used before are not copied");
            return Ok(());
        }
        // Another cluster that copies into the same folder may have removed what no point listed yet.
        for _ in 0..PASSES {
            if Box::pin(self.pass(&source, (half, list), stop)).await? == 0 {
                return Ok(());
            }
        }
        let why = "objects that were copied are not there: another run removes them".to_owned();
        Err(DumpError::Copy { key: pool::folder(self.prefix), why })
    }

    /// Gives how many objects were copied.
    async fn pass(
        &self,
        source: &BucketClient,
        (half, list): (&BucketHalf, &ManifestObject),
        stop: &CancellationToken,
    ) -> Result<u64, DumpError> {
        let folder = pool::folder(self.prefix);
        let mut copied = 0;
        for part in Part::all(half.count) {
            let there = names(self.to, &folder, part).await?;
            let mut lines = ListReader::open(self.points, list).await.map_err(unreadable)?;
            while let Some(objects) = lines.next().await.map_err(unreadable)? {
                let kept = objects.into_iter().filter(|object| !object.is_unkept());
                let named = kept.map(|object| (Name::of(&half.bucket, &object), object));
                let missing = named.filter(|(name, _)| part.holds(name.hash()) && there.binary_search(name).is_err());
                let sent = missing.map(|(name, object)| self.copy(source, object, name.key(&folder), stop));
                let mut done = futures_stream::iter(sent).buffer_unordered(CONCURRENT);
                while done.try_next().await?.is_some() {
                    copied += 1;
                }
            }
        }
        Ok(copied)
    }

    /// Copies one version, and reads it back.
    async fn copy(
        &self,
        source: &BucketClient,
        object: ListedObject,
        key: String,
        stop: &CancellationToken,
    ) -> Result<(), DumpError> {
        let wrong = |why: &str| DumpError::Copy { key: object.key.clone(), why: why.to_owned() };
        if stop.is_cancelled() {
            return Err(DumpError::Stopped);
        }
        if self.begun.elapsed() > BEGUN_WITHIN {
            return Err(wrong("the time of this run is over; the next one goes on with it"));
        }
        let origin = Origin { bucket: source, key: &object.key, version: Some(&object.version_id) };
        let Some(written) = Box::pin(transfer(origin, (self.to, &key), stop)).await? else {
            return Err(wrong(&format!("version {} is gone", object.version_id)));
        };
        let found = Box::pin(hash(self.to, &key, stop)).await?;
        if written.size == object.size && found.as_deref() == Some(&*written.sha256) {
            return Ok(());
        }
        // Nothing that is wrong stays where a copy is looked for.
        self.to.delete(&key).await?;
        Err(wrong("the copy has another size than the list says, or another checksum than what was read"))
    }
}

fn unreadable(error: ReadError) -> DumpError {
    match error {
        ReadError::Service(error) => error.into(),
        ReadError::Corrupt { key, detail } => DumpError::Copy { key, why: detail },
    }
}

/// The names in a part of a pool, sorted.
async fn names(bucket: &BucketClient, folder: &str, part: Part) -> Result<Vec<Name>, DumpError> {
    let (mut names, mut from) = (Vec::new(), None);
    loop {
        let (page, next) = bucket.page(folder, from.take()).await?;
        let found = page.iter().filter_map(|object| Name::of_key(folder, &object.key));
        names.extend(found.filter(|name| part.holds(name.hash())));
        from = next;
        if from.is_none() {
            names.sort_unstable();
            return Ok(names);
        }
    }
}
