//! An object of a backup, read in order and compared with its manifest on the way. Its last bytes are held back until the
//! comparison is done: whoever reads it can neither finish with an object that is not the manifest's nor take it for whole.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;

use futures::{Stream, stream};
use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tokio_util::io::StreamReader;

use super::manifest::ManifestObject;
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

/// The bytes of an object. What goes wrong is an [`io::Error`] around a [`ReadError`].
pub(super) type ObjectReader = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// The error of an [`ObjectReader`], unless it is that of somebody else.
pub(super) fn read_error(error: &io::Error) -> Option<&ReadError> {
    error.get_ref()?.downcast_ref()
}

/// Starts to read an object of a backup.
pub(super) async fn read(bucket: &BucketClient, object: &ManifestObject) -> Result<ObjectReader, ReadError> {
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
    let chunks = stream::try_unfold(state, async |mut state| {
        let next = state.next().await.map_err(io::Error::other)?;
        Ok(next.map(|chunk| (chunk, state)))
    });
    Ok(StreamReader::new(Box::pin(chunks)))
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
        let detail = "its SHA-256 is not the one of the manifest: it is damaged, or another's".to_owned();
        Err(ReadError::Corrupt { key: self.object.key.clone(), detail })
    }
}
