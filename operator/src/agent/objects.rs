//! The bucket half of a point: which version of each object of the application's bucket is there, as lines of JSON compressed by
//! zstd. Each list is whole, so that the removal of one point breaks no other.

use std::io::Write as _;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use super::DumpArgs;
use super::checked::{self, ObjectReader, ReadError};
use super::error::DumpError;
use super::manifest::{BucketHalf, ManifestObject};
use super::stream::{self, Input};
use super::{authorities, owner};
use crate::contract::{BucketLocation, OBJECTS_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, BucketTarget, ListedVersion, Marker, Timeouts, Versioning};

/// Fast, and a fifth of the text.
const LEVEL: i32 = 3;
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
    let Some(text) = args.source else { return Ok(args.destination.clone()) };
    let parsed = serde_json::from_str::<BucketLocation>(text);
    Ok(target(&parsed.map_err(|source| DumpError::Variable { name: crate::contract::ENV_SOURCE, source })?))
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
        access_key_id: location.access_key_id,
        secret_access_key: location.secret_access_key,
        session_token: location.session_token.filter(|token| !token.is_empty()),
        ca: authorities::beside_public(location.ca),
    }
}

/// Lists the bucket into the folder of the point. What goes wrong leaves a point of the database alone, and says so.
pub(super) async fn write(
    bucket: &BucketClient,
    args: &DumpArgs,
    destination: &BucketTarget,
    folder: &str,
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
        Err(error) => return Ok(without(error.to_string())),
    }
    let key = format!("{folder}{OBJECTS_FILE}");
    let says: Vec<_> = args.owner.iter().map(|of| (owner::SAYS, of.as_str())).collect();
    let listed = Listing::new(&client, &args.objects_except);
    let mut listed = listed.map_err(|source| DumpError::Run { source })?;
    match Box::pin(stream::upload(bucket, (&key, &says), &mut listed, stop)).await {
        Ok(written) => {
            let half = BucketHalf {
                bucket: source.bucket,
                endpoint: source.endpoint,
                count: listed.count,
                bytes: listed.bytes,
            };
            Ok(Half::Written(half, ManifestObject { key, size: written.size, sha256: written.sha256 }))
        }
        Err(DumpError::Stopped) => Err(DumpError::Stopped),
        Err(error) => Ok(without(error.to_string())),
    }
}

/// Why the versions of a list would not be there when the point is restored.
async fn lasts(source: &BucketClient, retention_days: u32) -> Result<Option<String>, ServiceError> {
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
    next: Option<Marker>,
    count: u64,
    bytes: u64,
}

impl<'a> Listing<'a> {
    fn new(source: &'a BucketClient, except: &'a [String]) -> std::io::Result<Self> {
        let encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        Ok(Self { source, except, encoder: Some(encoder), next: Some(Marker::default()), count: 0, bytes: 0 })
    }

    fn add(&mut self, versions: Vec<ListedVersion>) -> std::io::Result<()> {
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        for version in versions {
            if self.except.iter().any(|folder| version.key.starts_with(folder.as_str())) {
                continue;
            }
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
        while let Some(marker) = self.next.take() {
            let (versions, next) = self.source.latest_versions(&marker).await?;
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

    #[test]
    fn versions_that_go_before_the_point_does_are_told_with_both_numbers() {
        assert_eq!(too_short("files", 31, 30), None);
        for days in [1, 30] {
            let why = too_short("files", days, 30).unwrap_or_default();
            assert!(why.contains(&format!("after {days} days")) && why.contains("retention.days is 30"), "{why}");
        }
    }
}
