//! A bucket: an object is written, read, looked for among the versions, and deleted.

use rand::RngExt as _;

use super::{PreflightArgs, Trouble};
use crate::agent::{BucketArgs, objects};
use crate::contract::{ENV_ASK_DESTINATION, PreflightFinding, PreflightVerdict};
use crate::names::reason;
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, BucketTarget, Timeouts, Version, Versioning};

/// The bucket of the application.
pub(super) fn target(args: &PreflightArgs, bucket: &BucketArgs) -> Result<BucketTarget, Trouble> {
    let read = |path: &std::path::PathBuf| {
        let unread = |error| format!("failed to read the certificate authorities in {}: {error}", path.display());
        std::fs::read_to_string(path).map_err(|error| Trouble::new(reason::TLS_FAILED, unread(error)))
    };
    Ok(bucket.target(args.bucket_ca_file.as_ref().map(read).transpose()?))
}

/// The bucket of the backups.
pub(super) fn destination(args: &PreflightArgs) -> Result<BucketTarget, Trouble> {
    let location = serde_json::from_str(args.destination.as_deref().unwrap_or_default()).map_err(|error| {
        Trouble::new(reason::KEY_MISSING, format!("failed to read the variable {ENV_ASK_DESTINATION}: {error}"))
    })?;
    Ok(objects::target(&location))
}

/// Asks. Whatever comes of it, the object that was written is deleted, or told to be left. `versions`: they are to be listed.
pub(super) async fn ask(target: &BucketTarget, key: &str, versions: bool) -> Result<PreflightVerdict, Trouble> {
    let client = BucketClient::new(target, Timeouts::CHECK).map_err(|error| Trouble::of("", &error))?;
    // Some servers make a bucket by what is written to it.
    let folder = key.rsplit_once("_preflight/").map(|(folder, _)| folder).filter(|folder| !folder.is_empty());
    if let Err(error @ ServiceError::Missing { .. }) = client.check(folder).await {
        return Err(Trouble::of("", &error));
    }
    // The operator itself has no such role.
    let kept = if versions && target.keys.is_none() { keep_versions(&client).await? } else { None };
    let body = format!("{:032x}", rand::rng().random::<u128>()).into_bytes();
    let written = client.put_version(key, body.clone()).await;
    let version = written.map_err(|error| Trouble::of(&format!("writing {key}"), &error))?;
    let found = look(&client, (key, &body), version.as_deref().filter(|_| versions)).await;
    let left = delete(&client, key, version).await;
    let findings = kept.into_iter().chain(found?).chain(left?).collect();
    Ok(PreflightVerdict::Passed { findings, facts: None })
}

/// Turns versioning on, as the operator does where it has keys.
async fn keep_versions(client: &BucketClient) -> Result<Option<PreflightFinding>, Trouble> {
    if matches!(client.versioning().await, Ok(Versioning::Enabled)) {
        return Ok(None);
    }
    let (error, reason) = match client.enable_versioning().await {
        Ok(()) => return Ok(None),
        Err(error @ ServiceError::Unsupported { .. }) => (error, reason::UNSUPPORTED),
        Err(error @ ServiceError::AccessDenied { .. }) => (error, reason::RIGHTS_MISSING),
        Err(error) => return Err(Trouble::of("turning versioning on", &error)),
    };
    Ok(Some(Trouble::new(reason, format!("versioning could not be turned on: {error}")).finding()))
}

/// `version`: is to be listed.
async fn look(
    client: &BucketClient,
    (key, body): (&str, &[u8]),
    version: Option<&str>,
) -> Result<Option<PreflightFinding>, Trouble> {
    read_back(client, key, body).await?;
    match version {
        Some(id) => listed(client, key, id).await,
        None => Ok(None),
    }
}

async fn read_back(client: &BucketClient, key: &str, body: &[u8]) -> Result<(), Trouble> {
    let found = client.get(key).await.map_err(|error| Trouble::of(&format!("reading {key}"), &error))?;
    let problem = match found {
        Some(found) if found == body => return Ok(()),
        Some(_) => "it does not hold what was written just now",
        None => "it is not there, though it was written just now",
    };
    let message = format!("reading {key}: failed to use bucket \"{}\": {problem}", client.bucket());
    Err(Trouble::new(reason::UNREACHABLE, message))
}

/// Restores of single versions need them listed.
async fn listed(client: &BucketClient, key: &str, id: &str) -> Result<Option<PreflightFinding>, Trouble> {
    let found = match client.versions(key).await {
        Ok(found) => found,
        Err(error @ ServiceError::Unreachable { .. }) => return Err(Trouble::of("listing versions", &error)),
        Err(error) => {
            let message = format!("versions of objects cannot be listed, which restores of them need: {error}");
            return Ok(Some(Trouble::new(reason::RIGHTS_MISSING, message).finding()));
        }
    };
    if found.iter().any(|version| version.key == key && version.id == id) {
        return Ok(None);
    }
    let message = format!("bucket \"{}\" does not list the version of an object that was written", client.bucket());
    Ok(Some(Trouble::new(reason::UNSUPPORTED, message).finding()))
}

/// Deletes exactly what was written. Nobody's application needs that right.
async fn delete(
    client: &BucketClient,
    key: &str,
    version: Option<String>,
) -> Result<Option<PreflightFinding>, Trouble> {
    let deleted = match version {
        Some(id) => {
            let version = Version { key: key.to_owned(), id, latest: true, marker: false };
            client.delete_version(&version).await
        }
        None => client.delete(key).await,
    };
    match deleted {
        Ok(()) => Ok(None),
        Err(error @ ServiceError::Unreachable { .. }) => Err(Trouble::of(&format!("deleting {key}"), &error)),
        Err(error) => {
            let message =
                format!("{key} was written to see whether it can be, and stays, since deleting it failed: {error}");
            Ok(Some(Trouble::new(reason::RIGHTS_MISSING, message).finding()))
        }
    }
}
