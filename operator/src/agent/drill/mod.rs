//! A drill: restores the newest point into a PostgreSQL of its own, in its own pod, compares it with what the manifest says, and
//! throws it away. It never connects to the database of the stack, and has no way to.

mod compare;
mod judge;
mod objects;
pub(super) mod restore;
pub(super) mod server;

use std::collections::BTreeSet;
use std::time::Instant;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::judge::{Known, Restored};
use self::objects::Sample;
use self::server::Server;
use super::authorities::Authorities;
use super::checked::{Dump, ReadError};
use super::error::DumpError;
use super::inventory::{self, BackupFolder, Found};
use super::manifest::{Manifest, ManifestObject};
use super::{BackupId, DrillArgs, copies, seal, spec};
use crate::contract::{DUMP_FILE, DrillFault, DrillOutcome, DrillRecord, MANIFEST_FILE, VERIFIED_FILE, Verdict};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, BucketTarget, Timeouts};

/// What ended a drill.
#[derive(Debug)]
pub(super) enum Ended {
    /// The pod was told to stop: that is no verdict.
    Stopped,
    /// Something is at fault.
    Fault(DrillFault, String),
}

impl From<ServiceError> for Ended {
    fn from(error: ServiceError) -> Self {
        Self::Fault(DrillFault::NotRun, error.to_string())
    }
}

impl From<DumpError> for Ended {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Stopped => Self::Stopped,
            error => Self::Fault(DrillFault::NotRun, error.to_string()),
        }
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Service(error) => error.into(),
            error @ ReadError::Corrupt { .. } => Self::Fault(DrillFault::Corrupt, error.to_string()),
        }
    }
}

fn fault<T>(fault: DrillFault, message: impl Into<String>) -> Result<T, Ended> {
    Err(Ended::Fault(fault, message.into()))
}

/// That a bucket is used by keys. The pod runs statements of users on a server of its own, whose superuser reads what the pod's user
/// reads, and so a token by which the cloud gives a role.
pub(in crate::agent) fn by_keys(target: &BucketTarget) -> Result<(), Ended> {
    let BucketTarget { bucket, keys, .. } = target;
    match keys {
        Some(_) => Ok(()),
        None => fault(
            DrillFault::NotRun,
            format!("a pod that runs statements takes no role, and bucket \"{bucket}\" has no keys"),
        ),
    }
}

/// A drill that could not begin.
pub(super) fn not_run(message: &str) -> DrillOutcome {
    DrillOutcome::Failed { id: None, fault: DrillFault::NotRun, message: message.to_owned() }
}

/// Carries out a drill. `None`: it was told to stop.
pub(super) async fn drill(args: &DrillArgs, stop: &CancellationToken) -> Option<DrillOutcome> {
    let mut id = None;
    match Box::pin(carry_out(args, &mut id, stop)).await {
        Ok(record) => Some(DrillOutcome::Complete(record)),
        Err(Ended::Stopped) => None,
        Err(Ended::Fault(fault, message)) => {
            Some(DrillOutcome::Failed { id: id.map(|id: BackupId| id.to_string()), fault, message })
        }
    }
}

async fn carry_out(
    args: &DrillArgs,
    found: &mut Option<BackupId>,
    stop: &CancellationToken,
) -> Result<DrillRecord, Ended> {
    let authorities = Authorities::of_bucket(args.bucket_ca_file.as_deref())?;
    let target = args.bucket.target(authorities.for_bucket());
    by_keys(&target)?;
    BucketClient::new(&target, Timeouts::CHECK)?.check(Some(&args.prefix)).await?;
    let bucket = BucketClient::new(&target, Timeouts::DATA)?;
    let of = (args.prefix.as_str(), args.owner.as_deref(), args.point.as_ref());
    let id = Box::pin(choose(&bucket, of)).await?;
    *found = Some(id.clone());
    let judged = Box::pin(judge(&bucket, args, (&id, &target), stop)).await;
    match &judged {
        Ok(record) if record.verdict != Verdict::ChecksumsOnly => Box::pin(mark(&bucket, args, &id, record)).await?,
        Err(Ended::Fault(fault, _)) if is_of_the_point(*fault) => Box::pin(unmark(&bucket, args, &id)).await?,
        _ => {}
    }
    judged
}

/// Whether the point itself is at fault, so that an earlier drill of it no longer counts.
fn is_of_the_point(fault: DrillFault) -> bool {
    matches!(fault, DrillFault::Corrupt | DrillFault::NotRestored | DrillFault::Differs | DrillFault::ObjectsDiffer)
}

async fn judge(
    bucket: &BucketClient,
    args: &DrillArgs,
    (id, target): (&BackupId, &BucketTarget),
    stop: &CancellationToken,
) -> Result<DrillRecord, Ended> {
    let manifest = read_manifest(bucket, &args.prefix, id).await?;
    let mut record = Box::pin(restored(bucket, args, (&manifest, target), stop)).await?;
    // Nothing of the spec is restored, so it fails no drill of the data.
    if let Some(note) = spec::damaged(bucket, &args.prefix, &manifest).await {
        let told = std::mem::take(&mut record.message);
        record.message = if told.is_empty() { note } else { format!("{told}; {note}") };
    }
    Ok(record)
}

/// Restores the point, and compares what came of it.
async fn restored(
    bucket: &BucketClient,
    args: &DrillArgs,
    (manifest, target): (&Manifest, &BucketTarget),
    stop: &CancellationToken,
) -> Result<DrillRecord, Ended> {
    let id = &manifest.id;
    let dump = dump_of(manifest)?;
    let key = inventory::key(&args.prefix, id, DUMP_FILE);
    tracing::info!(%id, key, "drill started");
    let begun = Instant::now();
    let identities = args.identity.as_deref().map(seal::identities).unwrap_or_default();
    if !manifest.recipients.is_empty() && identities.is_empty() {
        return Box::pin(checksums_only(bucket, id, (&key, dump), (begun, stop))).await;
    }
    server::fits(&manifest.server_version).await?;
    let server = Server::start(&args.work, manifest.contents.as_ref(), stop).await?;
    let object = ManifestObject { key: key.clone(), ..dump.clone() };
    let sealed = !manifest.recipients.is_empty();
    let opened = Dump { bucket, object: &object, sealed, identities: &identities };
    let known = Known { excluded: &manifest.excluded_schemas, contents: manifest.contents.as_ref() };
    let restored = Box::pin(restore::restore_known(opened, (&server, known), stop)).await;
    let compared = match restored {
        Ok(restored) => Box::pin(compare::compare(&server, manifest, &args.checks, &restored))
            .await
            .map(|compared| (restored, compared)),
        Err(ended) => Err(ended),
    };
    server.stop().await;
    let (restored, compared) = compared?;
    let sample = Box::pin(objects::sample(bucket, args, (id, manifest, target), stop)).await?;
    Ok(DrillRecord {
        id: id.to_string(),
        at: now(),
        duration_seconds: begun.elapsed().as_secs(),
        size_bytes: dump.size,
        rows: compared.rows,
        objects: sample.objects,
        checks: u32::try_from(args.checks.len()).unwrap_or(u32::MAX),
        verdict: if restored.is_whole() { Verdict::Whole } else { Verdict::Partial },
        message: notes(&restored, manifest, &sample),
    })
}

/// The point that is asked for, or the newest whole one of the owner.
pub(super) async fn choose(
    bucket: &BucketClient,
    (prefix, owner, point): (&str, Option<&str>, Option<&BackupId>),
) -> Result<BackupId, Ended> {
    let entries = inventory::read(bucket, prefix).await?;
    let wanted = |entry: &&BackupFolder| point.is_none_or(|point| *point == entry.id);
    let own = |entry: &&BackupFolder| match &entry.manifest {
        Found::Of { owner: of, .. } => owner.is_none() || owner == of.as_deref(),
        Found::Sanitized { .. } | Found::Missing | Found::Unreadable => false,
    };
    let newest = entries.iter().filter(wanted).filter(own).max_by(|one, other| one.id.cmp(&other.id));
    match (newest, point) {
        // One whose dump is cut off is not passed over: the user believes in it.
        (Some(entry), _) => Ok(entry.id.clone()),
        (None, Some(point)) => fault(DrillFault::NoPoint, format!("there is no recovery point {prefix}{point}")),
        (None, None) => fault(DrillFault::NoPoint, format!("there is no recovery point of this stack under {prefix}")),
    }
}

pub(super) async fn read_manifest(bucket: &BucketClient, prefix: &str, id: &BackupId) -> Result<Manifest, Ended> {
    let key = inventory::key(prefix, id, MANIFEST_FILE);
    let body = bucket.get(&key).await?.unwrap_or_default();
    match inventory::parse(&body, id) {
        Some(manifest) => Ok(manifest),
        None => fault(DrillFault::Corrupt, format!("{key} cannot be read")),
    }
}

fn dump_of(manifest: &Manifest) -> Result<&ManifestObject, Ended> {
    match manifest.object(DUMP_FILE) {
        Some(dump) => Ok(dump),
        None => fault(DrillFault::Corrupt, format!("the manifest of {} names no {DUMP_FILE}", manifest.id)),
    }
}

/// Without the identity nothing but the checksum can be told.
async fn checksums_only(
    bucket: &BucketClient,
    id: &BackupId,
    (key, dump): (&str, &ManifestObject),
    (begun, stop): (Instant, &CancellationToken),
) -> Result<DrillRecord, Ended> {
    let found = copies::hash(bucket, key, stop).await?;
    if found.as_deref() != Some(&*dump.sha256) {
        return fault(DrillFault::Corrupt, wrong_checksum(key));
    }
    Ok(DrillRecord {
        id: id.to_string(),
        at: now(),
        duration_seconds: begun.elapsed().as_secs(),
        size_bytes: dump.size,
        rows: None,
        objects: None,
        checks: 0,
        verdict: Verdict::ChecksumsOnly,
        message: "the dump is encrypted, and only its checksum was compared: set backup.identitySecretRef, so that drills can \
                  restore it"
            .to_owned(),
    })
}

fn wrong_checksum(key: &str) -> String {
    format!("{key} has another SHA-256 than its manifest says: it was changed, or mixed up with another")
}

/// What the user should know of a drill that succeeded.
fn notes(restored: &Restored, manifest: &Manifest, sample: &Sample) -> String {
    let mut notes = Vec::new();
    let names = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    if !restored.missing.is_empty() {
        notes.push(format!(
            "the image of the drill lacks the extension {}: what needs it was not restored; set backup.verify.image",
            names(&restored.missing)
        ));
    }
    if !restored.schemas.is_empty() {
        notes.push(format!(
            "the dump leaves out the schema {} (backup.excludeSchemas): what needs it was not restored",
            names(&restored.schemas)
        ));
    }
    notes.extend(restored.told());
    match &manifest.contents {
        None => notes.push("the manifest has no numbers of rows to compare, as those of earlier releases".to_owned()),
        Some(contents) => notes.extend(contents.not_counted.clone()),
    }
    if sample.unknown {
        let note = "no ETag of the objects is the MD5 of its content, so that sizes and ETags alone were compared";
        notes.push(note.to_owned());
    }
    notes.join("; ")
}

/// Says in the folder of the point that it was restored: retention keeps the newest of these.
async fn mark(bucket: &BucketClient, args: &DrillArgs, id: &BackupId, record: &DrillRecord) -> Result<(), Ended> {
    let key = inventory::key(&args.prefix, id, VERIFIED_FILE);
    let body = serde_json::to_vec(record).unwrap_or_default();
    // The manifest may have gone meanwhile: then there is nothing to say anything about.
    if bucket.size(&inventory::key(&args.prefix, id, MANIFEST_FILE)).await?.is_some() {
        bucket.put(&key, body).await?;
    }
    Ok(())
}

async fn unmark(bucket: &BucketClient, args: &DrillArgs, id: &BackupId) -> Result<(), Ended> {
    let key = inventory::key(&args.prefix, id, VERIFIED_FILE);
    if bucket.size(&key).await?.is_some() {
        bucket.delete(&key).await?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a drill tells when it ended")]
fn now() -> Timestamp {
    Timestamp::now()
}
