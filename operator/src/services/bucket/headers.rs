//! What an object says of itself beside its content, and objects that are written to say the same.

use std::collections::HashMap;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::ObjectLockMode;

use super::lock::If;
use super::versions::current;
use super::{BucketClient, Current, LockMode, Retention, Upload};
use crate::services::error::ServiceError;

/// So many bytes of metadata S3 takes of an object, names and values together.
const METADATA: usize = 2048;

/// The metadata, the headers and the tags of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    pub(super) metadata: Option<HashMap<String, String>>,
    pub(super) content_type: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) expires: Option<DateTime>,
    pub(super) tagging: Option<String>,
    retention: Option<Retention>,
}

/// Gives a request of an object headers: the requests of objects and of uploads have the same methods and no trait.
macro_rules! with_headers {
    ($request:expr, $headers:expr) => {{
        let of: Headers = $headers.clone();
        let lock = of.lock();
        $request
            .set_metadata(of.metadata)
            .set_content_type(of.content_type)
            .set_cache_control(of.cache_control)
            .set_content_disposition(of.content_disposition)
            .set_content_encoding(of.content_encoding)
            .set_content_language(of.content_language)
            .set_expires(of.expires)
            .set_tagging(of.tagging)
            .set_object_lock_mode(lock.as_ref().map(|(mode, _)| mode.clone()))
            .set_object_lock_retain_until_date(lock.map(|(_, until)| until))
    }};
}
pub(super) use with_headers;

impl Headers {
    /// Metadata alone.
    pub fn saying(says: &[(&str, &str)]) -> Self {
        let metadata = says.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { metadata: Some(metadata), ..Self::default() }
    }

    /// What the metadata say under a name.
    pub fn says(&self, name: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(name).map(String::as_str)
    }

    /// Whether so many bytes fit beside the metadata.
    pub fn has_room(&self, bytes: usize) -> bool {
        let own = self.metadata.iter().flatten().map(|(name, value)| name.len() + value.len());
        own.sum::<usize>() + bytes <= METADATA
    }

    /// The same, with this among the metadata.
    #[must_use]
    pub fn also_saying(mut self, name: &str, value: &str) -> Self {
        self.metadata.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same, without this among the metadata.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.metadata.iter_mut().for_each(|metadata| drop(metadata.remove(name)));
        self
    }

    /// The same for an object that is locked.
    #[must_use]
    pub fn locked(self, retention: Option<Retention>) -> Self {
        Self { retention, ..self }
    }

    /// Whether the object is to be locked.
    pub(super) fn is_locked(&self) -> bool {
        self.retention.is_some()
    }

    pub(super) fn lock(&self) -> Option<(ObjectLockMode, DateTime)> {
        let Retention { mode, until } = self.retention?;
        let mode = match mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        };
        Some((mode, DateTime::from_secs(until)))
    }
}

impl BucketClient {
    /// An object, or exactly this version of it, and what it says of itself. `None`: there is none.
    pub async fn headers(&self, key: &str, version: Option<&str>) -> Result<Option<(Current, Headers)>, ServiceError> {
        let Some((current, headers)) = self.untagged(key, version).await? else { return Ok(None) };
        Ok(Some((current, Headers { tagging: self.tags(key, version).await?, ..headers })))
    }

    /// Likewise, without its tags, for which another request is needed.
    pub async fn untagged(&self, key: &str, version: Option<&str>) -> Result<Option<(Current, Headers)>, ServiceError> {
        let Some(object) = self.head(key, version).await? else { return Ok(None) };
        let expires = object.expires_string().and_then(|at| DateTime::from_str(at, DateTimeFormat::HttpDate).ok());
        let headers = Headers {
            metadata: object.metadata().cloned(),
            content_type: object.content_type().map(str::to_owned),
            cache_control: object.cache_control().map(str::to_owned),
            content_disposition: object.content_disposition().map(str::to_owned),
            content_encoding: object.content_encoding().map(str::to_owned),
            content_language: object.content_language().map(str::to_owned),
            expires,
            tagging: None,
            retention: None,
        };
        Ok(Some((current(key, &object), headers)))
    }

    /// Writes an object with headers, over an older one if there is one.
    pub async fn put_with(&self, key: &str, body: Vec<u8>, headers: &Headers) -> Result<(), ServiceError> {
        self.send_object(key, body, headers, If::Always).await.map_err(|error| self.failed(&error))?;
        Ok(())
    }

    /// Starts an upload of an object with headers.
    pub async fn start_upload_with(&self, key: &str, headers: &Headers) -> Result<Upload, ServiceError> {
        loop {
            let request = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
            let headers = self.allowed(headers);
            match with_headers!(request, headers).send().await {
                Ok(answer) => return self.upload(key, answer.upload_id()),
                Err(error) if self.learns(&error, true, headers.is_locked()) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// The tags of an object or version, as a new one is told them. A server that knows no tags has none.
    async fn tags(&self, key: &str, version: Option<&str>) -> Result<Option<String>, ServiceError> {
        let request = self.client.get_object_tagging().bucket(&self.bucket).key(key);
        let answer = match request.set_version_id(version.map(str::to_owned)).send().await {
            Ok(answer) => answer,
            Err(error) => match self.failed(&error) {
                ServiceError::Unsupported { .. } | ServiceError::Missing { .. } => return Ok(None),
                // A copy without tags is better than none.
                ServiceError::AccessDenied { .. } => {
                    tracing::warn!(key, "the keys may not read the tags of an object, which are left out");
                    return Ok(None);
                }
                error => return Err(error),
            },
        };
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        for tag in answer.tag_set() {
            text.append_pair(tag.key(), tag.value());
        }
        Ok(Some(text.finish()).filter(|text| !text.is_empty()))
    }
}
