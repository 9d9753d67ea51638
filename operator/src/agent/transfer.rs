//! One object from one bucket to another, through memory: in parts if it is large, with all that it says of itself. A copy in a pool
//! says its SHA-256 as well, and what comes out of a pool is written only if it has that one.

use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::error::DumpError;
use super::objects::ListedObject;
use super::stream::{self, Input, Written};
use crate::services::bucket::{BucketClient, Created, Download, Headers, Retention};

/// What is not larger is written by one request.
const SMALL: u64 = 8 << 20;
/// The name that a copy says its SHA-256 by.
const SHA256: &str = "rorun-sha256";

/// How many objects may be in memory at once, whatever the caller does at once: small ones, and large ones, which have two parts there.
static SMALL_AT_ONCE: Semaphore = Semaphore::const_new(4);
static LARGE_AT_ONCE: Semaphore = Semaphore::const_new(1);

/// Where an object comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) bucket: &'a BucketClient,
    pub(super) key: &'a str,
    /// The version, or the newest one.
    pub(super) version: Option<&'a str>,
}

/// Which way an object goes.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// Into a pool, where it is locked.
    In(Option<Retention>),
    /// Out of a pool, with what its copy says there.
    Out(&'a Says),
    /// Likewise, to where nothing is yet.
    New(&'a Says),
}

/// What a copy in a pool says of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Its SHA-256.
    Sum(String),
    /// Nothing: what the object says of itself leaves no room for it.
    NoRoom,
    /// Nothing, though there is room: it is no copy that was made here.
    Nothing,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transferred {
    /// It was written.
    Written(Written),
    /// There is no such object.
    Missing,
    /// It has another content than its copy says, so nothing was written.
    Differs,
    /// There is another object, which stays.
    Taken,
}

impl Says {
    /// By the metadata of a copy.
    pub(super) fn of(headers: &Headers) -> Self {
        match headers.says(SHA256) {
            Some(sum) => Self::Sum(sum.to_owned()),
            None if headers.has_room(SHA256.len() + 64) => Self::Nothing,
            None => Self::NoRoom,
        }
    }

    /// The SHA-256 that the content has to have, if that is known.
    pub(super) fn sum(&self) -> Option<&str> {
        match self {
            Self::Sum(sum) => Some(sum),
            Self::NoRoom | Self::Nothing => None,
        }
    }
}

impl Way<'_> {
    /// What the object is to say of itself.
    fn headers(self, headers: Headers, sum: &str) -> Headers {
        match self {
            Self::In(retention) if headers.has_room(SHA256.len() + sum.len()) => {
                headers.also_saying(SHA256, sum).locked(retention)
            }
            Self::In(retention) => headers.locked(retention),
            Self::Out(_) | Self::New(_) => headers.without(SHA256),
        }
    }

    /// The SHA-256 that the content has to have, if a copy says it.
    fn expected(&self) -> Option<&str> {
        match self {
            Self::In(_) => None,
            Self::Out(says) | Self::New(says) => says.sum(),
        }
    }
}

/// The SHA-256 of an object. `None`: there is none.
pub(super) async fn sum(from: Origin<'_>, stop: &CancellationToken) -> Result<Option<String>, DumpError> {
    let Some(download) = from.bucket.download(from.key, from.version).await? else { return Ok(None) };
    sum_of(download, stop).await.map(Some)
}

async fn sum_of(mut download: Download, stop: &CancellationToken) -> Result<String, DumpError> {
    let mut hash = Sha256::new();
    while let Some(bytes) = stream::unless_stopped(stop, async { Ok(download.next().await?) }).await? {
        hash.update(&bytes);
    }
    Ok(stream::hex(&hash.finalize()))
}

/// Copies an object.
pub(super) async fn transfer(
    from: Origin<'_>,
    (to, key, way): (&BucketClient, &str, Way<'_>),
    stop: &CancellationToken,
) -> Result<Transferred, DumpError> {
    let Some((found, headers)) = from.bucket.headers(from.key, from.version).await? else {
        return Ok(Transferred::Missing);
    };
    let at_once = if found.size > SMALL { &LARGE_AT_ONCE } else { &SMALL_AT_ONCE };
    let permit = at_once.acquire().await;
    let _permit = permit.map_err(|closed| DumpError::Run { source: std::io::Error::other(closed) })?;
    let Some(download) = from.bucket.download(from.key, from.version).await? else { return Ok(Transferred::Missing) };
    if download.size() > SMALL {
        return Box::pin(large(from, (download, headers), (to, key, way), stop)).await;
    }
    let mut content = Content { download, rest: Bytes::new(), expected: None, differs: false };
    let mut body = Vec::new();
    loop {
        let part = stream::unless_stopped(stop, content.part(stream::FIRST_PART_SIZE)).await?;
        if part.is_empty() {
            break;
        }
        body.extend(part);
    }
    let written = Written { size: body.len() as u64, sha256: stream::hex(&Sha256::digest(&body)) };
    if way.expected().is_some_and(|sum| sum != written.sha256) {
        return Ok(Transferred::Differs);
    }
    let headers = way.headers(headers, &written.sha256);
    match way {
        Way::In(_) | Way::Out(_) => to.put_with(key, body, &headers).await?,
        Way::New(_) => {
            if to.create_with(key, body, &headers).await? == Created::Refused {
                return Ok(Transferred::Taken);
            }
        }
    }
    Ok(Transferred::Written(written))
}

/// One that is written in parts says of itself what it does before the first of them. So what goes into a pool is read twice. Whether
/// there is another object the caller has looked.
async fn large(
    from: Origin<'_>,
    (mut download, headers): (Download, Headers),
    (to, key, way): (&BucketClient, &str, Way<'_>),
    stop: &CancellationToken,
) -> Result<Transferred, DumpError> {
    let expected = match way {
        Way::Out(_) | Way::New(_) => way.expected().map(str::to_owned),
        Way::In(_) => {
            let sum = sum_of(download, stop).await?;
            let Some(again) = from.bucket.download(from.key, from.version).await? else {
                return Ok(Transferred::Missing);
            };
            download = again;
            Some(sum)
        }
    };
    let headers = way.headers(headers, expected.as_deref().unwrap_or_default());
    let mut content = Content { download, rest: Bytes::new(), expected, differs: false };
    match Box::pin(stream::upload(to, (key, &headers), &mut content, stop)).await {
        Ok(written) => Ok(Transferred::Written(written)),
        Err(_) if content.differs => Ok(Transferred::Differs),
        Err(error) => Err(error),
    }
}

/// Copies the listed version of an object into a pool, and reads it back.
pub(super) async fn copy_version(
    (source, object): (&BucketClient, &ListedObject),
    (to, key, retention): (&BucketClient, &str, Option<Retention>),
    stop: &CancellationToken,
) -> Result<(), DumpError> {
    let wrong = |why: String| DumpError::Copy { key: object.key.clone(), why };
    if stop.is_cancelled() {
        return Err(DumpError::Stopped);
    }
    let origin = Origin { bucket: source, key: &object.key, version: Some(&object.version_id) };
    let written = match Box::pin(transfer(origin, (to, key, Way::In(retention)), stop)).await? {
        Transferred::Written(written) => written,
        Transferred::Missing => {
            let version = &object.version_id;
            return Err(wrong(format!(
                "version {version} is gone, so this point cannot be restored whole; a newer one can"
            )));
        }
        Transferred::Differs | Transferred::Taken => return Err(wrong("it reads differently each time".to_owned())),
    };
    let found = sum(Origin { bucket: to, key, version: None }, stop).await?;
    let same = written.size == object.size && found.as_deref() == Some(&*written.sha256);
    if same && to.headers(key, None).await?.is_some_and(|(_, headers)| Says::of(&headers) != Says::Nothing) {
        return Ok(());
    }
    // Nothing that is wrong stays where a copy is looked for.
    to.delete(key).await?;
    let why = if same {
        "the server of the copy keeps no metadata of objects, by which a restore knows a whole copy"
    } else {
        "the copy has another size than the list says, or another checksum than what was read"
    };
    Err(wrong(why.to_owned()))
}

/// The content of an object, through connections that break.
struct Content {
    download: Download,
    rest: Bytes,
    /// The SHA-256 without which the end is none.
    expected: Option<String>,
    /// It ended with another one.
    differs: bool,
}

impl Input for Content {
    async fn part(&mut self, size: usize) -> Result<Vec<u8>, DumpError> {
        let mut part = Vec::new();
        while part.len() < size {
            if self.rest.is_empty() {
                let Some(next) = self.download.next().await? else { break };
                self.rest = next;
            }
            let taken = self.rest.split_to(self.rest.len().min(size - part.len()));
            part.extend_from_slice(&taken);
        }
        Ok(part)
    }

    async fn finish(&mut self, sha256: &str) -> Result<(), DumpError> {
        self.differs = self.expected.as_ref().is_some_and(|expected| expected != sha256);
        if self.differs {
            return Err(DumpError::Run { source: std::io::Error::other("it has another SHA-256") });
        }
        Ok(())
    }
}
