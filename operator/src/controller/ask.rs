//! One question to a service: does it answer, and is what the spec names there?

use std::time::Duration;

use crate::{
    names::{Waiting, reason},
    services::{
        ServiceError,
        bucket::{BucketClient, BucketTarget, Timeouts, Versioning},
        postgres::{self, PostgresTarget},
        redis::{self, RedisTarget},
    },
    stack::{BucketAccess, Endpoint, Probe},
};

/// How long one service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks.
pub(super) async fn ask(endpoint: &Endpoint) -> Probe {
    let answer = match endpoint {
        Endpoint::Postgres { url, ca } => {
            let target = PostgresTarget { url: url.clone(), ca: ca.clone() };
            postgres::check(&target, TIMEOUT).await.map(|_| None)
        }
        Endpoint::Redis { url, ca } => {
            let target = RedisTarget { url: url.clone(), ca: ca.clone() };
            redis::check(&target, TIMEOUT).await.map(|_| None)
        }
        Endpoint::Bucket { .. } => bucket(endpoint).await,
    };
    match answer {
        Ok(note) => Probe::Answers { note },
        Err(error) => Probe::Failed(Waiting::new(reason_of(&error), error.to_string())),
    }
}

/// Looks whether the bucket is there, makes it where that is ours to do, and turns versioning on where the spec says so. The
/// note says what the server cannot do.
async fn bucket(endpoint: &Endpoint) -> Result<Option<String>, ServiceError> {
    let Endpoint::Bucket { access, create, versioning } = endpoint else { return Ok(None) };
    let client = BucketClient::new(&target(access), Timeouts::CHECK)?;
    match client.check().await {
        Err(ServiceError::Missing { .. }) if *create => client.create().await?,
        other => other?,
    }
    if !versioning || matches!(client.versioning().await, Ok(Versioning::Enabled)) {
        return Ok(None);
    }
    match client.enable_versioning().await {
        Ok(()) => Ok(None),
        Err(error @ (ServiceError::Unsupported { .. } | ServiceError::AccessDenied { .. })) => {
            Ok(Some(format!("versioning could not be turned on: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// A bucket, and who uses it.
pub(super) fn target(access: &BucketAccess) -> BucketTarget {
    BucketTarget {
        endpoint: access.endpoint.clone(),
        region: access.region.clone(),
        bucket: access.name.clone(),
        force_path_style: access.force_path_style,
        access_key_id: access.access_key_id.clone(),
        secret_access_key: access.secret_access_key.clone(),
        ca: access.ca.clone(),
    }
}

fn reason_of(error: &ServiceError) -> reason::Reason {
    match error {
        ServiceError::Unreachable { .. } | ServiceError::Other { .. } => reason::UNREACHABLE,
        ServiceError::TlsFailed { .. } => reason::TLS_FAILED,
        ServiceError::AuthenticationFailed { .. } => reason::AUTHENTICATION_FAILED,
        ServiceError::Missing { .. } => reason::NOT_FOUND,
        ServiceError::AccessDenied { .. } => reason::ACCESS_DENIED,
        ServiceError::Unsupported { .. } => reason::UNSUPPORTED,
    }
}
