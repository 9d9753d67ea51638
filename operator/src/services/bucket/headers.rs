//! What an object says of itself beside its content, and objects that are written to say the same.

use std::collections::HashMap;

use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};

use super::versions::current;
use super::{BucketClient, Current, Upload};
use crate::services::error::ServiceError;

/// The metadata, the headers and the tags of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    metadata: Option<HashMap<String, String>>,
    content_type: Option<String>,
    cache_control: Option<String>,
    content_disposition: Option<String>,
    content_encoding: Option<String>,
    content_language: Option<String>,
    expires: Option<DateTime>,
    tagging: Option<String>,
}

impl Headers {
    /// Metadata alone.
    pub fn saying(says: &[(&str, &str)]) -> Self {
        let metadata = says.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { metadata: Some(metadata), ..Self::default() }
    }
}

impl BucketClient {
    /// An object, or exactly this version of it, and what it says of itself. `None`: there is none.
    pub async fn headers(&self, key: &str, version: Option<&str>) -> Result<Option<(Current, Headers)>, ServiceError> {
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
            tagging: self.tags(key, version).await?,
        };
        Ok(Some((current(key, &object), headers)))
    }

    /// Writes an object with headers, over an older one if there is one.
    pub async fn put_with(&self, key: &str, body: Vec<u8>, headers: &Headers) -> Result<(), ServiceError> {
        let Headers {
            metadata,
            content_type,
            cache_control,
            content_disposition,
            content_encoding,
            content_language,
            expires,
            tagging,
        } = headers.clone();
        let request = self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(body));
        let request = request
            .set_metadata(metadata)
            .set_content_type(content_type)
            .set_cache_control(cache_control)
            .set_content_disposition(content_disposition)
            .set_content_encoding(content_encoding)
            .set_content_language(content_language)
            .set_expires(expires)
            .set_tagging(tagging);
        request.send().await.map_err(|error| self.failed(&error))?;
        Ok(())
    }

    /// Starts an upload of an object with headers.
    pub async fn start_upload_with(&self, key: &str, headers: &Headers) -> Result<Upload, ServiceError> {
        let Headers {
            metadata,
            content_type,
            cache_control,
            content_disposition,
            content_encoding,
            content_language,
            expires,
            tagging,
        } = headers.clone();
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let request = request
            .set_metadata(metadata)
            .set_content_type(content_type)
            .set_cache_control(cache_control)
            .set_content_disposition(content_disposition)
            .set_content_encoding(content_encoding)
            .set_content_language(content_language)
            .set_expires(expires)
            .set_tagging(tagging);
        let answer = request.send().await.map_err(|error| self.failed(&error))?;
        self.upload(key, answer.upload_id())
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
