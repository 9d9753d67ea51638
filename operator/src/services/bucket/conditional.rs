//! Conditional writes, the metadata of objects, and single versions of them.

use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};

use super::lock::If;
use super::{BucketClient, Headers};
use crate::services::error::{Cause, ServiceError};

/// What an object holds, and the tag of exactly that content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// The content; nothing if it is longer than the limit.
    pub body: Vec<u8>,
    /// The `ETag`; empty if the server gives none.
    pub tag: String,
}

/// What became of an object that is replaced only if it still is the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It was written.
    Now,
    /// Another client has written or deleted it since.
    Changed,
}

/// One version of an object in a bucket with versioning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The key.
    pub key: String,
    /// The identifier of the version.
    pub id: String,
    /// Whether it is the one that is there.
    pub latest: bool,
    /// Whether it only says that the object was deleted.
    pub marker: bool,
}

impl BucketClient {
    /// The content of a small object with its tag, if there is one. A longer one comes without content.
    pub async fn get_tagged(&self, key: &str, longest: u64) -> Result<Option<Tagged>, ServiceError> {
        let object = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => object,
            Err(SdkError::ServiceError(answer)) if answer.err().is_no_such_key() => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let tag = object.e_tag().unwrap_or_default().to_owned();
        let length = object.content_length().and_then(|length| u64::try_from(length).ok());
        if length.is_none_or(|length| length > longest) {
            return Ok(Some(Tagged { body: Vec::new(), tag }));
        }
        match object.body.collect().await {
            Ok(body) => Ok(Some(Tagged { body: body.to_vec(), tag })),
            Err(_) => {
                Err(ServiceError::new(Cause::Unreachable, self.subject(), "the connection broke within an object"))
            }
        }
    }

    /// Replaces an object if it still has this tag. A server without conditional writes gives
    /// [`ServiceError::Unsupported`].
    pub async fn replace(&self, key: &str, body: Vec<u8>, tag: &str) -> Result<Replaced, ServiceError> {
        self.replace_with(key, body, &Headers::default(), tag).await
    }

    /// As [`BucketClient::replace`], with headers.
    pub async fn replace_with(
        &self,
        key: &str,
        body: Vec<u8>,
        headers: &Headers,
        tag: &str,
    ) -> Result<Replaced, ServiceError> {
        if tag.is_empty() {
            let detail = "it gives no ETag, so an object cannot be replaced safely";
            return Err(ServiceError::new(Cause::Unsupported, self.subject(), detail));
        }
        let Err(error) = self.send_object(key, body, headers, If::Tagged(tag)).await else {
            return Ok(Replaced::Now);
        };
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let changed = matches!(error.code(), Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey"));
        if changed || matches!(status, 404 | 409 | 412) {
            return Ok(Replaced::Changed);
        }
        Err(self.failed(&error))
    }

    /// What an object says of itself under a name, if there is such an object and it says so.
    pub async fn said_by(&self, key: &str, name: &str) -> Result<Option<String>, ServiceError> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => Ok(object.metadata().and_then(|all| all.get(name)).cloned()),
            Err(SdkError::ServiceError(answer)) if answer.raw().status().as_u16() == 404 => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Every version of the objects whose key starts with the prefix.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<Version>, ServiceError> {
        let mut found = Vec::new();
        let (mut key, mut id) = (None, None);
        loop {
            let request = self.client.list_object_versions().bucket(&self.bucket).prefix(prefix);
            let page = request.set_key_marker(key.take()).set_version_id_marker(id.take()).send().await;
            let page = page.map_err(|error| self.failed(&error))?;
            found.extend(page.versions().iter().filter_map(|version| {
                let (key, id) = (version.key()?.to_owned(), version.version_id()?.to_owned());
                Some(Version { key, id, latest: version.is_latest() == Some(true), marker: false })
            }));
            found.extend(page.delete_markers().iter().filter_map(|version| {
                let (key, id) = (version.key()?.to_owned(), version.version_id()?.to_owned());
                Some(Version { key, id, latest: version.is_latest() == Some(true), marker: true })
            }));
            // A server that gives no marker for the next page would be asked without end.
            if page.is_truncated() != Some(true) || page.next_key_marker().is_none() {
                return Ok(found);
            }
            key = page.next_key_marker().map(str::to_owned);
            id = page.next_version_id_marker().map(str::to_owned);
        }
    }

    /// Deletes exactly this version. It is fine if it is gone.
    pub async fn delete_version(&self, version: &Version) -> Result<(), ServiceError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(&version.key).version_id(&version.id);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchVersion") => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Whether any object has a key that starts with the prefix.
    pub async fn has_any(&self, prefix: &str) -> Result<bool, ServiceError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(1);
        let page = request.send().await.map_err(|error| self.failed(&error))?;
        Ok(!page.contents().is_empty())
    }
}
