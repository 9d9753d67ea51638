//! The bucket half of a point: which version of each object of the application's bucket is there, as lines of JSON compressed by
//! zstd. Each list is whole, so that the removal of one point breaks no other.

use std::io::Write as _;

use futures::{StreamExt as _, TryStreamExt as _, stream as futures_stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use super::DumpArgs;
use super::checked::{self, ObjectReader, ReadError};
use super::error::DumpError;
use super::manifest::{BucketHalf, ManifestObject};
use super::replication::is_probe;
use super::stream::{self, Input};
use super::{authorities, owner};
use crate::contract::{BucketLocation, OBJECTS_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{
    AccessKeys, BucketClient, BucketTarget, Headers, ListedVersion, Marker, Retention, Timeouts, Versioning,
};

/// Fast, and a fifth of the text.
const LEVEL: i32 = 3;
/// How many keys are compared at once: 8 MiB.
const COMPARED: usize = 1 << 19;
/// How many objects are asked for at once.
const CONCURRENT: usize = 8;
/// How much of a list is decompressed at once.
const CHUNK: usize = 32 * 1024;
/// A longer line is none of ours.
const LONGEST_LINE: usize = 64 * 1024;

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedObject {
    /// The key.
    pub key: String,
    /// The version that was there.
    pub version_id: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its `ETag`, if the server gives one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub etag: String,
}

impl ListedObject {
    /// Whether it stands for a folder of a server that keeps no versions of these. It holds nothing.
    pub(super) fn is_unkept(&self) -> bool {
        is_folder(&self.key, self.size) && self.version_id == "null"
    }
}

/// A key that stands for a folder.
pub(super) fn is_folder(key: &str, size: u64) -> bool {
    size == 0 && key.ends_with('/')
}

impl From<ListedVersion> for ListedObject {
    fn from(version: ListedVersion) -> Self {
        Self { key: version.key, version_id: version.id, size: version.size, etag: version.tag }
    }
}

/// What a point holds of the bucket.
pub(super) enum Half {
    /// It is not asked for.
    NotAsked,
    /// It does not count, and why.
    Without(String),
    /// It is written.
    Written(BucketHalf, ManifestObject),
}

/// The bucket of the application: the one that backups go to, unless the operator names another.
pub(super) fn source(args: &SourceArgs<'_>) -> Result<BucketTarget, DumpError> {
    Ok(named_source(args.source)?.unwrap_or_else(|| args.destination.clone()))
}

/// The bucket of the application, where the operator names one beside that of the backups.
pub(super) fn named_source(text: Option<&str>) -> Result<Option<BucketTarget>, DumpError> {
    let Some(text) = text else { return Ok(None) };
    let parsed = serde_json::from_str::<BucketLocation>(text);
    Ok(Some(target(&parsed.map_err(|source| DumpError::Variable { name: crate::contract::ENV_SOURCE, source })?)))
}

/// Where the bucket of the application is written down.
pub(super) struct SourceArgs<'a> {
    pub(super) source: Option<&'a str>,
    pub(super) destination: &'a BucketTarget,
}

pub(super) fn target(location: &BucketLocation) -> BucketTarget {
    let location = location.clone();
    BucketTarget {
        endpoint: location.endpoint,
        region: location.region,
        bucket: location.bucket,
        force_path_style: location.force_path_style,
        keys: AccessKeys::given(location.access_key_id, location.secret_access_key, location.session_token),
        ca: authorities::beside_public(location.ca),
    }
}

/// Lists the bucket into the folder of the point. What goes wrong leaves a point of the database alone, and says so.
pub(super) async fn write(
    bucket: &BucketClient,
    args: &DumpArgs,
    destination: &BucketTarget,
    (folder, retention): (&str, Option<Retention>),
    stop: &CancellationToken,
) -> Result<Half, DumpError> {
    if !args.objects {
        return Ok(Half::NotAsked);
    }
    let source = source(&SourceArgs { source: args.source.as_deref(), destination })?;
    let without = |why: String| Half::Without(format!("the point holds the database only: {why}"));
    let client = BucketClient::new(&source, Timeouts::DATA)?;
    match lasts(&client, args.retention_days).await {
        Ok(None) => {}
        Ok(Some(why)) => return Ok(without(why)),
        Err(error) => {
            let why = format!("whether its versions last could not be read: {error}");
            return Ok(without(format!("{why}; it takes s3:GetBucketVersioning and s3:GetLifecycleConfiguration")));
        }
    }
    let key = format!("{folder}{OBJECTS_FILE}");
    let says: Vec<_> = args.owner.iter().map(|of| (owner::SAYS, of.as_str())).collect();
    let headers = Headers::saying(&says).locked(retention);
    let listed = Listing::new(&client, &args.objects_except);
    let mut listed = listed.map_err(|source| DumpError::Run { source })?;
    match Box::pin(stream::upload(bucket, (&key, &headers), &mut listed, stop)).await {
        Ok(written) => {
            let half = BucketHalf {
                bucket: source.bucket,
                endpoint: source.endpoint,
                count: listed.count,
                bytes: listed.bytes,
                replica: args.replica.as_ref().map(|to| to.bucket.clone()),
            };
            Ok(Half::Written(half, ManifestObject { key, size: written.size, sha256: written.sha256 }))
        }
        Err(DumpError::Stopped) => Err(DumpError::Stopped),
        Err(error) => {
            let why = format!("the list of the objects was not made: {error}");
            Ok(without(format!(
                "{why}; the next backup tries again, and takes s3:ListBucket and s3:ListBucketVersions"
            )))
        }
    }
}

/// Why the versions of a list would not be there when the point is restored.
pub(super) async fn lasts(source: &BucketClient, retention_days: u32) -> Result<Option<String>, ServiceError> {
    let name = source.bucket();
    let state = match source.versioning().await? {
        Versioning::Enabled => None,
        Versioning::Suspended => Some("suspended"),
        Versioning::Off => Some("off"),
    };
    if let Some(state) = state {
        return Ok(Some(format!("versioning of bucket \"{name}\" is {state}; set bucket.versioning, or turn it on")));
    }
    Ok(source.noncurrent_days().await?.and_then(|days| too_short(name, days, retention_days)))
}

fn too_short(name: &str, days: u32, retention_days: u32) -> Option<String> {
    (days <= retention_days).then(|| {
        format!(
            "bucket \"{name}\" deletes noncurrent versions after {days} days, and backup.retention.days is {retention_days}; keep \
             them longer than that"
        )
    })
}

/// The list, a page at a time.
struct Listing<'a> {
    source: &'a BucketClient,
    except: &'a [String],
    encoder: Option<zstd::stream::write::Encoder<'static, Vec<u8>>>,
    next: Option<Stage>,
    known: Known,
    count: u64,
    bytes: u64,
}

/// How far the list is.
enum Stage {
    /// The page of versions that comes next.
    Versions(Marker),
    /// The page of objects that comes next, of which the pages of versions may have left some out.
    Objects(Option<String>),
}

impl<'a> Listing<'a> {
    fn new(source: &'a BucketClient, except: &'a [String]) -> std::io::Result<Self> {
        let encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        let next = Some(Stage::Versions(Marker::default()));
        Ok(Self { source, except, encoder: Some(encoder), next, known: Known::default(), count: 0, bytes: 0 })
    }

    /// The next page, and what comes after it.
    async fn page(&mut self, stage: Stage) -> Result<(Vec<ListedVersion>, Option<Stage>), DumpError> {
        match stage {
            Stage::Versions(marker) => {
                let (mut versions, next) = self.source.latest_versions(&marker).await?;
                for version in &versions {
                    self.known.add(&version.key);
                }
                if self.known.residue > 0 {
                    // They are written.
                    versions.clear();
                }
                if next.is_none() {
                    self.known.finish();
                }
                Ok((versions, Some(next.map_or(Stage::Objects(None), Stage::Versions))))
            }
            Stage::Objects(from) => {
                let (objects, next) = match self.source.page("", from).await {
                    // A right that points took no use of before.
                    Err(error @ ServiceError::AccessDenied { .. }) => {
                        tracing::warn!(%error, "whether pages of versions leave keys out is not known");
                        return Ok((Vec::new(), None));
                    }
                    page => page?,
                };
                let left_out = objects.into_iter().filter(|object| !self.is_excepted(&object.key));
                let left_out = left_out.filter(|object| self.known.lacks(&object.key));
                let asked =
                    futures_stream::iter(left_out).map(async |object| self.source.latest_version(&object.key).await);
                let found: Vec<_> = asked.buffered(CONCURRENT).try_collect().await?;
                let found: Vec<_> = found.into_iter().flatten().collect();
                self.known.left_out |= !found.is_empty();
                let next = match next {
                    Some(next) => Some(Stage::Objects(Some(next))),
                    None => self.known.next().then(|| Stage::Versions(Marker::default())),
                };
                Ok((found, next))
            }
        }
    }

    fn is_excepted(&self, key: &str) -> bool {
        is_probe(key) || self.except.iter().any(|folder| key.starts_with(folder.as_str()))
    }

    fn add(&mut self, versions: Vec<ListedVersion>) -> std::io::Result<()> {
        let versions: Vec<_> = versions.into_iter().filter(|version| !self.is_excepted(&version.key)).collect();
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        for version in versions {
            self.count += 1;
            self.bytes += version.size;
            serde_json::to_writer(&mut *encoder, &ListedObject::from(version))?;
            encoder.write_all(b"\n")?;
        }
        Ok(())
    }
}

impl Input for Listing<'_> {
    async fn part(&mut self, size: usize) -> Result<Vec<u8>, DumpError> {
        let failed = |source| DumpError::Run { source };
        while let Some(stage) = self.next.take() {
            let (versions, next) = Box::pin(self.page(stage)).await?;
            self.next = next;
            self.add(versions).map_err(failed)?;
            if let Some(encoder) = self.encoder.as_mut().filter(|encoder| encoder.get_ref().len() >= size) {
                return Ok(std::mem::take(encoder.get_mut()));
            }
        }
        match self.encoder.take() {
            Some(encoder) => encoder.finish().map_err(failed),
            None => Ok(Vec::new()),
        }
    }
}

/// The keys that the pages of versions have. `SeaweedFS` pages through its folders, and leaves out what comes before a page by its key
/// and after it by its folder: `m-x` beside a folder `m/`. Of a large bucket a part of the keys is compared, and the others, part by
/// part, only if some of these are left out.
#[derive(Default)]
struct Known {
    hashes: Vec<(u64, u64)>,
    /// Into how many parts the keys are divided, as a power of two.
    bits: u32,
    /// The part that is compared.
    residue: u64,
    left_out: bool,
}

impl Known {
    fn add(&mut self, key: &str) {
        let hash = hash(key);
        if is_of(hash, self.bits, self.residue) {
            self.hashes.push(hash);
        }
        // Each part has about as many as the first.
        while self.residue == 0 && self.hashes.len() >= COMPARED {
            self.bits += 1;
            let bits = self.bits;
            self.hashes.retain(|hash| is_of(*hash, bits, 0));
        }
    }

    /// Has to come after the last key.
    fn finish(&mut self) {
        self.hashes.sort_unstable();
    }

    /// Whether a key of the part is left out.
    fn lacks(&self, key: &str) -> bool {
        let hash = hash(key);
        is_of(hash, self.bits, self.residue) && self.hashes.binary_search(&hash).is_err()
    }

    /// Goes on to the next part, if there is need for it.
    fn next(&mut self) -> bool {
        self.hashes.clear();
        self.residue += 1;
        self.left_out && self.residue < 1 << self.bits
    }
}

fn is_of((high, _): (u64, u64), bits: u32, residue: u64) -> bool {
    high & ((1 << bits) - 1) == residue
}

/// Enough of the SHA-256 of a key that no two of a bucket have the same.
pub(super) fn hash(key: &str) -> (u64, u64) {
    let digest = Sha256::digest(key);
    (word(&digest[..8]), word(&digest[8..16]))
}

/// Eight bytes as a number.
pub(super) fn word(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The list of a point, some lines in memory at a time. It ends well only if it is the one of the manifest.
pub(super) struct ListReader {
    key: String,
    input: ObjectReader,
    decoder: zstd::stream::write::Decoder<'static, Vec<u8>>,
    /// The beginning of a line.
    rest: Vec<u8>,
    chunk: Vec<u8>,
}

impl ListReader {
    pub(super) async fn open(bucket: &BucketClient, list: &ManifestObject) -> Result<Self, ReadError> {
        let input = checked::read(bucket, list).await?;
        let decoder = zstd::stream::write::Decoder::new(Vec::new());
        let decoder = decoder.map_err(|error| corrupt(&list.key, &error.to_string()))?;
        Ok(Self { key: list.key.clone(), input, decoder, rest: Vec::new(), chunk: vec![0; CHUNK] })
    }

    /// The next lines, which may be none of them. `None`: that was all.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<ListedObject>>, ReadError> {
        let wrong = |why: &str| corrupt(&self.key, why);
        let read = match self.input.read(&mut self.chunk).await {
            Ok(read) => read,
            Err(error) => {
                return Err(checked::read_error(&error).cloned().unwrap_or_else(|| wrong(&error.to_string())));
            }
        };
        if read == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(wrong("it ends within a line")) };
        }
        let written = self.decoder.write_all(&self.chunk[..read]).and_then(|()| self.decoder.flush());
        written.map_err(|error| wrong(&error.to_string()))?;
        self.rest.append(self.decoder.get_mut());
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = self.rest[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let objects: Result<Vec<_>, _> = lines.map(serde_json::from_slice).collect();
        let objects = objects.map_err(|error| wrong(&error.to_string()))?;
        self.rest.drain(..whole);
        if self.rest.len() > LONGEST_LINE { Err(wrong("it is no list of objects")) } else { Ok(Some(objects)) }
    }
}

fn corrupt(key: &str, detail: &str) -> ReadError {
    ReadError::Corrupt { key: key.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is left out is found, in one part or in many; and no more than one part is compared where nothing is.
    #[test]
    fn what_pages_of_versions_leave_out_is_found() {
        for bits in [0, 2] {
            let keys: Vec<_> = (0..100).map(|number| format!("k{number}")).collect();
            let mut known = Known { bits, ..Known::default() };
            let mut lacking = Vec::new();
            loop {
                keys.iter().skip(3).for_each(|key| known.add(key));
                known.finish();
                let found: Vec<_> = keys.iter().filter(|key| known.lacks(key)).collect();
                known.left_out |= bits == 2 || !found.is_empty();
                lacking.extend(found);
                if !known.next() {
                    break;
                }
            }
            lacking.sort();
            assert_eq!(lacking, ["k0", "k1", "k2"], "{bits}");
            assert_eq!(known.residue, 1 << bits);
        }
        assert!(!Known { bits: 2, ..Known::default() }.next(), "nothing is left out");
    }

    #[test]
    fn versions_that_go_before_the_point_does_are_told_with_both_numbers() {
        assert_eq!(too_short("files", 31, 30), None);
        for days in [1, 30] {
            let why = too_short("files", days, 30).unwrap_or_default();
            assert!(why.contains(&format!("after {days} days")) && why.contains("retention.days is 30"), "{why}");
        }
    }
}
