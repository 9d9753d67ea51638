//! Objects that fit into memory.

use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::types::ReplicationStatus;

use super::lock::If;
use super::{BucketClient, Headers};
use crate::services::error::{Cause, ServiceError};

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The key.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
}

/// What became of an object that must not replace another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was written.
    Now,
    /// There is another one under this key.
    Refused,
}

/// What a server says of the copy of an object in the bucket that it replicates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicated {
    /// It is there.
    Done,
    /// It will be.
    Pending,
    /// It will not be.
    Failed,
}

impl BucketClient {
    /// What the server says of the copy of an object. `None`: nothing.
    pub async fn replicated(&self, key: &str) -> Result<Option<Replicated>, ServiceError> {
        let found = self.head(key, None).await?;
        Ok(match found.as_ref().and_then(|object| object.replication_status()) {
            // MinIO writes the first with another ending.
            Some(ReplicationStatus::Completed | ReplicationStatus::Complete) => Some(Replicated::Done),
            Some(ReplicationStatus::Failed) => Some(Replicated::Failed),
            Some(ReplicationStatus::Pending) => Some(Replicated::Pending),
            _ => None,
        })
    }

    /// Writes an object, over an older one if there is one.
    pub async fn put(&self, key: &str, body: Vec<u8>) -> Result<(), ServiceError> {
        self.put_version(key, body).await.map(|_| ())
    }

    /// As [`BucketClient::put`], and tells the version that it became. `None`: the bucket keeps no versions.
    pub async fn put_version(&self, key: &str, body: Vec<u8>) -> Result<Option<String>, ServiceError> {
        let answer = self.send_object(key, body, &Headers::default(), If::Always).await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        Ok(answer.version_id().filter(|id| !id.is_empty()).map(str::to_owned))
    }

    /// Writes an object if there is none under this key.
    pub async fn create_object(&self, key: &str, body: Vec<u8>) -> Result<Created, ServiceError> {
        self.create_with(key, body, &Headers::default()).await
    }

    /// As [`BucketClient::create_object`], with headers.
    pub async fn create_with(&self, key: &str, body: Vec<u8>, headers: &Headers) -> Result<Created, ServiceError> {
        let Err(error) = self.send_object(key, body.clone(), headers, If::None).await else {
            return Ok(Created::Now);
        };
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        if status == 412 || error.code() == Some("PreconditionFailed") {
            // Also said to the second attempt of a request whose first answer was lost.
            return Ok(if self.get(key).await? == Some(body) { Created::Now } else { Created::Refused });
        }
        match self.failed(&error) {
            // The server has no conditional writes. The caller's key is random, so looking first is as good.
            ServiceError::Unsupported { .. } if self.size(key).await?.is_none() => {
                self.put_with(key, body, headers).await?;
                Ok(Created::Now)
            }
            ServiceError::Unsupported { .. } => Ok(Created::Refused),
            error => Err(error),
        }
    }

    /// The content of an object, if there is one.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ServiceError> {
        let object = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => object,
            Err(SdkError::ServiceError(answer)) if answer.err().is_no_such_key() => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        match object.body.collect().await {
            Ok(body) => Ok(Some(body.to_vec())),
            Err(_) => {
                Err(ServiceError::new(Cause::Unreachable, self.subject(), "the connection broke within an object"))
            }
        }
    }

    /// The size of an object, if there is one.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, ServiceError> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => Ok(Some(unsigned(object.content_length()))),
            Err(SdkError::ServiceError(answer)) if answer.raw().status().as_u16() == 404 => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// All objects whose key starts with the prefix, in the order of their keys.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, ServiceError> {
        let mut pages = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed(&error))?;
            objects.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| Some(Object { key: object.key()?.to_owned(), size: unsigned(object.size()) })),
            );
        }
        Ok(objects)
    }

    /// Deletes an object. It is fine if there is none. A bucket with versioning keeps it as an old version.
    pub async fn delete(&self, key: &str) -> Result<(), ServiceError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        request.send().await.map_err(|error| self.failed(&error))?;
        Ok(())
    }
}

fn unsigned(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}
