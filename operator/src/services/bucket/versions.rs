//! The objects of a bucket page by page, what became of one of them, and versions that are made the current ones again.

use std::fmt::Write as _;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{CompletedPart, StorageClass};

use super::{BucketClient, ListedVersion, Upload};
use crate::services::error::{Cause, ServiceError};

/// An object that is there, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The key.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// The `ETag` without its quotes, which not every answer of every server has; empty if the server gives none.
    pub tag: String,
    /// When it was written, in seconds since 1970, if the server says it.
    pub modified: Option<i64>,
    /// Whether it has to be fetched from an archive before it can be read.
    pub archived: bool,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// When, in seconds since 1970.
    pub modified: i64,
    /// Whether the object was deleted.
    pub marker: bool,
}

/// The `ETag` without its quotes.
pub fn bare(tag: &str) -> &str {
    tag.trim_matches('"')
}

impl BucketClient {
    /// One page of the objects whose key starts with the prefix, and where the next begins. The pages are in the order of the
    /// server, which need not be that of the keys.
    pub async fn page(
        &self,
        prefix: &str,
        from: Option<String>,
    ) -> Result<(Vec<Current>, Option<String>), ServiceError> {
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty()).map(str::to_owned);
        let request = self.client.list_objects_v2().bucket(&self.bucket).set_prefix(prefix);
        let request = request.set_continuation_token(from);
        let page = request.send().await.map_err(|error| self.failed(&error))?;
        let listed = page.contents().iter().filter_map(|object| {
            Some(Current {
                key: object.key()?.to_owned(),
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                tag: bare(object.e_tag().unwrap_or_default()).to_owned(),
                modified: object.last_modified().map(DateTime::secs),
                archived: false,
            })
        });
        let next = page.next_continuation_token().filter(|_| page.is_truncated() == Some(true));
        if page.is_truncated() == Some(true) && next.is_none() {
            let detail = "it says that there are more objects, and not how to ask for them";
            return Err(ServiceError::new(Cause::Other, self.subject(), detail));
        }
        Ok((listed.collect(), next.map(str::to_owned)))
    }

    /// What there is to know of an object, or of exactly this version of it. `None`: there is none.
    pub async fn look(&self, key: &str, version: Option<&str>) -> Result<Option<Current>, ServiceError> {
        let found = self.head(key, version).await?;
        Ok(found.map(|object| current(key, &object)))
    }

    /// The version of an object that is there. `None`: there is none, or the server keeps none of it.
    pub async fn latest_version(&self, key: &str) -> Result<Option<ListedVersion>, ServiceError> {
        let found = self.head(key, None).await?;
        Ok(found.and_then(|object| {
            Some(ListedVersion {
                key: key.to_owned(),
                id: object.version_id()?.to_owned(),
                size: object.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                tag: object.e_tag().unwrap_or_default().to_owned(),
            })
        }))
    }

    pub(super) async fn head(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<HeadObjectOutput>, ServiceError> {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        match request.set_version_id(version.map(str::to_owned)).send().await {
            Ok(object) => Ok(Some(object)),
            // Amazon also says 400 to an identifier that is none of its own, and 405 to one that records a removal.
            Err(SdkError::ServiceError(answer))
                if matches!(answer.raw().status().as_u16(), 404 | 405)
                    || (version.is_some() && answer.raw().status().as_u16() == 400) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// What happened to one key. Empty if the server does not tell it.
    pub async fn past(&self, key: &str) -> Result<Vec<Past>, ServiceError> {
        let mut found = Vec::new();
        let (mut from, mut id) = (None, None);
        loop {
            let request = self.client.list_object_versions().bucket(&self.bucket).prefix(key);
            let page = request.set_key_marker(from.take()).set_version_id_marker(id.take()).send().await;
            let page = page.map_err(|error| self.failed(&error))?;
            let versions = page.versions().iter().map(|of| (of.key(), of.last_modified(), false));
            let markers = page.delete_markers().iter().map(|of| (of.key(), of.last_modified(), true));
            let own = versions.chain(markers).filter(|(of, ..)| *of == Some(key));
            found.extend(own.filter_map(|(_, at, marker)| Some(Past { modified: at?.secs(), marker })));
            // The key itself comes before those that begin like it.
            if page.is_truncated() != Some(true) || page.next_key_marker() != Some(key) {
                return Ok(found);
            }
            from = page.next_key_marker().map(str::to_owned);
            id = page.next_version_id_marker().map(str::to_owned);
        }
    }

    /// Makes a version the current one: the server copies it to a new version, with what it says of itself. S3 copies at most
    /// 5 GiB so; for a larger one there is [`BucketClient::start_copy`]. Gives the `ETag` of the new version.
    pub async fn put_back(&self, key: &str, version: &str) -> Result<String, ServiceError> {
        let request = self.client.copy_object().bucket(&self.bucket).key(key);
        let answer = request.copy_source(self.source(key, version)).send().await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        self.kept(answer.version_id())?;
        let tag = answer.copy_object_result().and_then(|result| result.e_tag()).unwrap_or_default();
        Ok(bare(tag).to_owned())
    }

    /// Starts a copy of a version in parts, which says of itself what the version does.
    pub async fn start_copy(&self, key: &str, version: &str) -> Result<Upload, ServiceError> {
        let Some((_, headers)) = self.headers(key, Some(version)).await? else {
            return Err(ServiceError::new(Cause::Other, self.subject(), "a version of an object is gone"));
        };
        self.start_upload_with(key, &headers).await
    }

    /// Deletes an object so that it stays as an old version. It is fine if there is none.
    pub async fn hide(&self, key: &str) -> Result<(), ServiceError> {
        let answer = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        self.kept(answer.version_id())
    }

    /// What a bucket with versioning says of every change.
    fn kept(&self, version: Option<&str>) -> Result<(), ServiceError> {
        if version.is_some_and(|id| !id.is_empty() && id != "null") {
            return Ok(());
        }
        let detail = "it does not keep old versions any more: turn versioning on again";
        Err(ServiceError::new(Cause::Other, self.subject(), detail))
    }

    /// A version as the source of a copy.
    fn source(&self, key: &str, version: &str) -> String {
        format!("{}/{}?versionId={}", self.bucket, encoded(key), encoded(version))
    }
}

impl Upload {
    /// Makes the next part of a range of a version of the same object.
    pub async fn copy(&mut self, version: &str, (first, last): (u64, u64)) -> Result<(), ServiceError> {
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let BucketClient { client, bucket, .. } = &self.bucket;
        let request = client.upload_part_copy().bucket(bucket).key(&self.key).upload_id(&self.id).part_number(number);
        let request = request.copy_source(self.bucket.source(&self.key, version));
        let answer = request.copy_source_range(format!("bytes={first}-{last}")).send().await;
        let answer = answer.map_err(|error| self.bucket.failed(&error))?;
        let tag = answer.copy_part_result().and_then(|result| result.e_tag()).map(str::to_owned);
        self.parts.push(CompletedPart::builder().part_number(number).set_e_tag(tag).build());
        Ok(())
    }
}

/// An object by what the server says of it.
pub(super) fn current(key: &str, object: &HeadObjectOutput) -> Current {
    Current {
        key: key.to_owned(),
        size: object.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        tag: bare(object.e_tag().unwrap_or_default()).to_owned(),
        modified: object.last_modified().map(DateTime::secs),
        archived: is_archived(object),
    }
}

/// Whether it is in a class that does not answer at once, and was not fetched from there.
fn is_archived(object: &HeadObjectOutput) -> bool {
    let classes = [StorageClass::Glacier, StorageClass::DeepArchive];
    let fetched = object.restore().is_some_and(|text| text.contains("ongoing-request=\"false\""));
    object.storage_class().is_some_and(|class| classes.contains(class)) && !fetched
}

/// As a URL has it: whatever is not a letter, a digit or one of a few signs is a percent sign and two digits.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    text.bytes().fold(String::with_capacity(text.len()), |mut done, byte| {
        if plain(byte) {
            done.push(char::from(byte));
        } else {
            let _ = write!(done, "%{byte:02X}");
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_part_of_a_url() {
        assert_eq!(encoded("a b/ü+?#%&"), "a%20b/%C3%BC%2B%3F%23%25%26");
        assert_eq!((bare("\"abc-2\""), bare("abc"), bare("")), ("abc-2", "abc", ""));
    }
}
