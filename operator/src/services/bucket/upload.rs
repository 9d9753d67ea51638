//! Objects of unknown size, written in parts. Nothing is visible under the key before [`Upload::complete`].

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use hyper::body::Bytes;

use super::BucketClient;
use crate::services::error::{Cause, ServiceError};

/// An upload that was started. It stays in the bucket, and costs, until it is completed or aborted.
#[derive(Debug)]
pub struct Upload {
    pub(super) bucket: BucketClient,
    pub(super) key: String,
    pub(super) id: String,
    pub(super) parts: Vec<CompletedPart>,
}

/// An upload that is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInProgress {
    /// The key of the object to be.
    pub key: String,
    /// The identifier of the upload.
    pub id: String,
}

impl BucketClient {
    /// Starts an upload.
    pub async fn start_upload(&self, key: &str) -> Result<Upload, ServiceError> {
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let answer = request.send().await.map_err(|error| self.failed(&error))?;
        self.upload(key, answer.upload_id())
    }

    pub(super) fn upload(&self, key: &str, id: Option<&str>) -> Result<Upload, ServiceError> {
        let Some(id) = id else {
            return Err(ServiceError::new(Cause::Other, self.subject(), "it started an upload without an id"));
        };
        Ok(Upload { bucket: self.clone(), key: key.to_owned(), id: id.to_owned(), parts: Vec::new() })
    }

    /// The uploads in progress under the prefix.
    pub async fn uploads(&self, prefix: &str) -> Result<Vec<UploadInProgress>, ServiceError> {
        let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix);
        // One page: the next run finds the rest. Some servers ignore the prefix.
        let page = request.send().await.map_err(|error| self.failed(&error))?;
        let uploads = page.uploads().iter().filter_map(|upload| {
            Some(UploadInProgress { key: upload.key()?.to_owned(), id: upload.upload_id()?.to_owned() })
        });
        Ok(uploads.filter(|upload| upload.key.starts_with(prefix)).collect())
    }

    /// Throws away an upload in progress. It is fine if it is gone.
    pub async fn abort_upload(&self, upload: &UploadInProgress) -> Result<(), ServiceError> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&upload.key).upload_id(&upload.id);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }
}

impl Upload {
    /// How many parts were sent.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Sends the next part. All but the last must have at least 5 MiB, a rule of S3.
    pub async fn send(&mut self, body: Vec<u8>) -> Result<(), ServiceError> {
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let BucketClient { client, bucket, .. } = &self.bucket;
        let body = Bytes::from(body);
        loop {
            let digest = self.bucket.digest(&body);
            let request = client.upload_part().bucket(bucket).key(&self.key).upload_id(&self.id).part_number(number);
            let request = request.set_content_md5(digest.clone()).body(ByteStream::from(body.clone()));
            match request.send().await {
                Ok(answer) => {
                    self.parts.push(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build());
                    return Ok(());
                }
                Err(error) if self.bucket.learns(&error, digest.is_some(), false) => {}
                Err(error) => return Err(self.bucket.failed(&error)),
            }
        }
    }

    /// Makes the object of the parts. On failure, [`Upload::abort`] is still due.
    pub async fn complete(&self) -> Result<(), ServiceError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone())).build();
        let BucketClient { client, bucket, .. } = &self.bucket;
        let request = client.complete_multipart_upload().bucket(bucket).key(&self.key).upload_id(&self.id);
        request.multipart_upload(parts).send().await.map_err(|error| self.bucket.failed(&error))?;
        Ok(())
    }

    /// Throws the parts away.
    pub async fn abort(&self) -> Result<(), ServiceError> {
        self.bucket.abort_upload(&UploadInProgress { key: self.key.clone(), id: self.id.clone() }).await
    }
}
