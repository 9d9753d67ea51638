//! One object from one bucket to another, through memory: in parts if it is large, with all that it says of itself.

use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::error::DumpError;
use super::stream::{self, Input, Written};
use crate::services::bucket::{BucketClient, Download, Retention};

/// What is not larger is written by one request.
const SMALL: u64 = 8 << 20;

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

/// Copies an object. `None`: there is none.
pub(super) async fn transfer(
    from: Origin<'_>,
    (to, key, retention): (&BucketClient, &str, Option<Retention>),
    stop: &CancellationToken,
) -> Result<Option<Written>, DumpError> {
    let Some((found, headers)) = from.bucket.headers(from.key, from.version).await? else { return Ok(None) };
    let headers = headers.locked(retention);
    let at_once = if found.size > SMALL { &LARGE_AT_ONCE } else { &SMALL_AT_ONCE };
    let permit = at_once.acquire().await;
    let _permit = permit.map_err(|closed| DumpError::Run { source: std::io::Error::other(closed) })?;
    let Some(download) = from.bucket.download(from.key, from.version).await? else { return Ok(None) };
    let size = download.size();
    let mut content = Content { download, rest: Bytes::new() };
    if size > SMALL {
        return Box::pin(stream::upload(to, (key, &headers), &mut content, stop)).await.map(Some);
    }
    let mut body = Vec::new();
    loop {
        let part = stream::unless_stopped(stop, content.part(stream::FIRST_PART_SIZE)).await?;
        if part.is_empty() {
            break;
        }
        body.extend(part);
    }
    let written = Written { size: body.len() as u64, sha256: stream::hex(&Sha256::digest(&body)) };
    to.put_with(key, body, &headers).await?;
    Ok(Some(written))
}

/// The content of an object, through connections that break.
struct Content {
    download: Download,
    rest: Bytes,
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
}
