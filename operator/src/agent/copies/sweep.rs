//! Removes from a pool what no copied point lists any more. Whose the points are is of no matter: two clusters may copy into one
//! folder.

use std::collections::BTreeSet;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::agent::BackupId;
use crate::agent::error::DumpError;
use crate::agent::inventory::{self, LONGEST_MANIFEST};
use crate::agent::manifest::{Manifest, ManifestObject};
use crate::agent::objects::ListReader;
use crate::agent::parts::Part;
use crate::agent::pool::{self, Name};
use crate::contract::{MANIFEST_FILE, OBJECTS_FILE, SPEC_FILE};
use crate::services::ServiceError;
use crate::services::bucket::BucketClient;

/// An object that was copied within this time may be listed by a point that is still being copied.
const LEFTOVER_AGE: SignedDuration = SignedDuration::from_hours(48);
/// After how many deletions the folders are looked at again.
const AT_ONCE: u32 = 500;

/// A pool, and the points that list what is in it.
pub(super) struct Sweep<'a> {
    pub(super) bucket: &'a BucketClient,
    pub(super) prefix: &'a str,
    pub(super) now: Timestamp,
    /// When the run has no more time for it.
    pub(super) until: Instant,
}

/// A list of a point, with the bucket that its objects are of.
struct List {
    bucket: String,
    count: u64,
    object: ManifestObject,
}

impl Sweep<'_> {
    /// Removes what no point lists; gives how many objects went. A folder that cannot be read, or is being written, keeps all.
    pub(super) async fn run(&self, stop: &CancellationToken) -> Result<u32, DumpError> {
        let folder = pool::folder(self.prefix);
        let Some((ids, lists)) = self.lists().await? else { return Ok(0) };
        let listed = lists.iter().map(|list| list.count).sum();
        let (mut removed, mut tried) = (0, 0);
        for part in Part::all(listed) {
            if Instant::now() > self.until {
                return Ok(removed);
            }
            let Some(names) = self.names(&lists, part).await? else { return Ok(removed) };
            let mut from = None;
            loop {
                let (page, next) = self.bucket.page(&folder, from.take()).await?;
                for object in page {
                    let Some(name) = Name::of_key(&folder, &object.key).filter(|name| part.holds(name.hash())) else {
                        continue;
                    };
                    if names.binary_search(&name).is_ok() || !self.is_old(object.modified) {
                        continue;
                    }
                    let over = stop.is_cancelled() || Instant::now() > self.until;
                    if over || (tried % AT_ONCE == 0 && self.ids().await? != ids) {
                        return Ok(removed);
                    }
                    tried += 1;
                    match self.bucket.delete(&object.key).await {
                        Ok(()) => removed += 1,
                        // Amazon hides what is locked; other servers keep it.
                        Err(ServiceError::AccessDenied { .. }) if self.bucket.locks() => {
                            tracing::info!(key = object.key, "an object that no copy lists is locked");
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                from = next;
                if from.is_none() {
                    break;
                }
            }
        }
        Ok(removed)
    }

    /// An object of no known age stays.
    fn is_old(&self, modified: Option<i64>) -> bool {
        let at = modified.and_then(|seconds| Timestamp::from_second(seconds).ok());
        at.is_some_and(|at| self.now.duration_since(at) > LEFTOVER_AGE)
    }

    async fn ids(&self) -> Result<BTreeSet<BackupId>, DumpError> {
        let (mut ids, mut from) = (BTreeSet::new(), None);
        loop {
            let (page, next) = self.bucket.page(self.prefix, from.take()).await?;
            let files = page.iter().filter_map(|object| inventory::parts(self.prefix, &object.key));
            // A spec alone is what an earlier release left of a copy that it removed. One that is being written has its dump before it.
            ids.extend(files.filter(|(_, file)| *file != SPEC_FILE).map(|(id, _)| id));
            from = next;
            if from.is_none() {
                return Ok(ids);
            }
        }
    }

    /// The lists of all points, unless one of them is not known.
    async fn lists(&self) -> Result<Option<(BTreeSet<BackupId>, Vec<List>)>, DumpError> {
        let ids = self.ids().await?;
        let mut lists = Vec::new();
        for id in &ids {
            let key = inventory::key(self.prefix, id, MANIFEST_FILE);
            let found = self.bucket.get_tagged(&key, LONGEST_MANIFEST).await?;
            let Some(manifest) = found.and_then(|found| inventory::parse(&found.body, id)) else {
                tracing::info!(key, "a copy without a manifest keeps the objects of all");
                return Ok(None);
            };
            lists.extend(self.list(&manifest));
        }
        Ok(Some((ids, lists)))
    }

    fn list(&self, manifest: &Manifest) -> Option<List> {
        let (half, object) = (manifest.bucket.as_ref()?, manifest.object(OBJECTS_FILE)?);
        let key = inventory::key(self.prefix, &manifest.id, OBJECTS_FILE);
        Some(List { bucket: half.bucket.clone(), count: half.count, object: ManifestObject { key, ..object.clone() } })
    }

    /// The names in a part that some point lists, sorted. `None`: a list cannot be read.
    async fn names(&self, lists: &[List], part: Part) -> Result<Option<Vec<Name>>, DumpError> {
        let mut names = Vec::new();
        for list in lists {
            let read = async {
                let mut lines = ListReader::open(self.bucket, &list.object).await?;
                while let Some(objects) = lines.next().await? {
                    let found = objects.iter().map(|object| Name::of(&list.bucket, object));
                    names.extend(found.filter(|name| part.holds(name.hash())));
                }
                Ok(())
            };
            if let Err(error) = read.await {
                let error: crate::agent::checked::ReadError = error;
                tracing::warn!(%error, "a list that cannot be read keeps the objects of all");
                return Ok(None);
            }
            // Most points list most of the same objects.
            names.sort_unstable();
            names.dedup();
        }
        Ok(Some(names))
    }
}
