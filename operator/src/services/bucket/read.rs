//! Large objects, and single versions of objects, read as a stream.

use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use tokio::io::AsyncBufRead;

use super::BucketClient;
use crate::services::error::ServiceError;

/// An object that is being read.
pub struct Body {
    /// Its size, if the server says it.
    pub size: Option<u64>,
    /// The `ETag`; empty if the server gives none.
    pub tag: String,
    /// Its content.
    pub content: Box<dyn AsyncBufRead + Send + Unpin>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Body").field("size", &self.size).finish_non_exhaustive()
    }
}

impl BucketClient {
    /// Begins to read an object, or exactly this version of it. `None`: there is none.
    pub async fn read(&self, key: &str, version: Option<&str>) -> Result<Option<Body>, ServiceError> {
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        match request.set_version_id(version.map(str::to_owned)).send().await {
            Ok(object) => Ok(Some(Body {
                size: object.content_length().and_then(|size| u64::try_from(size).ok()),
                tag: object.e_tag().unwrap_or_default().to_owned(),
                content: Box::new(object.body.into_async_read()),
            })),
            Err(SdkError::ServiceError(answer)) if answer.err().is_no_such_key() => Ok(None),
            Err(error) if matches!(error.code(), Some("NoSuchVersion")) => Ok(None),
            // Also said of the version that records a removal.
            Err(error) if error.raw_response().is_some_and(|raw| matches!(raw.status().as_u16(), 404 | 405)) => {
                Ok(None)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }
}
