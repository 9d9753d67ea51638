//! One run: check, lock, dump, manifest, upkeep. Everything before the manifest is as if it had not been; everything after it can
//! fail without harm.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::authorities::Authorities;
use super::database::{self, Database};
use super::error::DumpError;
use super::exclusion;
use super::manifest::{self, BucketHalf, Contents, Manifest, ManifestObject};
use super::object_lock::{self, Locking};
use super::objects::{self, Half, SourceArgs};
use super::pg_dump::{self, PgDump};
use super::replication::{self, Probe, Proof, Waits};
use super::spec::{self, Told};
use super::stream::{self, DumpInput, Written};
use super::upkeep::{self, Upkeep};
use super::{BackupId, DumpArgs, contents, owner, prune, recovery_point};
use crate::contract::{DUMP_FILE, DumpRecord, MANIFEST_FILE};
use crate::services::bucket::{BucketClient, BucketTarget, Created, Headers, Retention, Timeouts};
use crate::services::postgres::Snapshot;

/// Before it is asked again whether an object has arrived.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes a backup.
pub(super) async fn dump(
    args: &DumpArgs,
    started: Timestamp,
    stop: &CancellationToken,
) -> Result<DumpRecord, DumpError> {
    let clock = Instant::now();
    // Read once at the start and counted on from there: a clock that is set meanwhile makes no difference.
    let now = || started + SignedDuration::try_from(clock.elapsed()).unwrap_or_default();
    let authorities = Authorities::load(args)?;
    let target = args.bucket.target(authorities.for_bucket());
    // Before the dump: what cannot be written need not be read.
    BucketClient::new(&target, Timeouts::CHECK)?.check(Some(&args.prefix)).await?;
    let bucket = BucketClient::new(&target, Timeouts::DATA)?;
    let (locking, unknown) = Locking::of(&bucket, args.retention_days).await;
    if let Some((record, manifest)) = recovery_point::reused(&bucket, args, now()).await? {
        let (locked_until, lock_note) = object_lock::locked_until(&bucket, &args.prefix, &manifest, None).await;
        return Ok(DumpRecord { locked_until, lock_note: lock_note.or(unknown), ..record });
    }
    let pg_dump_version = pg_dump::version().await?;
    let replica = Replica::of(args, &target)?;
    let probe = match &replica {
        Some(replica) => replica.probe(args).await,
        None => None,
    };
    let database = database::connect(&args.database_url, &authorities).await?;
    let lock = Box::pin(exclusion::take(&database.target, args, stop)).await?;
    // Only now: another session may have held the lock for long, and the data are those of the end of the wait.
    let begun = now();
    let id = BackupId::new(begun);
    let key = format!("{}{id}/{DUMP_FILE}", args.prefix);
    tracing::info!(%id, key, server = database.version, pg_dump = pg_dump_version, "dump started");
    let not_locked = lock.problem();
    let retention = locking.of_point(&id, begun);
    let (written, contents) = Box::pin(write(&bucket, args, (&key, retention, &database), lock, stop)).await?;
    let dumped = ManifestObject { key, size: written.size, sha256: written.sha256.clone() };
    let folder = format!("{}{id}/", args.prefix);
    let retention = locking.of_point(&id, now());
    let listed = Box::pin(list((&bucket, &target), args, (&folder, retention), probe, stop)).await;
    let (half, told, args) = match listed {
        Ok((half, told, args)) => (half, told, &args.clone()),
        Err(error) => {
            take_back(&bucket, args, &id).await;
            return Err(error);
        }
    };
    let mut made = Made { dumped, contents, listed: Listed::of(half), told };
    let problems = made.problems();
    let manifest = describe(args, database, Begun { id, at: begun, pg_dump_version }, made, now());
    if let Some(hold) = &args.hold {
        // Before the manifest: a backup that counts is held from its first moment.
        recovery_point::put(&bucket, args, &manifest.id, hold, manifest.created_at).await?;
    }
    let retention = locking.of_point(&manifest.id, manifest.created_at);
    let published = publish(&bucket, &args.prefix, &manifest, retention).await;
    if published.is_err()
        && let Some(hold) = &args.hold
    {
        recovery_point::withdraw(&bucket, args, &manifest.id, hold).await;
    }
    let manifest_key = published?;
    let (locked_until, refused) = object_lock::locked_until(&bucket, &args.prefix, &manifest, retention).await;
    let mut upkeep = Box::pin(upkeep::upkeep(&bucket, args, manifest.created_at, stop)).await;
    upkeep.lock_notes.add(unknown);
    upkeep.lock_notes.add(refused);
    let location = format!("s3://{}/{manifest_key}", bucket.bucket());
    let not_whole = joined(problems, upkeep.spec_not_copied.take());
    Ok(DumpRecord { not_locked, not_whole, locked_until, ..record(&manifest, written, location, upkeep) })
}

fn joined(mut problems: Vec<String>, more: Option<String>) -> Option<String> {
    problems.extend(more);
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// What is beside the dump. The list first, so that little is deleted between the dump and it; then the probe has had its time.
async fn list(
    (bucket, target): (&BucketClient, &BucketTarget),
    args: &DumpArgs,
    (folder, retention): (&str, Option<Retention>),
    probe: Option<Probe<'_>>,
    stop: &CancellationToken,
) -> Result<(Half, Told, DumpArgs), DumpError> {
    let half = Box::pin(objects::write(bucket, args, target, (folder, retention), stop)).await?;
    let told = Box::pin(spec::write(bucket, args, (folder, retention))).await;
    Ok((half, told, proven(args, probe, stop).await?))
}

/// The application's bucket, where it is replicated and that counts for copies.
struct Replica {
    target: BucketTarget,
    client: BucketClient,
}

impl Replica {
    /// A run that a release or a restore waits for copies no objects.
    fn of(args: &DumpArgs, destination: &BucketTarget) -> Result<Option<Self>, DumpError> {
        if !args.objects || args.copies.is_none() || args.hold.is_some() || args.replica.is_none() {
            return Ok(None);
        }
        let target = objects::source(&SourceArgs { source: args.source.as_deref(), destination })?;
        let itself = args.replica.as_ref().map(|to| replication::destination(&target, to));
        if itself
            .is_some_and(|there| (there.endpoint, there.bucket) == (target.endpoint.clone(), target.bucket.clone()))
        {
            tracing::warn!(
                "bucket.replication names the bucket itself at the same endpoint, so its objects are copied"
            );
            return Ok(None);
        }
        let client = BucketClient::new(&target, Timeouts::DATA)?;
        Ok(Some(Self { target, client }))
    }

    /// The probe has the time of the dump to arrive.
    async fn probe<'a>(&'a self, args: &'a DumpArgs) -> Option<Probe<'a>> {
        // Keys may be limited to the folder of the backups.
        let folder = if args.source.is_some() { "" } else { &args.prefix };
        match Probe::write((&self.client, &self.target), args.replica.as_ref()?, folder).await {
            Ok(probe) if probe.looks() => Some(probe),
            Ok(probe) => {
                tracing::warn!("the keys may not read the bucket that is replicated to, so its objects are copied");
                drop(probe.arrives(&Waits { pause: PAUSE, arrival: Duration::ZERO }, &CancellationToken::new()).await);
                None
            }
            Err(error) => {
                tracing::warn!(%error, "the replication is not proven");
                None
            }
        }
    }
}

/// The arguments, with whether an object has arrived in the bucket that is replicated to.
async fn proven(args: &DumpArgs, probe: Option<Probe<'_>>, stop: &CancellationToken) -> Result<DumpArgs, DumpError> {
    let waits = Waits { pause: PAUSE, arrival: Duration::from_secs(args.arrival_seconds) };
    let arrived = match probe {
        None => false,
        Some(probe) => match Box::pin(probe.arrives(&waits, stop)).await {
            Ok(Proof::Arrived(left)) => {
                tracing::info!(left, "an object has arrived in the bucket that is replicated to");
                true
            }
            Ok(Proof::Missing(why)) => {
                tracing::warn!(why, "the replication is not proven");
                false
            }
            Ok(Proof::Stopped) => return Err(DumpError::Stopped),
            Err(error) => {
                tracing::warn!(%error, "the replication is not proven");
                false
            }
        },
    };
    Ok(DumpArgs { proven_replica: args.replica.clone().filter(|_| arrived), ..args.clone() })
}

/// A run that has begun.
struct Begun {
    id: BackupId,
    at: Timestamp,
    pg_dump_version: String,
}

/// What a run has made so far.
struct Made {
    dumped: ManifestObject,
    contents: Contents,
    listed: Listed,
    told: Told,
}

impl Made {
    /// Why the point lacks something: each cause in its own words, with the way out. One hides no other.
    fn problems(&mut self) -> Vec<String> {
        let rows = self.contents.not_counted.as_ref();
        let rows = rows.map(|why| format!("{why}; drills and restores compare fewer rows"));
        self.listed.problem.take().into_iter().chain(rows).chain(self.told.problem.take()).collect()
    }
}

fn describe(args: &DumpArgs, database: Database, begun: Begun, made: Made, created_at: Timestamp) -> Manifest {
    let Made { dumped, contents, listed, told } = made;
    Manifest {
        api_version: manifest::VERSION.to_owned(),
        id: begun.id,
        started_at: begun.at,
        created_at,
        tool: concat!("rorun-operator ", env!("CARGO_PKG_VERSION")).to_owned(),
        pg_dump_version: begun.pg_dump_version,
        server_version: database.version,
        database: database.name,
        format: manifest::FORMAT.to_owned(),
        objects: std::iter::once(dumped).chain(listed.object).collect(),
        owner: args.owner.clone(),
        stack_uid: args.stack_uid.clone(),
        environment: args.environment.clone(),
        sanitized: false,
        sanitized_from: None,
        made_for: None,
        excluded_schemas: args.exclude_schema.clone(),
        contents: Some(contents),
        bucket: listed.half,
        spec: told.object,
        images: told.images,
        running: told.running,
        recipients: args.recipients.clone(),
    }
}

/// What came of the bucket half.
#[derive(Default)]
struct Listed {
    half: Option<BucketHalf>,
    object: Option<ManifestObject>,
    problem: Option<String>,
}

impl Listed {
    fn of(half: Half) -> Self {
        match half {
            Half::NotAsked => Self::default(),
            Half::Without(problem) => Self { problem: Some(problem), ..Self::default() },
            Half::Written(half, object) => Self { half: Some(half), object: Some(object), problem: None },
        }
    }
}

/// Dumps under the lock, which it gives back when `pg_dump` and the counting of the rows have ended. A lock that is lost ends the
/// dump.
async fn write(
    bucket: &BucketClient,
    args: &DumpArgs,
    (key, retention, database): (&str, Option<Retention>, &Database),
    mut lock: exclusion::Lock,
    stop: &CancellationToken,
) -> Result<(Written, Contents), DumpError> {
    let says: Vec<_> = args.owner.iter().map(|of| (owner::SAYS, of.as_str())).collect();
    let headers = Headers::saying(&says).locked(retention);
    // Behind a pooler another session may be one of another server, which does not know the snapshot.
    let snapshot = match lock.problem() {
        Some(problem) => Err(format!("the rows are not counted: {problem}")),
        None => contents::snapshot(&database.target).await,
    };
    let seen = snapshot.as_ref().ok().map(Snapshot::id);
    let mut child = PgDump::start(database.environment.clone(), &args.exclude_schema, seen)?;
    let end = stop.child_token();
    let written = {
        let mut input = DumpInput::new(&mut child, &args.recipients)?;
        let upload = Box::pin(stream::upload(bucket, (key, &headers), &mut input, &end));
        let counted = async { Ok(contents::read(&snapshot, &args.exclude_schema).await) };
        lock.during(async { tokio::try_join!(upload, counted) }, &end).await
    };
    lock.release().await;
    match written {
        Err(DumpError::Lock(lost)) => Err(child.last_words(exclusion::LAST_WORDS).await.unwrap_or(lost.into())),
        written => written,
    }
}

async fn take_back(bucket: &BucketClient, args: &DumpArgs, id: &BackupId) {
    if let Err(error) = prune::remove(bucket, &args.prefix, id).await {
        tracing::warn!(%error, %id, "a broken backup is left in the bucket");
    }
}

/// Writes the manifest, and takes the dump back if that fails.
pub(super) async fn publish(
    bucket: &BucketClient,
    prefix: &str,
    manifest: &Manifest,
    retention: Option<Retention>,
) -> Result<String, DumpError> {
    let key = format!("{prefix}{}/{MANIFEST_FILE}", manifest.id);
    let written = async {
        let body =
            serde_json::to_vec_pretty(manifest).map_err(|source| DumpError::Manifest { key: key.clone(), source })?;
        match bucket.create_with(&key, body, &Headers::default().locked(retention)).await? {
            Created::Now => Ok(()),
            Created::Refused => Err(DumpError::Exists { key: key.clone() }),
        }
    };
    match written.await {
        Ok(()) => Ok(key),
        // Another owner's dump has the same key: the run takes nothing of it back.
        Err(error @ DumpError::Exists { .. }) => Err(error),
        Err(error) => {
            // The manifest too: perhaps it was written, and only the answer was lost.
            if let Err(error) = prune::remove(bucket, prefix, &manifest.id).await {
                tracing::warn!(%error, id = %manifest.id, "a broken backup is left in the bucket");
            }
            Err(error)
        }
    }
}

fn record(manifest: &Manifest, written: Written, location: String, upkeep: Upkeep) -> DumpRecord {
    DumpRecord {
        id: manifest.id.to_string(),
        at: manifest.created_at,
        size_bytes: i64::try_from(written.size).unwrap_or(i64::MAX),
        sha256: written.sha256,
        location,
        points: upkeep.points,
        removed: upkeep.removed,
        shared_with: upkeep.shared_with,
        without_owner: upkeep.without_owner,
        not_removed: upkeep.not_removed,
        adoption: upkeep.adoption,
        not_locked: None,
        database_bytes: manifest.contents.as_ref().and_then(|contents| contents.database_bytes),
        rows: manifest.contents.as_ref().map(Contents::total_rows),
        objects: manifest.bucket.as_ref().map(|half| half.count),
        not_whole: None,
        copied: upkeep.copied,
        not_copied: upkeep.not_copied,
        objects_not_copied: upkeep.objects_not_copied,
        locked_until: None,
        lock_note: upkeep.lock_notes.told(),
        reused: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_why_a_point_is_not_whole_is_told() {
        let made = |bucket: Option<&str>, rows: Option<&str>, spec: Option<&str>| {
            let said = |text: Option<&str>| text.map(str::to_owned);
            let mut made = Made {
                dumped: ManifestObject { key: "k".to_owned(), size: 1, sha256: "0".to_owned() },
                contents: Contents { not_counted: said(rows), ..Contents::default() },
                listed: Listed { problem: said(bucket), ..Listed::default() },
                told: Told { problem: said(spec), ..Told::default() },
            };
            let told = joined(made.problems(), None);
            assert_eq!(made.contents.not_counted.as_deref(), rows, "the manifest tells it too");
            told
        };
        assert_eq!(made(None, None, None), None);
        assert_eq!(made(Some("no versions"), None, None).as_deref(), Some("no versions"));
        let all = made(Some("no versions"), Some("too many tables"), Some("no spec"));
        let expected = "no versions; too many tables; drills and restores compare fewer rows; no spec";
        assert_eq!(all.as_deref(), Some(expected));
    }
}
