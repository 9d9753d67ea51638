//! The objects that a sanitized point has: those of the folders that are asked for, in the versions that the point lists which it is
//! made of. Each is copied beside the point, for it alone, since a rule of the bucket removes points by their age.

use std::io::Write as _;

use futures::{StreamExt as _, stream as futures_stream};
use tokio_util::sync::CancellationToken;

use super::{SanitizeArgs, failed};
use crate::agent::drill::{self, Ended};
use crate::agent::error::DumpError;
use crate::agent::inventory;
use crate::agent::manifest::{BucketHalf, Manifest, ManifestObject};
use crate::agent::objects::{self, ListReader, ListedObject, SourceArgs};
use crate::agent::pool::{self, Name};
use crate::agent::stream::{self, Input};
use crate::agent::transfer;
use crate::agent::{BackupId, checked::ReadError};
use crate::contract::OBJECTS_FILE;
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, BucketTarget, Headers, Timeouts};

/// How many objects are asked for at once. Fewer of them are in memory.
const CONCURRENT: usize = 8;
/// Fast, and a fifth of the text.
const LEVEL: i32 = 3;

/// The objects of a point that are asked for.
pub(super) struct Wanted<'a> {
    /// The bucket with the point.
    points: &'a BucketClient,
    /// The application's bucket.
    source: BucketClient,
    list: ManifestObject,
    /// What names the hosts of another environment is no concern of this one: the bucket of the point stands for that of its objects.
    half: BucketHalf,
    prefixes: &'a [String],
}

/// What a point has of the bucket.
pub(super) type Written = (BucketHalf, ManifestObject);

impl<'a> Wanted<'a> {
    /// Looks for them in the list. `None`: none are asked for.
    pub(super) async fn of(
        args: &'a SanitizeArgs,
        (points, target): (&'a BucketClient, &BucketTarget),
        point: &'a Manifest,
    ) -> Result<Option<Self>, Ended> {
        if args.object_prefixes.is_empty() {
            return Ok(None);
        }
        let id = &point.id;
        let (Some(half), Some(list)) = (&point.bucket, point.object(OBJECTS_FILE)) else {
            return Err(failed(format!(
                "recovery point {id} holds the database only, and sanitize.objectPrefixes asks for objects: set backup.includeBucket, \
                 which needs versioning of the bucket, and back up again, or leave objectPrefixes out"
            )));
        };
        let from = objects::source(&SourceArgs { source: args.source.as_deref(), destination: target })?;
        let endpoint = |text: &str| text.trim_end_matches('/').to_owned();
        if from.bucket != half.bucket || endpoint(&from.endpoint) != endpoint(&half.endpoint) {
            return Err(failed(format!(
                "recovery point {id} lists the objects of bucket \"{}\" at {}, which is not that of the stack any more: back up again",
                half.bucket, half.endpoint
            )));
        }
        drill::by_keys(&from)?;
        let source = BucketClient::new(&from, Timeouts::DATA)?;
        let key = inventory::key(&args.prefix, id, OBJECTS_FILE);
        let list = ManifestObject { key, ..list.clone() };
        let prefixes = &args.object_prefixes;
        let BucketTarget { bucket, endpoint, .. } = super::destination(&args.destination)?;
        let half = BucketHalf { bucket, endpoint, count: 0, bytes: 0, replica: None };
        let mut wanted = Self { points, source, list, half, prefixes };
        wanted.look(id).await?;
        Ok(Some(wanted))
    }

    /// Counts them. A folder of which the point lists nothing is a mistake in its name more often than it is empty.
    async fn look(&mut self, id: &BackupId) -> Result<(), Ended> {
        let mut found = vec![false; self.prefixes.len()];
        let mut lines = self.lines().await?;
        while let Some(objects) = lines.next().await? {
            for object in objects.iter().filter(|object| !object.is_unkept()) {
                let mut within = false;
                for (found, _) in
                    found.iter_mut().zip(self.prefixes).filter(|(_, prefix)| object.key.starts_with(*prefix))
                {
                    *found = true;
                    within = true;
                }
                if within {
                    self.half.count += 1;
                    self.half.bytes += object.size;
                }
            }
        }
        match found.iter().zip(self.prefixes).find(|(found, _)| !**found) {
            Some((_, prefix)) => Err(failed(format!(
                "recovery point {id} lists no object below {prefix}, which sanitize.objectPrefixes names: leave it out, or correct it"
            ))),
            None => Ok(()),
        }
    }

    async fn lines(&self) -> Result<ListReader, ReadError> {
        ListReader::open(self.points, &self.list).await
    }

    fn has(&self, object: &ListedObject) -> bool {
        !object.is_unkept() && self.prefixes.iter().any(|prefix| object.key.starts_with(prefix))
    }

    /// Copies them beside a point, and lists them in its folder.
    pub(super) async fn copy(
        &self,
        (to, prefix, id): (&BucketClient, &str, &BackupId),
        stop: &CancellationToken,
    ) -> Result<Written, Ended> {
        let folder = pool::of_point(prefix, id);
        tracing::info!(count = self.half.count, bytes = self.half.bytes, folder, "the objects are copied");
        let mut lines = self.lines().await?;
        while let Some(objects) = lines.next().await? {
            let copied = objects.iter().filter(|object| self.has(object)).map(|object| {
                let key = Name::of(&self.half.bucket, object).key(&folder);
                async move { transfer::copy_version((&self.source, object), (to, &key, None), stop).await }
            });
            // All of them end: an upload that is dropped leaves its parts in the bucket.
            let copied: Vec<_> = futures_stream::iter(copied).buffer_unordered(CONCURRENT).collect().await;
            copied.into_iter().collect::<Result<(), DumpError>>()?;
        }
        let key = inventory::key(prefix, id, OBJECTS_FILE);
        let encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL);
        let encoder = encoder.map_err(|source| DumpError::Run { source })?;
        let mut list = List { of: self, lines: self.lines().await?, encoder: Some(encoder) };
        let written = Box::pin(stream::upload(to, (&key, &Headers::default()), &mut list, stop)).await?;
        Ok((self.half.clone(), ManifestObject { key, size: written.size, sha256: written.sha256 }))
    }
}

/// Takes back what was copied for a point that did not come to be.
pub(super) async fn remove(bucket: &BucketClient, prefix: &str, id: &BackupId) -> Result<(), ServiceError> {
    let folder = pool::of_point(prefix, id);
    loop {
        let (page, next) = bucket.page(&folder, None).await?;
        for object in page {
            bucket.delete(&object.key).await?;
        }
        if next.is_none() {
            return Ok(());
        }
    }
}

/// The lines of a list about the objects that are wanted.
struct List<'a> {
    of: &'a Wanted<'a>,
    lines: ListReader,
    encoder: Option<zstd::stream::write::Encoder<'static, Vec<u8>>>,
}

impl Input for List<'_> {
    async fn part(&mut self, size: usize) -> Result<Vec<u8>, DumpError> {
        let failed = |source| DumpError::Run { source };
        while let Some(encoder) = &mut self.encoder {
            if encoder.get_ref().len() >= size {
                return Ok(std::mem::take(encoder.get_mut()));
            }
            let next = self.lines.next().await.map_err(|error| failed(std::io::Error::other(error)))?;
            let Some(objects) = next else { break };
            for object in objects.iter().filter(|object| self.of.has(object)) {
                serde_json::to_writer(&mut *encoder, object).map_err(|error| failed(error.into()))?;
                encoder.write_all(b"\n").map_err(failed)?;
            }
        }
        match self.encoder.take() {
            Some(encoder) => encoder.finish().map_err(failed),
            None => Ok(Vec::new()),
        }
    }
}
