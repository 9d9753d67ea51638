//! The spec of the stack in the folder of a point, by which the stack is made anew where only the bucket is left. It names Secrets and has
//! none of their values. What users write into it in clear, such as the values of variables, is in it, so it is encrypted wherever the dump
//! is, and a point that leaves its environment has none.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

use super::checked::{self, Dump, OpenError, ReadError};
use super::inventory::{self, LONGEST_MANIFEST};
use super::manifest::{Manifest, ManifestObject};
use super::seal::{self, Seal};
use super::stream::hex;
use super::{BackupId, DumpArgs, owner};
use crate::contract::{self, MANIFEST_FILE, PointOrigin, SPEC_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Created, Headers, Retention};

/// No file of a spec is as long.
const LONGEST: u64 = 1024 * 1024;

/// What a point says of its stack.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) object: Option<ManifestObject>,
    pub(super) images: BTreeMap<String, Vec<String>>,
    pub(super) running: BTreeMap<String, String>,
    /// Why the spec is missing.
    pub(super) problem: Option<String>,
}

/// Writes the spec into the folder of a point. What goes wrong leaves a point without it, and says so: its data are worth more.
pub(super) async fn write(
    bucket: &BucketClient,
    args: &DumpArgs,
    (folder, retention): (&str, Option<Retention>),
) -> Told {
    // An operator of before.
    let Some(text) = &args.origin else { return Told::default() };
    let PointOrigin { stack, left_out, images, running } = match PointOrigin::read(text) {
        Ok(origin) => origin,
        Err(why) => {
            let why = format!(
                "the operator told it in another form ({why}); the next backup has it once operator and agent are of one release"
            );
            return Told { problem: Some(lacking(&why)), ..Told::default() };
        }
    };
    let why = match (stack, left_out) {
        (Some(stack), _) => match put(bucket, args, (&format!("{folder}{SPEC_FILE}"), retention), &stack).await {
            Ok(object) => return Told { object: Some(object), images, running, problem: None },
            Err(why) => format!("{why}; the next backup writes its own"),
        },
        (None, Some(bytes)) => format!(
            "it has {bytes} bytes, which are too many to tell a pod; keep the manifest elsewhere, or move long values into a ConfigMap"
        ),
        (None, None) => return Told { images, running, ..Told::default() },
    };
    Told { object: None, images, running, problem: Some(lacking(&why)) }
}

fn lacking(why: &str) -> String {
    tracing::warn!(why, "the point lacks the spec");
    format!("the point lacks the spec of the stack: {why}")
}

async fn put(
    bucket: &BucketClient,
    args: &DumpArgs,
    (key, retention): (&str, Option<Retention>),
    stack: &Value,
) -> Result<ManifestObject, String> {
    let compressed = contract::compress_spec(stack).ok_or("it cannot be compressed")?;
    let body = sealed(compressed, &args.recipients).map_err(|error| error.to_string())?;
    let (size, sha256) = (body.len() as u64, hex(&Sha256::digest(&body)));
    let says: Vec<_> = args.owner.iter().map(|of| (owner::SAYS, of.as_str())).collect();
    let headers = Headers::saying(&says).locked(retention);
    match bucket.create_with(key, body, &headers).await.map_err(|error| error.to_string())? {
        Created::Now => Ok(ManifestObject { key: key.to_owned(), size, sha256 }),
        Created::Refused => Err(format!("there is another {key} already")),
    }
}

fn sealed(plain: Vec<u8>, recipients: &[String]) -> std::io::Result<Vec<u8>> {
    let Some(mut seal) = Seal::new(recipients)? else { return Ok(plain) };
    let mut sealed = seal.add(&plain)?;
    sealed.extend(seal.finish()?);
    Ok(sealed)
}

/// The object of the spec under the key that it has now: the folder may have been copied. `None`: the point has none.
fn object(manifest: &Manifest, prefix: &str) -> Option<ManifestObject> {
    let told = manifest.spec.as_ref()?;
    Some(ManifestObject { key: inventory::key(prefix, &manifest.id, SPEC_FILE), ..told.clone() })
}

/// Why the spec is not the one that the manifest says, in few words: a note is short, and this is no more than one. It need not be opened
/// for that.
pub(super) async fn damaged(bucket: &BucketClient, prefix: &str, manifest: &Manifest) -> Option<String> {
    let why = match compare(bucket, &object(manifest, prefix)?).await {
        Ok(()) => return None,
        Err(ReadError::Corrupt { detail, .. }) => detail,
        Err(ReadError::Service(error)) => error.to_string(),
    };
    Some(format!("the point's {SPEC_FILE}, which no restore reads: {why}"))
}

async fn compare(bucket: &BucketClient, object: &ManifestObject) -> Result<(), ReadError> {
    let corrupt = |detail: String| ReadError::Corrupt { key: object.key.clone(), detail };
    if object.size > LONGEST {
        return Err(corrupt(too_long(object)));
    }
    let mut reader = checked::read(bucket, object).await?;
    match tokio::io::copy_buf(&mut reader, &mut tokio::io::sink()).await {
        Ok(_) => Ok(()),
        Err(error) => Err(checked::read_error(&error).cloned().unwrap_or_else(|| corrupt(error.to_string()))),
    }
}

fn too_long(object: &ManifestObject) -> String {
    format!("it has {} bytes by the manifest, which no spec has", object.size)
}

/// Why the spec of a point cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// There is no such point.
    #[error("failed to find recovery point {0}: list the points with rorun-operator recovery-points")]
    NoPoint(String),
    /// The manifest is of a newer release, or none at all.
    #[error("failed to read {0}: it is no manifest of a recovery point, or of a newer release")]
    Manifest(String),
    /// The point has no spec.
    #[error(
        "failed to find the spec in recovery point {0}: sanitized points and those of earlier releases have none, nor has one of a \
         spec that was too long"
    )]
    None(String),
    /// The manifest names one that is not there.
    #[error(
        "failed to find {0}, which the manifest names: somebody removed it, or it is a copy, and an earlier release made it"
    )]
    Missing(String),
    /// Nothing opens it.
    #[error(
        "failed to decrypt {key}: it is encrypted for {recipients}; give the file with an identity of one of these"
    )]
    Sealed {
        /// The object.
        key: String,
        /// The keys of age.
        recipients: String,
    },
    /// It is not what the manifest says, or no RorunStack.
    #[error("failed to read {key}: {why}")]
    Corrupt {
        /// The object.
        key: String,
        /// Why.
        why: String,
    },
    /// The bucket cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// What a point says of the stack that it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct PointSpec {
    /// The identifier of the point.
    pub id: BackupId,
    /// The RorunStack, with its namespace.
    pub stack: Value,
    /// The images that served, by workload: several where pods ran several under one tag.
    pub images: BTreeMap<String, Vec<String>>,
    /// Which of several all pods ran, by workload.
    pub running: BTreeMap<String, String>,
}

/// Reads the spec of a point. `identity`: the content of a file with identities of age, for a point that is encrypted.
pub async fn spec_of(
    bucket: &BucketClient,
    (prefix, id): (&str, &BackupId),
    identity: Option<&str>,
) -> Result<PointSpec, SpecError> {
    let key = inventory::key(prefix, id, MANIFEST_FILE);
    let found = bucket.get_tagged(&key, LONGEST_MANIFEST).await?;
    let found = found.ok_or_else(|| SpecError::NoPoint(format!("{prefix}{id}")))?;
    let manifest = inventory::parse(&found.body, id).ok_or(SpecError::Manifest(key))?;
    let object = object(&manifest, prefix).ok_or_else(|| SpecError::None(format!("{prefix}{id}")))?;
    if bucket.size(&object.key).await?.is_none() {
        return Err(SpecError::Missing(object.key));
    }
    let compressed = open(bucket, &manifest, &object, identity).await?;
    let corrupt = |why: String| SpecError::Corrupt { key: object.key.clone(), why };
    let stack = contract::decompress_spec(&compressed).map_err(corrupt)?;
    if stack.get("kind").and_then(Value::as_str) != Some("RorunStack")
        || !stack.get("spec").is_some_and(Value::is_object)
    {
        return Err(corrupt("it holds no RorunStack".to_owned()));
    }
    Ok(PointSpec { id: manifest.id, stack, images: manifest.images, running: manifest.running })
}

/// Reads the object, and decrypts it if the point is encrypted.
async fn open(
    bucket: &BucketClient,
    manifest: &Manifest,
    object: &ManifestObject,
    identity: Option<&str>,
) -> Result<Vec<u8>, SpecError> {
    let corrupt = |why: String| SpecError::Corrupt { key: object.key.clone(), why };
    if object.size > LONGEST {
        return Err(corrupt(too_long(object)));
    }
    let identities = identity.map(seal::identities).unwrap_or_default();
    let sealed = !manifest.recipients.is_empty();
    let unopened = || SpecError::Sealed { key: object.key.clone(), recipients: manifest.recipients.join(", ") };
    if sealed && identities.is_empty() {
        return Err(unopened());
    }
    // It is stored as the dump is.
    let stored = Dump { bucket, object, sealed, identities: &identities };
    let never = CancellationToken::new();
    let read = stored.read(&never, async |reader| {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).await.map(|_| content)
    });
    match read.await {
        Ok(Ok(content)) => Ok(content),
        Ok(Err(error)) => Err(corrupt(error.to_string())),
        Err(OpenError::Sealed { .. }) => Err(unopened()),
        Err(OpenError::Read(ReadError::Service(error))) => Err(error.into()),
        Err(OpenError::Read(ReadError::Corrupt { detail, .. })) => Err(corrupt(detail)),
    }
}

#[cfg(test)]
mod tests {
    use age::x25519::Identity;

    use super::*;

    #[test]
    fn a_spec_is_encrypted_wherever_the_dump_is() {
        let identity = Identity::generate();
        assert_eq!(sealed(b"a spec".to_vec(), &[]).expect("plain"), b"a spec");
        let text = sealed(b"a spec".to_vec(), &[identity.to_public().to_string()]).expect("sealed");
        assert!(text.starts_with(b"age-encryption.org/v1"));
        assert_eq!(age::decrypt(&identity, &text).expect("decrypt"), b"a spec");
    }
}
