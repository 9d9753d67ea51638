//! All objects of a bucket with their versions, one page in memory at a time, and how long old versions stay.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::ExpirationStatus;

use super::BucketClient;
use crate::services::error::ServiceError;

/// The version of an object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    /// The key.
    pub key: String,
    /// The identifier of the version.
    pub id: String,
    /// The size in bytes.
    pub size: u64,
    /// The `ETag`; empty if the server gives none.
    pub tag: String,
}

/// Where a listing goes on.
#[derive(Clone, Debug, Default)]
pub struct Marker {
    key: Option<String>,
    id: Option<String>,
}

impl BucketClient {
    /// One page of the versions that are there, and where the next page begins. `None` as a marker: there is no other page.
    pub async fn latest_versions(&self, from: &Marker) -> Result<(Vec<ListedVersion>, Option<Marker>), ServiceError> {
        let request = self.client.list_object_versions().bucket(&self.bucket);
        let request = request.set_key_marker(from.key.clone()).set_version_id_marker(from.id.clone());
        let page = request.send().await.map_err(|error| self.failed(&error))?;
        let latest = page.versions().iter().filter(|version| version.is_latest() == Some(true));
        let listed = latest.filter_map(|version| {
            Some(ListedVersion {
                key: version.key()?.to_owned(),
                id: version.version_id()?.to_owned(),
                size: version.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                tag: version.e_tag().unwrap_or_default().to_owned(),
            })
        });
        let next = || Marker {
            key: page.next_key_marker().map(str::to_owned),
            id: page.next_version_id_marker().map(str::to_owned),
        };
        // A server that gives no marker for the next page would be asked without end.
        let more = page.is_truncated() == Some(true) && page.next_key_marker().is_some();
        Ok((listed.collect(), more.then(next)))
    }

    /// After how many days a rule of the bucket deletes versions that are no longer the latest. `None`: no rule does, or the
    /// server knows no such rules. A rule for a part of the bucket counts as one for all of it.
    pub async fn noncurrent_days(&self) -> Result<Option<u32>, ServiceError> {
        let answer = self.client.get_bucket_lifecycle_configuration().bucket(&self.bucket).send().await;
        let rules = match answer {
            Ok(answer) => answer.rules.unwrap_or_default(),
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => return Ok(None),
            Err(error) => match self.failed(&error) {
                ServiceError::Unsupported { .. } | ServiceError::Missing { .. } => return Ok(None),
                error => return Err(error),
            },
        };
        let enabled = rules.iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled);
        let days = enabled.filter_map(|rule| rule.noncurrent_version_expiration()?.noncurrent_days());
        Ok(days.filter_map(|days| u32::try_from(days).ok()).min())
    }
}
