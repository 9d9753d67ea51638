//! The objects that a copied point lists: each version once, in the pool beside the copies.

use std::time::Instant;

use futures::{StreamExt as _, stream as futures_stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::agent::DumpArgs;
use crate::agent::checked::ReadError;
use crate::agent::error::DumpError;
use crate::agent::manifest::{BucketHalf, ManifestObject};
use crate::agent::object_lock::Locking;
use crate::agent::objects::{self, ListReader, ListedObject};
use crate::agent::parts::Part;
use crate::agent::pool::{self, Name};
use crate::agent::replication;
use crate::agent::transfer;
use crate::services::bucket::{BucketClient, BucketTarget, Marker, Timeouts};

/// How many objects are asked for at once. Fewer of them are in memory.
const CONCURRENT: usize = 8;
/// How many objects are locked for longer at once: each is one short request.
const PROLONGED_AT_ONCE: usize = 32;
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
    pub(super) now: Timestamp,
    pub(super) locking: Locking,
    /// What is there is locked for longer: the locks of the runs before end too soon.
    pub(super) prolongs: bool,
    /// The retention of the copies.
    pub(super) days: u32,
}

/// What is in the pool of a list.
pub(super) enum Filled {
    /// All of it. Whether some of it is in the bucket that is replicated to, and not here.
    Whole { by_replica: bool },
    /// The time was over; so many were copied.
    InPart(u64),
    /// Nothing: it lists a bucket that is not the application's any more.
    AnotherBucket,
}

/// What came of a look at the whole list.
#[derive(Default)]
struct Passed {
    copied: u64,
    /// The pool has all, or the bucket that is replicated to.
    whole: bool,
    /// That bucket alone has some.
    by_replica: bool,
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
    /// It was replicated to another bucket.
    replicated: bool,
    /// It is locked for long enough, by when it was written.
    locked: bool,
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
        let replica = self.replica(args, &target, half).await?;
        let (mut copied, mut prolongs, mut by_replica) = (0, self.prolongs, false);
        // Another cluster that copies into the same folder may have removed what no point listed yet.
        for _ in 0..PASSES {
            let passed = Box::pin(self.pass((&source, replica.as_ref()), (half, list), prolongs, stop)).await?;
            copied += passed.copied;
            prolongs = false;
            by_replica |= passed.by_replica;
            if !passed.whole {
                return Ok(Filled::InPart(copied));
            }
            if passed.copied == 0 {
                return Ok(Filled::Whole { by_replica });
            }
        }
        let why = "objects that were copied are not there: another run removes them".to_owned();
        Err(DumpError::Copy { key: pool::folder(self.prefix), why })
    }

    /// The bucket that the listed one is replicated to, if this run has proven that and it keeps versions for as long as the copy is kept.
    async fn replica(
        &self,
        args: &DumpArgs,
        target: &BucketTarget,
        half: &BucketHalf,
    ) -> Result<Option<BucketClient>, DumpError> {
        let Some(to) = args.proven_replica.as_ref().filter(|to| half.replica.as_ref() == Some(&to.bucket)) else {
            return Ok(None);
        };
        let client = BucketClient::new(&replication::destination(target, to), Timeouts::DATA)?;
        match objects::lasts(&client, self.days).await {
            Ok(None) => Ok(Some(client)),
            Ok(Some(why)) => {
                tracing::warn!(why, "what is replicated is copied as well");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "what is replicated is copied as well");
                Ok(None)
            }
        }
    }

    /// Copies what is missing.
    async fn pass(
        &self,
        (source, replica): (&BucketClient, Option<&BucketClient>),
        (half, list): (&BucketHalf, &ManifestObject),
        prolongs: bool,
        stop: &CancellationToken,
    ) -> Result<Passed, DumpError> {
        let folder = pool::folder(self.prefix);
        let mut passed = Passed::default();
        for part in Part::all(half.count) {
            let mut entries = self.entries((half, list), &folder, part).await?;
            if let Some(replica) = replica {
                arrived(replica, half, &mut entries).await?;
            }
            passed.by_replica |= entries.iter().any(|entry| entry.replicated && !entry.found);
            if prolongs && !self.prolong(&entries, &folder, stop).await? {
                return Ok(passed);
            }
            let mut lines = ListReader::open(self.points, list).await.map_err(unreadable)?;
            while let Some(objects) = lines.next().await.map_err(unreadable)? {
                let named = objects.into_iter().map(|object| (Name::of(&half.bucket, &object), object));
                let missing = named.filter(|(name, _)| is_missing(&entries, *name));
                let sent = missing.map(|(name, object)| self.copy(source, object, name.key(&folder), stop));
                // All of them end: an upload that is dropped leaves its parts in the bucket.
                let sent: Vec<_> = futures_stream::iter(sent).buffer_unordered(CONCURRENT).collect().await;
                let mut whole = true;
                for done in sent {
                    match done? {
                        Done::Copied => passed.copied += 1,
                        Done::Later => whole = false,
                    }
                }
                if !whole {
                    return Ok(passed);
                }
            }
        }
        Ok(Passed { whole: true, ..passed })
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
            entries.extend(own.map(|(name, size)| Entry {
                name,
                size,
                found: false,
                replicated: false,
                locked: false,
            }));
        }
        entries.sort_unstable_by_key(|entry| entry.name);
        let mut from = None;
        loop {
            let (page, next) = self.to.page(folder, from.take()).await?;
            for object in page {
                let Some(name) = Name::of_key(folder, &object.key) else { continue };
                if let Ok(index) = entries.binary_search_by_key(&name, |entry| entry.name) {
                    let entry = &mut entries[index];
                    entry.found = entry.size == object.size;
                    entry.locked = object.modified.is_some_and(|at| self.locking.is_same_term(at, self.now));
                }
            }
            from = next;
            if from.is_none() {
                return Ok(entries);
            }
        }
    }

    /// Locks what is there for longer. `false`: there is no more time.
    async fn prolong(&self, entries: &[Entry], folder: &str, stop: &CancellationToken) -> Result<bool, DumpError> {
        let Some(retention) = self.locking.of_pool(self.now) else { return Ok(true) };
        let short = entries.iter().filter(|entry| entry.found && !entry.locked);
        let prolong = async |name: Name| {
            if stop.is_cancelled() {
                return Err(DumpError::Stopped);
            }
            if Instant::now() > self.until {
                return Ok(false);
            }
            // Keys that may not are told once, as what they write is not locked either.
            self.to.retain(&name.key(folder), retention).await?;
            Ok(true)
        };
        let asked = futures_stream::iter(short).map(|entry| prolong(entry.name)).buffer_unordered(PROLONGED_AT_ONCE);
        let mut asked = std::pin::pin!(asked);
        while let Some(done) = asked.next().await {
            if !done? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Copies one version, and reads it back.
    async fn copy(
        &self,
        source: &BucketClient,
        object: ListedObject,
        key: String,
        stop: &CancellationToken,
    ) -> Result<Done, DumpError> {
        if Instant::now() > self.until && !stop.is_cancelled() {
            return Ok(Done::Later);
        }
        let to = (self.to, key.as_str(), self.locking.of_pool(self.now));
        Box::pin(transfer::copy_version((source, &object), to, stop)).await.map(|()| Done::Copied)
    }
}

/// Takes note of the listed versions that another bucket has: a replication keeps their ids.
async fn arrived(replica: &BucketClient, half: &BucketHalf, entries: &mut [Entry]) -> Result<(), DumpError> {
    let mut next = Some(Marker::default());
    while let Some(marker) = next {
        let (versions, more) = replica.latest_versions(&marker).await?;
        for object in versions.into_iter().map(ListedObject::from) {
            let name = Name::of(&half.bucket, &object);
            if let Ok(index) = entries.binary_search_by_key(&name, |entry| entry.name) {
                entries[index].replicated = true;
            }
        }
        next = more;
    }
    Ok(())
}

fn is_missing(entries: &[Entry], name: Name) -> bool {
    entries
        .binary_search_by_key(&name, |entry| entry.name)
        .is_ok_and(|index| !entries[index].found && !entries[index].replicated)
}

fn unreadable(error: ReadError) -> DumpError {
    match error {
        ReadError::Service(error) => error.into(),
        ReadError::Corrupt { key, detail } => DumpError::Copy { key, why: detail },
    }
}
