//! An object of a backup, read in order and compared with its manifest on the way. Its last bytes are held back until the
//! comparison is done: whoever reads it can neither finish with an object that is not the manifest's nor take it for whole.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use age::x25519::Identity;
use futures::{Stream, stream};
use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufRead, BufReader};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use super::manifest::ManifestObject;
use super::seal;
use super::stream::hex;
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Download};

/// How much is held back, at least.
const HELD: usize = 64 * 1024;

/// Why an object cannot be read to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    /// The bucket cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// There is no such object, or it is not what the manifest says.
    #[error("failed to read {key}: {detail}")]
    Corrupt { key: String, detail: String },
}

/// Why a dump was not given to anybody.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is encrypted, and not for these identities.
    #[error("failed to decrypt {key}: {why}")]
    Sealed { key: String, why: &'static str },
}

/// A dump, and what opens it.
#[derive(Clone, Copy)]
pub(super) struct Dump<'a> {
    pub(super) bucket: &'a BucketClient,
    pub(super) object: &'a ManifestObject,
    /// Whether it is encrypted.
    pub(super) sealed: bool,
    pub(super) identities: &'a [Identity],
}

/// A dump on its way to whoever reads it.
pub(super) type DumpReader<'a> = &'a mut (dyn AsyncBufRead + Send + Unpin);

impl Dump<'_> {
    /// Gives the dump to somebody, decrypted if it is encrypted. Whatever became of it, one that is not the manifest's is told as
    /// that: it is read to its end, unless the token is cancelled.
    pub(super) async fn read<T>(
        &self,
        stop: &CancellationToken,
        taken: impl AsyncFnOnce(DumpReader<'_>) -> T,
    ) -> Result<T, OpenError> {
        let (mut raw, failure) = reader(self.bucket, self.object).await?;
        let done = if self.sealed {
            match seal::open(&mut raw, self.identities).await {
                Ok(opened) => Ok(taken(&mut BufReader::with_capacity(HELD, opened)).await),
                Err(why) => Err(OpenError::Sealed { key: self.object.key.clone(), why }),
            }
        } else {
            Ok(taken(&mut raw).await)
        };
        let mut nobody = tokio::io::sink();
        tokio::select! {
            biased;
            () = stop.cancelled() => return done,
            // What goes wrong is kept beside.
            _ = tokio::io::copy_buf(&mut raw, &mut nobody) => {}
        }
        let failed = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(done, |error| Err(error.into()))
    }
}

/// The bytes of an object. What goes wrong is an [`io::Error`] around a [`ReadError`].
pub(super) type ObjectReader = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// The error of an [`ObjectReader`], unless it is that of somebody else.
pub(super) fn read_error(error: &io::Error) -> Option<&ReadError> {
    error.get_ref()?.downcast_ref()
}

/// Starts to read an object of a backup.
pub(super) async fn read(bucket: &BucketClient, object: &ManifestObject) -> Result<ObjectReader, ReadError> {
    Ok(reader(bucket, object).await?.0)
}

/// What went wrong within a reader, whoever got the error.
type Failure = Arc<Mutex<Option<ReadError>>>;

async fn reader(bucket: &BucketClient, object: &ManifestObject) -> Result<(ObjectReader, Failure), ReadError> {
    let corrupt = |detail: String| ReadError::Corrupt { key: object.key.clone(), detail };
    let Some(download) = bucket.download(&object.key, None).await? else {
        return Err(corrupt("the bucket has no such object".to_owned()));
    };
    if download.size() != object.size {
        let (found, told) = (download.size(), object.size);
        return Err(corrupt(format!("it has {found} bytes, and {told} by the manifest: it is cut off, or another's")));
    }
    let state =
        Reading { download, hash: Some(Sha256::new()), held: VecDeque::new(), bytes: 0, object: object.clone() };
    let failure = Failure::default();
    let kept = failure.clone();
    let chunks = stream::try_unfold(state, move |mut state| {
        let kept = kept.clone();
        async move {
            let next = state.next().await.map_err(|error| {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                io::Error::other(error)
            })?;
            Ok(next.map(|chunk| (chunk, state)))
        }
    });
    Ok((StreamReader::new(Box::pin(chunks)), failure))
}

struct Reading {
    download: Download,
    /// `None`: it was compared.
    hash: Option<Sha256>,
    held: VecDeque<Bytes>,
    bytes: usize,
    object: ManifestObject,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        while self.hash.is_some() {
            if self.held.front().is_some_and(|first| self.bytes - first.len() >= HELD) {
                break;
            }
            match self.download.next().await? {
                Some(chunk) => {
                    if let Some(hash) = &mut self.hash {
                        hash.update(&chunk);
                    }
                    self.bytes += chunk.len();
                    self.held.push_back(chunk);
                }
                None => self.compare()?,
            }
        }
        let chunk = self.held.pop_front();
        self.bytes -= chunk.as_ref().map_or(0, Bytes::len);
        Ok(chunk)
    }

    fn compare(&mut self) -> Result<(), ReadError> {
        let found = self.hash.take().map(|hash| hex(&hash.finalize())).unwrap_or_default();
        if found == self.object.sha256 {
            return Ok(());
        }
        let detail = "it has another SHA-256 than its manifest says: it is damaged, or another's".to_owned();
        Err(ReadError::Corrupt { key: self.object.key.clone(), detail })
    }
}
