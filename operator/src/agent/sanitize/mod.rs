//! A point without what must not leave production: the newest point is restored into a PostgreSQL of its own, in its own pod, the
//! user's SQL changes it in one transaction, and the result becomes a point in another place. The database of the stack is not
//! touched, and cannot be: nothing here leads to it. Whatever fails leaves no point, since the manifest is written last.

mod args;
mod objects;
mod script;
mod sql;

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

pub use args::SanitizeArgs;
use objects::Wanted;
use script::Script;

use super::authorities::Authorities;
use super::checked::Dump;
use super::drill::{self, Ended, restore, server, server::Server};
use super::error::DumpError;
use super::inventory::{self, BackupFolder, Found};
use super::manifest::{self, Contents, Manifest, ManifestObject};
use super::pg_dump::{self, PgDump};
use super::stream::{self, DumpInput};
use super::{BackupId, contents, dump, objects as list, prune, seal};
use crate::contract::{BucketLocation, DUMP_FILE, DrillFault, DumpRecord, ENV_SANITIZED, MARKER_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, BucketTarget, Headers, Timeouts};
use crate::services::postgres::Snapshot;

/// Makes the point. `Err(None)`: it was told to stop.
pub(super) async fn sanitize(
    args: &SanitizeArgs,
    started: Timestamp,
    stop: &CancellationToken,
) -> Result<DumpRecord, Option<String>> {
    // What the SQL makes the server do runs as the user of this process, whose variables hold the keys of two buckets.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        return Err(Some(format!("failed to keep the keys from the server: {error}")));
    }
    Box::pin(carry_out(args, started, stop)).await.map_err(|ended| match ended {
        Ended::Stopped => None,
        Ended::Fault(_, message) => Some(message),
    })
}

fn failed(message: impl Into<String>) -> Ended {
    Ended::Fault(DrillFault::NotRun, message.into())
}

async fn carry_out(args: &SanitizeArgs, started: Timestamp, stop: &CancellationToken) -> Result<DumpRecord, Ended> {
    let script = Script::read(args)?;
    let clock = Instant::now();
    let now = || started + SignedDuration::try_from(clock.elapsed()).unwrap_or_default();
    let authorities = Authorities::of_bucket(args.bucket_ca_file.as_deref())?;
    let from = args.bucket.target(authorities.for_bucket());
    let into = destination(&args.destination)?;
    drill::by_keys(&from).and_then(|()| drill::by_keys(&into))?;
    apart(args, &from, &into)?;
    BucketClient::new(&into, Timeouts::CHECK)?.check(Some(&args.into_prefix)).await?;
    let destination = BucketClient::new(&into, Timeouts::DATA)?;
    if let Some(record) = Box::pin(made_before(&destination, args)).await? {
        return Ok(record);
    }
    refuse_raw_folder(&destination, args).await?;
    let source = BucketClient::new(&from, Timeouts::DATA)?;
    let point = Box::pin(choose(&source, args)).await?;
    let wanted = Box::pin(Wanted::of(args, (&source, &from), &point)).await?;
    server::fits(&point.server_version).await?;
    tracing::info!(point = %point.id, prefix = args.prefix, "the newest recovery point is restored");
    let server = Server::start(&args.work, point.contents.as_ref(), stop).await?;
    let content = Content { script: &script, objects: wanted.as_ref() };
    let made = Box::pin(make((args, content), (&source, &point), (&server, &destination), now, stop)).await;
    server.stop().await;
    let (manifest, size) = made?;
    match Box::pin(dump::publish(&destination, &args.into_prefix, &manifest, None)).await {
        Ok(key) => Ok(record(&manifest, size, &destination, &key)),
        Err(error) => {
            take_back(&destination, &args.into_prefix, &manifest.id).await;
            Err(error.into())
        }
    }
}

/// What makes the point another one than that which it is made of.
#[derive(Clone, Copy)]
struct Content<'a> {
    script: &'a Script,
    objects: Option<&'a Wanted<'a>>,
}

/// Removes what was written of a point that did not come to be.
async fn take_back(bucket: &BucketClient, prefix: &str, id: &BackupId) {
    let removed = async {
        prune::remove(bucket, prefix, id).await?;
        objects::remove(bucket, prefix, id).await
    };
    if let Err(error) = removed.await {
        tracing::warn!(%error, %id, "a broken point is left in the bucket");
    }
}

/// Restores, sanitizes and dumps. Gives the manifest, which is not written yet, and the size of the dump.
async fn make(
    (args, content): (&SanitizeArgs, Content<'_>),
    (source, point): (&BucketClient, &Manifest),
    (server, destination): (&Server, &BucketClient),
    now: impl Fn() -> Timestamp,
    stop: &CancellationToken,
) -> Result<(Manifest, u64), Ended> {
    restored(args, (source, point), server, stop).await?;
    sql::apply(server, content.script, stop).await?;
    sql::without_credentials(server, content.script).await?;
    let begun = now();
    let id = BackupId::new(begun);
    let key = inventory::key(&args.into_prefix, &id, DUMP_FILE);
    let all = async {
        let (dump, contents) = Box::pin(write(destination, &key, server, stop)).await?;
        let objects = match content.objects {
            Some(wanted) => Some(Box::pin(wanted.copy((destination, &args.into_prefix, &id), stop)).await?),
            None => None,
        };
        Ok((dump, contents, objects))
    };
    let (dump, contents, objects) = match all.await {
        Ok(written) => written,
        Err(ended) => {
            // An upload that broke off was taken back. One that was complete was not.
            take_back(destination, &args.into_prefix, &id).await;
            return Err(ended);
        }
    };
    let size = dump.size;
    let (bucket, list) = objects.unzip();
    let manifest = Manifest {
        api_version: manifest::VERSION.to_owned(),
        id,
        started_at: begun,
        created_at: now(),
        tool: concat!("rorun-operator ", env!("CARGO_PKG_VERSION")).to_owned(),
        pg_dump_version: pg_dump::version().await?,
        server_version: server.version().await?,
        database: point.database.clone(),
        format: manifest::FORMAT.to_owned(),
        objects: [dump].into_iter().chain(list).collect(),
        owner: args.owner.clone(),
        stack_uid: None,
        environment: point.environment.clone().or_else(|| args.environment.clone()),
        sanitized: true,
        sanitized_from: Some(point.id.clone()),
        made_for: Some(args.request.clone()),
        excluded_schemas: point.excluded_schemas.clone(),
        contents: Some(contents),
        bucket,
        // Neither the images nor the spec of production: such a point leaves it.
        spec: None,
        images: BTreeMap::new(),
        running: BTreeMap::new(),
        recipients: Vec::new(),
    };
    Ok((manifest, size))
}

/// Restores the whole point: one without something is no point that others may take for it.
async fn restored(
    args: &SanitizeArgs,
    (source, point): (&BucketClient, &Manifest),
    server: &Server,
    stop: &CancellationToken,
) -> Result<(), Ended> {
    let Some(told) = point.object(DUMP_FILE) else {
        return Err(failed(format!("the manifest of {} names no {DUMP_FILE}", point.id)));
    };
    let object = ManifestObject { key: inventory::key(&args.prefix, &point.id, DUMP_FILE), ..told.clone() };
    let identities = args.identity.as_deref().map(seal::identities).unwrap_or_default();
    let sealed = !point.recipients.is_empty();
    if sealed && identities.is_empty() {
        let message = format!(
            "the dump of recovery point {} is encrypted: set backup.identitySecretRef, so that it can be restored",
            point.id
        );
        return Err(failed(message));
    }
    let dump = Dump { bucket: source, object: &object, sealed, identities: &identities };
    let restored = Box::pin(restore::restore(dump, server, stop)).await?;
    if restored.missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = restored.missing.iter().map(String::as_str).collect();
    let missing = missing.join(", ");
    Err(failed(format!(
        "the image lacks the extension {missing}, and what needs it was not restored: set backup.verify.image"
    )))
}

/// Dumps the server, and counts what it holds.
async fn write(
    bucket: &BucketClient,
    key: &str,
    server: &Server,
    stop: &CancellationToken,
) -> Result<(ManifestObject, Contents), Ended> {
    let snapshot = contents::snapshot(&server.target()).await;
    if let Err(why) = &snapshot {
        return Err(failed(why.clone()));
    }
    let seen = snapshot.as_ref().ok().map(Snapshot::id);
    let mut child = PgDump::start(server.environment().to_vec(), &[], seen)?;
    let mut input = DumpInput::new(&mut child, &[])?;
    let headers = Headers::default();
    let upload = Box::pin(stream::upload(bucket, (key, &headers), &mut input, stop));
    let counted = async { Ok::<_, DumpError>(contents::read(&snapshot, &[]).await) };
    let (written, mut contents) = tokio::try_join!(upload, counted)?;
    contents.roles.retain(|role| role != server::NAME);
    Ok((ManifestObject { key: key.to_owned(), size: written.size, sha256: written.sha256 }, contents))
}

/// The image of the server need not have public authorities: those that came with the agent count beside the bucket's own.
fn destination(location: &str) -> Result<BucketTarget, Ended> {
    let location: BucketLocation = serde_json::from_str(location)
        .map_err(|error| failed(format!("failed to read the variable {ENV_SANITIZED}: {error}")))?;
    Ok(list::target(&location))
}

/// A key for the destination must open no point of the stack itself.
fn apart(args: &SanitizeArgs, from: &BucketTarget, into: &BucketTarget) -> Result<(), Ended> {
    let (from_prefix, into_prefix) = (&args.prefix, &args.into_prefix);
    // One bucket has several endpoints.
    let same = from.bucket == into.bucket;
    if same && (from_prefix.starts_with(into_prefix) || into_prefix.starts_with(from_prefix)) {
        let message = format!(
            "{into_prefix} in bucket \"{}\" holds the recovery points of the stack itself, or is among them: set a prefix of its own \
             in destination",
            into.bucket
        );
        return Err(failed(message));
    }
    Ok(())
}

/// Backups of whatever stack have a marker beside them. Those of a copy have none.
async fn refuse_raw_folder(bucket: &BucketClient, args: &SanitizeArgs) -> Result<(), Ended> {
    let marker = format!("{}{MARKER_FILE}", args.into_prefix);
    let owned = bucket.size(&marker).await?.map(|_| MARKER_FILE.to_owned());
    let raw = |entry: BackupFolder| {
        (!matches!(entry.manifest, Found::Sanitized { .. } | Found::Missing)).then(|| entry.id.to_string())
    };
    let found = match owned {
        Some(marker) => Some(marker),
        None => inventory::read(bucket, &args.into_prefix).await?.into_iter().find_map(raw),
    };
    let Some(found) = found else { return Ok(()) };
    let message = format!(
        "{} in bucket \"{}\" holds backups that are not sanitized, by its {found}: set a prefix of its own in destination",
        args.into_prefix,
        bucket.bucket()
    );
    Err(failed(message))
}

/// The newest whole point of the stack.
async fn choose(bucket: &BucketClient, args: &SanitizeArgs) -> Result<Manifest, Ended> {
    let of = (args.prefix.as_str(), args.owner.as_deref(), args.point.as_ref());
    let id = match drill::choose(bucket, of).await {
        Err(Ended::Fault(DrillFault::NoPoint, message)) => {
            return Err(failed(format!("{message}: create a RorunBackup without sanitize first")));
        }
        chosen => chosen?,
    };
    drill::read_manifest(bucket, &args.prefix, &id).await
}

/// The point that an earlier pod of the same Job has made.
async fn made_before(bucket: &BucketClient, args: &SanitizeArgs) -> Result<Option<DumpRecord>, ServiceError> {
    for entry in inventory::read(bucket, &args.into_prefix).await? {
        let Found::Sanitized { whole: true } = entry.manifest else { continue };
        let key = inventory::key(&args.into_prefix, &entry.id, crate::contract::MANIFEST_FILE);
        let body = bucket.get(&key).await?.unwrap_or_default();
        let manifest = inventory::parse(&body, &entry.id);
        let ours = manifest.filter(|manifest| manifest.made_for.as_ref() == Some(&args.request));
        if let Some(manifest) = ours {
            let size = manifest.object(DUMP_FILE).map_or(0, |object| object.size);
            return Ok(Some(DumpRecord { reused: true, ..record(&manifest, size, bucket, &key) }));
        }
    }
    Ok(None)
}

fn record(manifest: &Manifest, size: u64, bucket: &BucketClient, key: &str) -> DumpRecord {
    DumpRecord {
        id: manifest.id.to_string(),
        at: manifest.created_at,
        size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
        database_bytes: manifest.contents.as_ref().and_then(|contents| contents.database_bytes),
        sha256: manifest.object(DUMP_FILE).map(|object| object.sha256.clone()).unwrap_or_default(),
        location: format!("s3://{}/{key}", bucket.bucket()),
        points: Vec::new(),
        removed: 0,
        shared_with: None,
        without_owner: 0,
        not_removed: None,
        adoption: None,
        not_locked: None,
        rows: manifest.contents.as_ref().map(Contents::total_rows),
        objects: manifest.bucket.as_ref().map(|half| half.count),
        not_whole: manifest.contents.as_ref().and_then(|contents| contents.not_counted.clone()),
        copied: 0,
        not_copied: None,
        objects_not_copied: None,
        locked_until: None,
        lock_note: None,
        reused: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_is_trusted_by_public_authorities_beside_its_own() {
        let location = |ca: &str| {
            let text = format!(
                r#"{{"endpoint":"https://s3.example.com","region":"r","bucket":"b","forcePathStyle":false,"accessKeyId":"i","secretAccessKey":"k"{ca}}}"#
            );
            destination(&text).map_err(|_| "refused").expect("a bucket")
        };
        let public = Authorities::of_database(None).expect("authorities").for_bucket();
        assert_eq!(location("").ca, public);
        let own = location(r#","ca":"PEM""#).ca.expect("its own");
        assert!(own.ends_with("PEM") && own.len() >= public.map_or(0, |pem| pem.len()), "both count");
        assert!(destination("{}").is_err());
    }
}
