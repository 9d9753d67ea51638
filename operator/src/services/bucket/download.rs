//! An object of any size, read in order. A connection that breaks within it is taken up where it broke, as long as the object is
//! the same.

use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use hyper::body::Bytes;

use super::BucketClient;
use crate::services::error::{Cause, ServiceError};

/// How often in a row a connection may break before a single byte came.
const ATTEMPTS: u32 = 5;
/// The wait before the second attempt, doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// An object that is being read.
#[derive(Debug)]
pub struct Download {
    bucket: BucketClient,
    key: String,
    version: Option<String>,
    tag: Option<String>,
    /// The server keeps it under a key, so that the tag says nothing of its content.
    keyed: bool,
    size: u64,
    offset: u64,
    body: Option<ByteStream>,
    failures: u32,
}

impl BucketClient {
    /// Starts to read an object, if there is one: its newest version, or exactly this one.
    pub async fn download(&self, key: &str, version: Option<&str>) -> Result<Option<Download>, ServiceError> {
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        let object = match request.set_version_id(version.map(str::to_owned)).send().await {
            Ok(object) => object,
            // 405 is said of the version that records a removal.
            Err(SdkError::ServiceError(answer)) if matches!(answer.raw().status().as_u16(), 404 | 405) => {
                return Ok(None);
            }
            Err(error) if matches!(error.code(), Some("NoSuchVersion")) => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let encryption = object.server_side_encryption();
        let keyed = object.sse_customer_algorithm().is_some()
            || encryption.is_some_and(|encryption| *encryption != ServerSideEncryption::Aes256);
        let Some(size) = object.content_length().and_then(|length| u64::try_from(length).ok()) else {
            return Err(ServiceError::new(Cause::Other, self.subject(), "it gives an object without its length"));
        };
        Ok(Some(Download {
            bucket: self.clone(),
            key: key.to_owned(),
            version: version.map(str::to_owned),
            tag: object.e_tag().map(str::to_owned),
            keyed,
            size,
            offset: 0,
            body: Some(object.body),
            failures: 0,
        }))
    }
}

impl Download {
    /// The size of the whole object.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The `ETag`; empty if the server gives none.
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or_default()
    }

    /// The MD5 of the content in hex, if the `ETag` has the form of one and nothing says that it is none: that of an object in parts
    /// has a hyphen.
    pub fn md5(&self) -> Option<&str> {
        let tag = self.tag().trim_matches('"');
        (!self.keyed && tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(tag)
    }

    /// The next bytes. `None`: all of the object was read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ServiceError> {
        loop {
            if self.offset >= self.size {
                return Ok(None);
            }
            let body = match &mut self.body {
                Some(body) => body,
                None => self.body.insert(self.go_on().await?.body),
            };
            // A connection that ends early is broken as well.
            match body.next().await {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.failures = 0;
                    return Ok(Some(bytes));
                }
                Some(Err(_)) | None => self.broken().await?,
            }
        }
    }

    async fn broken(&mut self) -> Result<(), ServiceError> {
        self.body = None;
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            let detail = "the connection broke within an object, again and again";
            return Err(ServiceError::new(Cause::Unreachable, self.bucket.subject(), detail));
        }
        tracing::warn!(key = self.key, offset = self.offset, "the connection broke within an object; it is read on");
        tokio::time::sleep(FIRST_WAIT * 2_u32.pow(self.failures - 1)).await;
        Ok(())
    }

    async fn go_on(&self) -> Result<GetObjectOutput, ServiceError> {
        let BucketClient { client, bucket, .. } = &self.bucket;
        let request = client.get_object().bucket(bucket).key(&self.key).set_version_id(self.version.clone());
        let request = request.set_if_match(self.tag.clone()).range(format!("bytes={}-", self.offset));
        let object = match request.send().await {
            Ok(object) => object,
            Err(SdkError::ServiceError(answer)) if matches!(answer.raw().status().as_u16(), 404 | 412 | 416) => {
                return Err(self.changed());
            }
            Err(error) => return Err(self.bucket.failed(&error)),
        };
        // A server that knows no ranges begins anew, which would repeat what was read; one that knows no conditions gives
        // whatever is there now.
        let range = format!("bytes {}-{}/{}", self.offset, self.size - 1, self.size);
        if self.offset > 0 && object.content_range() != Some(range.as_str()) {
            return Err(self.changed());
        }
        if object.e_tag() != self.tag.as_deref() {
            return Err(self.changed());
        }
        Ok(object)
    }

    fn changed(&self) -> ServiceError {
        let detail = "an object was replaced while it was read, or cannot be read on from the middle";
        ServiceError::new(Cause::Other, self.bucket.subject(), detail)
    }
}
