//! Into a bucket: in parts, hashed on the way, with two parts in memory and nothing on disk.

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use super::error::DumpError;
use super::pg_dump::PgDump;
use super::seal::Seal;
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Headers, Upload};

pub(super) const FIRST_PART_SIZE: usize = 8 * 1024 * 1024;
/// S3 takes 10,000 parts. With ten steps of this many, doubling each time, they hold 8 TiB; an object may have 5.
const PARTS_PER_STEP: usize = 1000;
/// How much is encrypted at once, beside the part that it becomes.
const SEALED_AT_ONCE: usize = 1024 * 1024;

/// What was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// What is uploaded.
pub(super) trait Input {
    /// The next part, which has at least this size unless it is the last. Empty at the end.
    async fn part(&mut self, size: usize) -> Result<Vec<u8>, DumpError>;

    /// Whether the end was one: what cannot be told from the last part. `sha256`: that of everything.
    async fn finish(&mut self, _sha256: &str) -> Result<(), DumpError> {
        Ok(())
    }
}

/// What `pg_dump` writes, encrypted if it is to be.
pub(super) struct DumpInput<'a> {
    child: &'a mut PgDump,
    seal: Option<Seal>,
    ready: Vec<u8>,
}

impl<'a> DumpInput<'a> {
    pub(super) fn new(child: &'a mut PgDump, recipients: &[String]) -> Result<Self, DumpError> {
        let seal = Seal::new(recipients).map_err(|source| DumpError::Encrypt { source })?;
        Ok(Self { child, seal, ready: Vec::new() })
    }
}

impl Input for DumpInput<'_> {
    async fn part(&mut self, size: usize) -> Result<Vec<u8>, DumpError> {
        let failed = |source| DumpError::Encrypt { source };
        while let Some(seal) = self.seal.as_mut().filter(|_| self.ready.len() < size) {
            let chunk = read_part(&mut self.child.output, SEALED_AT_ONCE).await?;
            if !chunk.is_empty() {
                self.ready.extend(seal.add(&chunk).map_err(failed)?);
            } else if let Some(seal) = self.seal.take() {
                // The child has to have ended well before anything looks like an end: a dump that was cut off stays one.
                self.child.finish().await?;
                self.ready.extend(seal.finish().map_err(failed)?);
                return Ok(std::mem::take(&mut self.ready));
            }
        }
        match &self.seal {
            Some(_) => Ok(std::mem::take(&mut self.ready)),
            None => read_part(&mut self.child.output, size).await,
        }
    }

    async fn finish(&mut self, _sha256: &str) -> Result<(), DumpError> {
        self.child.finish().await
    }
}

/// Uploads an input as an object with these headers. On any failure nothing stays: no object, and no parts.
pub(super) async fn upload(
    bucket: &BucketClient,
    (key, headers): (&str, &Headers),
    input: &mut impl Input,
    stop: &CancellationToken,
) -> Result<Written, DumpError> {
    // A child that cannot even connect has not cost an upload.
    let first = unless_stopped(stop, input.part(part_size(0))).await?;
    if first.is_empty() {
        unless_stopped(stop, input.finish("")).await?;
        return Err(DumpError::Empty);
    }
    let mut upload = bucket.start_upload_with(key, headers).await?;
    match unless_stopped(stop, send(&mut upload, first, input)).await {
        Ok(written) => {
            let completed = upload.complete().await;
            verify(bucket, key, written, completed, &upload).await
        }
        Err(error) => {
            take_back(&upload).await;
            Err(error)
        }
    }
}

/// Ends the work when the token is cancelled.
pub(super) async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, DumpError>>,
) -> Result<T, DumpError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(DumpError::Stopped),
        result = work => result,
    }
}

/// Sends one part while the next is read, and believes the input only after it has ended well.
async fn send(upload: &mut Upload, first: Vec<u8>, input: &mut impl Input) -> Result<Written, DumpError> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut part = first;
    while !part.is_empty() {
        hash.update(&part);
        size += part.len() as u64;
        let next_size = part_size(upload.parts() + 1);
        let sent = async { upload.send(part).await.map_err(DumpError::from) };
        ((), part) = tokio::try_join!(sent, input.part(next_size))?;
    }
    let sha256 = hex(&hash.finalize());
    input.finish(&sha256).await?;
    Ok(Written { size, sha256 })
}

/// Compares what the bucket has with what was sent.
async fn verify(
    bucket: &BucketClient,
    key: &str,
    written: Written,
    completed: Result<(), ServiceError>,
    upload: &Upload,
) -> Result<Written, DumpError> {
    let found = match bucket.size(key).await {
        // Whatever the answer to the completion was, or whether one came: the object is there.
        Ok(Some(size)) if size == written.size => return Ok(written),
        found => found,
    };
    take_back(upload).await;
    if let Err(error) = bucket.delete(key).await {
        tracing::warn!(%error, key, "a broken dump is left in the bucket");
    }
    completed?;
    Err(DumpError::Size { key: key.to_owned(), sent: written.size, found: found? })
}

async fn take_back(upload: &Upload) {
    if let Err(error) = upload.abort().await {
        tracing::warn!(%error, "the upload is not aborted; a later run removes it");
    }
}

/// Reads until the part is full or the input ends.
pub(super) async fn read_part(input: &mut (impl AsyncRead + Unpin), size: usize) -> Result<Vec<u8>, DumpError> {
    let mut part = Vec::with_capacity(size);
    while part.len() < size {
        let missing = (size - part.len()) as u64;
        let read = input.take(missing).read_buf(&mut part).await.map_err(|source| DumpError::Run { source })?;
        if read == 0 {
            break;
        }
    }
    Ok(part)
}

fn part_size(sent: usize) -> usize {
    FIRST_PART_SIZE << (sent / PARTS_PER_STEP).min(9)
}

/// In hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_the_largest_object() {
        let total: usize = (0..10_000).map(part_size).sum();
        assert!(total >= 5 << 40, "{total}");
        assert_eq!((part_size(0), part_size(999), part_size(1000)), (8 << 20, 8 << 20, 16 << 20));
    }

    #[tokio::test]
    async fn parts_are_full_until_the_last() {
        let mut input: &[u8] = &[7; 25];
        let mut sizes = Vec::new();
        loop {
            let part = read_part(&mut input, 10).await.expect("read");
            sizes.push(part.len());
            if part.is_empty() {
                break;
            }
        }
        assert_eq!(sizes, [10, 10, 5, 0]);
    }

    #[test]
    fn hex_has_leading_zeros() {
        assert_eq!(hex(&[0, 15, 255]), "000fff");
    }
}
