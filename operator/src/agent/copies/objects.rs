//! The objects that a copied point lists: each version once, in the pool beside the copies.

use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, stream as futures_stream};
use tokio_util::sync::CancellationToken;

use super::hash;
use crate::agent::DumpArgs;
use crate::agent::checked::ReadError;
use crate::agent::error::DumpError;
use crate::agent::manifest::{BucketHalf, ManifestObject};
use crate::agent::objects::{self, ListReader, ListedObject};
use crate::agent::parts::Part;
use crate::agent::pool::{self, Name};
use crate::agent::transfer::{Origin, transfer};
use crate::services::bucket::{BucketClient, Timeouts};

/// How many objects are asked for at once. Fewer of them are in memory.
const CONCURRENT: usize = 8;
/// One copies, and the next looks.
const PASSES: u32 = 3;

/// The pool of a target, and what is copied into it.
pub(super) struct Pool<'a> {
    /// The bucket with the points, which has the list.
    pub(super) points: &'a BucketClient,
    pub(super) to: &'a BucketClient,
    /// The folder of the copies.
    pub(super) prefix: &'a str,
    /// When the run has no more time for it.
    pub(super) until: Instant,
}

/// What is in the pool of a list.
pub(super) enum Filled {
    /// All of it.
    Whole,
    /// The time was over; so many were copied.
    InPart(u64),
    /// Nothing: it lists a bucket that is not the application's any more.
    AnotherBucket,
}

/// What came of one object.
enum Done {
    Copied,
    /// There is no more time.
    Later,
}

/// An object of a part of a list, and whether the pool has it.
struct Entry {
    name: Name,
    size: u64,
    found: bool,
}

impl Pool<'_> {
    /// Copies what the pool lacks of a list, and looks once more that nothing of it went meanwhile.
    pub(super) async fn fill(
        &self,
        args: &DumpArgs,
        (half, list): (&BucketHalf, &ManifestObject),
        stop: &CancellationToken,
    ) -> Result<Filled, DumpError> {
        let named = objects::named_source(args.source.as_deref())?;
        let target = named.clone().unwrap_or_else(|| args.bucket.target(None));
        let endpoint = |text: &str| text.trim_end_matches('/').to_owned();
        if target.bucket != half.bucket || endpoint(&target.endpoint) != endpoint(&half.endpoint) {
            return Ok(Filled::AnotherBucket);
        }
        let source = match named {
            Some(target) => BucketClient::new(&target, Timeouts::DATA)?,
            None => self.points.clone(),
        };
        let mut copied = 0;
        // Another cluster that copies into the same folder may have removed what no point listed yet.
        for _ in 0..PASSES {
            let (now, whole) = Box::pin(self.pass(&source, (half, list), stop)).await?;
            copied += now;
            if !whole {
                return Ok(Filled::InPart(copied));
            }
            if now == 0 {
                return Ok(Filled::Whole);
            }
        }
        let why = "objects that were copied are not there: another run removes them".to_owned();
        Err(DumpError::Copy { key: pool::folder(self.prefix), why })
    }

    /// Gives how many objects were copied, and whether the pool has all of them.
    async fn pass(
        &self,
        source: &BucketClient,
        (half, list): (&BucketHalf, &ManifestObject),
        stop: &CancellationToken,
    ) -> Result<(u64, bool), DumpError> {
        let folder = pool::folder(self.prefix);
        let mut copied = 0;
        for part in Part::all(half.count) {
            let entries = self.entries((half, list), &folder, part).await?;
            let mut lines = ListReader::open(self.points, list).await.map_err(unreadable)?;
            while let Some(objects) = lines.next().await.map_err(unreadable)? {
                let named = objects.into_iter().map(|object| (Name::of(&half.bucket, &object), object));
                let missing = named.filter(|(name, _)| is_missing(&entries, *name));
                let sent = missing.map(|(name, object)| self.copy(source, object, name.key(&folder), stop));
                let mut sent = futures_stream::iter(sent).buffer_unordered(CONCURRENT);
                while let Some(done) = sent.try_next().await? {
                    match done {
                        Done::Copied => copied += 1,
                        Done::Later => return Ok((copied, false)),
                    }
                }
            }
        }
        Ok((copied, true))
    }

    /// The objects of a part of the list, sorted by name. What the pool has in another size is not found.
    async fn entries(
        &self,
        (half, list): (&BucketHalf, &ManifestObject),
        folder: &str,
        part: Part,
    ) -> Result<Vec<Entry>, DumpError> {
        let mut entries = Vec::new();
        let mut lines = ListReader::open(self.points, list).await.map_err(unreadable)?;
        while let Some(objects) = lines.next().await.map_err(unreadable)? {
            let kept = objects.into_iter().filter(|object| !object.is_unkept());
            let listed = kept.map(|object| (Name::of(&half.bucket, &object), object.size));
            let own = listed.filter(|(name, _)| part.holds(name.hash()));
            entries.extend(own.map(|(name, size)| Entry { name, size, found: false }));
        }
        entries.sort_unstable_by_key(|entry| entry.name);
        let mut from = None;
        loop {
            let (page, next) = self.to.page(folder, from.take()).await?;
            for object in page {
                let Some(name) = Name::of_key(folder, &object.key) else { continue };
                if let Ok(index) = entries.binary_search_by_key(&name, |entry| entry.name) {
                    entries[index].found = entries[index].size == object.size;
                }
            }
            from = next;
            if from.is_none() {
                return Ok(entries);
            }
        }
    }

    /// Copies one version, and reads it back.
    async fn copy(
        &self,
        source: &BucketClient,
        object: ListedObject,
        key: String,
        stop: &CancellationToken,
    ) -> Result<Done, DumpError> {
        let wrong = |why: String| DumpError::Copy { key: object.key.clone(), why };
        if stop.is_cancelled() {
            return Err(DumpError::Stopped);
        }
        if Instant::now() > self.until {
            return Ok(Done::Later);
        }
        let origin = Origin { bucket: source, key: &object.key, version: Some(&object.version_id) };
        let Some(written) = Box::pin(transfer(origin, (self.to, &key), stop)).await? else {
            let version = &object.version_id;
            return Err(wrong(format!(
                "version {version} is gone, so this point cannot be restored whole; a newer one can"
            )));
        };
        let found = Box::pin(hash(self.to, &key, stop)).await?;
        if written.size == object.size && found.as_deref() == Some(&*written.sha256) {
            return Ok(Done::Copied);
        }
        // Nothing that is wrong stays where a copy is looked for.
        self.to.delete(&key).await?;
        let why = "the copy has another size than the list says, or another checksum than what was read";
        Err(wrong(why.to_owned()))
    }
}

fn is_missing(entries: &[Entry], name: Name) -> bool {
    entries.binary_search_by_key(&name, |entry| entry.name).is_ok_and(|index| !entries[index].found)
}

fn unreadable(error: ReadError) -> DumpError {
    match error {
        ReadError::Service(error) => error.into(),
        ReadError::Corrupt { key, detail } => DumpError::Copy { key, why: detail },
    }
}
