//! Object Lock: versions that the server deletes for nobody before a moment; and what such a bucket asks of those who write.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ObjectLockEnabled, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Bytes;
use md5::{Digest as _, Md5};

use super::headers::{Headers, with_headers};
use super::{BucketClient, Version};
use crate::services::error::ServiceError;

const DAY: i64 = 24 * 3600;
/// How servers ask for a checksum: Amazon, which takes a signature for none; moto; and others.
const WANTS_DIGEST: [&str; 3] = ["InvalidRequest", "MissingUploadObjectWithObjectLockHeaders", "MissingContentMD5"];

/// Who may end a lock before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has a right of its own for that, and says so.
    Governance,
    /// Nobody.
    Compliance,
}

/// Object Lock of a bucket where it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLock {
    /// That of the bucket's default, else `Governance`.
    pub mode: LockMode,
    /// How long the bucket itself locks what is written, in seconds.
    pub default_seconds: i64,
}

/// How long a version is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Who may end it.
    pub mode: LockMode,
    /// Until when, in seconds since 1970.
    pub until: i64,
}

/// When an object is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum If<'a> {
    Always,
    /// There is none under this key.
    None,
    /// The one under this key has this tag.
    Tagged(&'a str),
}

/// What the client has learned of its bucket.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// What is written needs a checksum.
    digests: AtomicBool,
    /// Object Lock is on.
    locks: AtomicBool,
    /// The keys may not lock what they write.
    refused: AtomicBool,
    /// They may not lock for longer what is there.
    not_prolonged: AtomicBool,
}

impl BucketClient {
    /// Object Lock of the bucket. `None`: it is off, or the server has none.
    pub async fn object_lock(&self) -> Result<Option<ObjectLock>, ServiceError> {
        let answer = match self.client.get_object_lock_configuration().bucket(&self.bucket).send().await {
            Ok(answer) => answer,
            Err(error) => match self.failed(&error) {
                ServiceError::Missing { .. } | ServiceError::Unsupported { .. } => return Ok(None),
                error => return Err(error),
            },
        };
        let found = answer.object_lock_configuration();
        let found = found.filter(|found| found.object_lock_enabled() == Some(&ObjectLockEnabled::Enabled));
        let Some(found) = found else { return Ok(None) };
        self.learned.locks.store(true, Ordering::Relaxed);
        self.learned.digests.store(true, Ordering::Relaxed);
        let default = found.rule().and_then(|rule| rule.default_retention());
        let strict = default.is_some_and(|rule| rule.mode() == Some(&ObjectLockRetentionMode::Compliance));
        // A year may be a leap year.
        let days = default.map_or(0, |rule| {
            i64::from(rule.days().unwrap_or(0)).max(366 * i64::from(rule.years().unwrap_or(0))).max(0)
        });
        let mode = if strict { LockMode::Compliance } else { LockMode::Governance };
        Ok(Some(ObjectLock { mode, default_seconds: days * DAY }))
    }

    /// Whether Object Lock was found to be on.
    pub fn locks(&self) -> bool {
        self.learned.locks.load(Ordering::Relaxed)
    }

    /// Whether something was written without the lock that it was to have, since these keys may not set one.
    pub fn lock_refused(&self) -> bool {
        self.learned.refused.load(Ordering::Relaxed)
    }

    /// Whether an object that is there could not be locked for longer by these keys.
    pub fn lock_not_prolonged(&self) -> bool {
        self.learned.not_prolonged.load(Ordering::Relaxed)
    }

    /// How long an object is locked, or exactly this version of it. `None`: it is not, or the keys may not know.
    pub async fn retention(&self, key: &str, version: Option<&Version>) -> Result<Option<Retention>, ServiceError> {
        let found = self.head(key, version.map(|version| version.id.as_str())).await?;
        Ok(found.and_then(|object| {
            let strict = object.object_lock_mode() == Some(&ObjectLockMode::Compliance);
            let mode = if strict { LockMode::Compliance } else { LockMode::Governance };
            Some(Retention { mode, until: object.object_lock_retain_until_date()?.secs() })
        }))
    }

    /// Locks an object that is there for at least this long. `false`: these keys may not, or may not see that it is.
    pub async fn retain(&self, key: &str, mut retention: Retention) -> Result<bool, ServiceError> {
        loop {
            let mode = match retention.mode {
                LockMode::Governance => ObjectLockRetentionMode::Governance,
                LockMode::Compliance => ObjectLockRetentionMode::Compliance,
            };
            let until = DateTime::from_secs(retention.until);
            let asked = ObjectLockRetention::builder().mode(mode).retain_until_date(until).build();
            let request = self.client.put_object_retention().bucket(&self.bucket).key(key).retention(asked);
            let Err(error) = request.send().await else { return Ok(true) };
            let error = self.failed(&error);
            if !matches!(error, ServiceError::AccessDenied { .. }) {
                return Err(error);
            }
            // Also said of an object that is locked for longer, or that nobody may unlock.
            match self.retention(key, None).await? {
                Some(found) if found.until >= retention.until => return Ok(true),
                Some(found) if found.mode != retention.mode => retention.mode = found.mode,
                _ => {
                    self.learned.not_prolonged.store(true, Ordering::Relaxed);
                    return Ok(false);
                }
            }
        }
    }

    /// Writes an object: with a checksum where the server asks for one, and without its lock where the keys may not set it.
    pub(super) async fn send_object(
        &self,
        key: &str,
        body: Vec<u8>,
        headers: &Headers,
        condition: If<'_>,
    ) -> Result<PutObjectOutput, SdkError<PutObjectError, HttpResponse>> {
        let body = Bytes::from(body);
        loop {
            let (digest, headers) = (self.digest(&body), self.allowed(headers));
            let request = self.client.put_object().bucket(&self.bucket).key(key).set_content_md5(digest.clone());
            let request = match condition {
                If::Always => request,
                If::None => request.if_none_match("*"),
                If::Tagged(tag) => request.if_match(tag),
            };
            let request = with_headers!(request, headers).body(ByteStream::from(body.clone()));
            match request.send().await {
                Err(error) if self.learns(&error, digest.is_some(), headers.is_locked()) => {}
                answer => return answer,
            }
        }
    }

    /// The checksum that every server knows, where this one asks for it.
    pub(super) fn digest(&self, body: &[u8]) -> Option<String> {
        self.learned.digests.load(Ordering::Relaxed).then(|| BASE64_STANDARD.encode(Md5::digest(body)))
    }

    /// The headers without a lock that the keys may not set.
    pub(super) fn allowed(&self, headers: &Headers) -> Headers {
        let headers = headers.clone();
        if self.lock_refused() { headers.locked(None) } else { headers }
    }

    /// Whether the same request may succeed with what its failure tells.
    pub(super) fn learns<E>(&self, error: &SdkError<E, HttpResponse>, digested: bool, locked: bool) -> bool
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
        if !digested && WANTS_DIGEST.contains(&code) {
            self.learned.digests.store(true, Ordering::Relaxed);
            return true;
        }
        // Backups that were made before Object Lock was used go on.
        if locked && matches!(self.failed(error), ServiceError::AccessDenied { .. }) {
            self.learned.refused.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }
}
