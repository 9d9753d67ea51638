//! The bucket itself: whether it is there, and what it can do.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, VersioningConfiguration,
};

use super::BucketClient;
use crate::services::error::{Cause, ServiceError};

/// Whether the bucket keeps what was overwritten or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// It does.
    Enabled,
    /// It did, and keeps the old versions.
    Suspended,
    /// It never did.
    Off,
}

impl BucketClient {
    /// Whether the bucket is there and these keys may list it: with a prefix what is under it, and nothing else, since keys may
    /// be limited to that. A list is asked for, and not just the head of one: whatever answers with status 200 would do for a
    /// head, and its errors have no body that tells a wrong key from a missing right.
    pub async fn check(&self, prefix: Option<&str>) -> Result<(), ServiceError> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).set_prefix(prefix.map(str::to_owned));
        list.max_keys(1).send().await.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// Makes the bucket. It is fine if these keys have it already.
    pub async fn create(&self) -> Result<(), ServiceError> {
        // The oldest region is the only one that must not be named.
        let location = (self.region != "us-east-1").then(|| {
            let region = BucketLocationConstraint::from(self.region.as_str());
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let request = self.client.create_bucket().bucket(&self.bucket).set_create_bucket_configuration(location);
        let Err(error) = request.send().await else {
            return Ok(());
        };
        match error.code() {
            Some("BucketAlreadyOwnedByYou") => Ok(()),
            // Some servers also say so to the owner.
            Some("BucketAlreadyExists") => self.check(None).await.map_err(|_| {
                let detail = "the name is taken by somebody else; choose another one";
                ServiceError::new(Cause::AccessDenied, self.subject(), detail)
            }),
            _ => Err(self.failed(&error)),
        }
    }

    /// Whether old versions are kept.
    pub async fn versioning(&self) -> Result<Versioning, ServiceError> {
        let answer = self.client.get_bucket_versioning().bucket(&self.bucket).send().await;
        Ok(match answer.map_err(|error| self.failed(&error))?.status() {
            Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
            Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
            _ => Versioning::Off,
        })
    }

    /// Makes the bucket keep old versions, and reads back whether it does. A server that does not know how gives
    /// [`ServiceError::Unsupported`].
    pub async fn enable_versioning(&self) -> Result<(), ServiceError> {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = self.client.put_bucket_versioning().bucket(&self.bucket).versioning_configuration(enabled);
        request.send().await.map_err(|error| self.failed(&error))?;
        match self.versioning().await? {
            Versioning::Enabled => Ok(()),
            Versioning::Suspended | Versioning::Off => {
                let detail = "the server accepts the setting and does not keep it: versioning";
                Err(ServiceError::new(Cause::Unsupported, self.subject(), detail))
            }
        }
    }
}
