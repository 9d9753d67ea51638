//! One run: check, dump, manifest, upkeep. Everything before the manifest is as if it had not been; everything after it can
//! fail without harm.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::authorities::Authorities;
use super::error::DumpError;
use super::manifest::{self, Manifest, ManifestObject};
use super::pg_dump::{self, PgDump};
use super::stream::{self, Written};
use super::upkeep::{self, Upkeep};
use super::{BackupId, DumpArgs, owner, prune};
use crate::contract::{DUMP_FILE, DumpRecord, MANIFEST_FILE};
use crate::services::ServiceError;
use crate::services::bucket::{BucketClient, Created, Timeouts};
use crate::services::postgres::{self, PostgresTarget};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A database that answered.
struct Database {
    name: String,
    version: String,
    environment: Vec<(&'static str, String)>,
}

/// Makes a backup.
pub(super) async fn dump(
    args: &DumpArgs,
    started: Timestamp,
    stop: &CancellationToken,
) -> Result<DumpRecord, DumpError> {
    let clock = Instant::now();
    let authorities = Authorities::load(args)?;
    let target = args.bucket.target(authorities.for_bucket());
    // Before the dump: what cannot be written need not be read.
    BucketClient::new(&target, Timeouts::CHECK)?.check(Some(&args.prefix)).await?;
    let bucket = BucketClient::new(&target, Timeouts::DATA)?;
    let pg_dump_version = pg_dump::version().await?;
    let database = connect(args, &authorities).await?;
    let id = BackupId::new(started);
    let key = format!("{}{id}/{DUMP_FILE}", args.prefix);
    tracing::info!(%id, key, server = database.version, pg_dump = pg_dump_version, "dump started");
    let says: Vec<_> = args.owner.iter().map(|of| (owner::SAYS, of.as_str())).collect();
    let child = PgDump::start(database.environment)?;
    let written = Box::pin(stream::upload(&bucket, (&key, &says), child, stop)).await?;
    // Read once at the start and counted on from there: a clock that is set meanwhile makes no difference.
    let now = started + SignedDuration::try_from(clock.elapsed()).unwrap_or_default();
    let manifest = Manifest {
        api_version: manifest::VERSION.to_owned(),
        id,
        started_at: started,
        created_at: now,
        tool: concat!("rorun-operator ", env!("CARGO_PKG_VERSION")).to_owned(),
        pg_dump_version,
        server_version: database.version,
        database: database.name,
        format: manifest::FORMAT.to_owned(),
        objects: vec![ManifestObject { key, size: written.size, sha256: written.sha256.clone() }],
        owner: args.owner.clone(),
        stack_uid: args.stack_uid.clone(),
    };
    let manifest_key = publish(&bucket, &args.prefix, &manifest).await?;
    let upkeep = Box::pin(upkeep::upkeep(&bucket, args, now, stop)).await;
    Ok(record(&manifest, written, format!("s3://{}/{manifest_key}", bucket.bucket()), upkeep))
}

/// Asks for the version: the first to say in plain words what is wrong with the database.
async fn connect(args: &DumpArgs, authorities: &Authorities) -> Result<Database, DumpError> {
    let mut target = PostgresTarget { url: args.database_url.clone(), ca: None };
    let (name, mut environment) = (target.database()?, target.environment()?);
    let mut refused = None;
    for bundle in authorities.for_database(target.tls_mode()?) {
        target.ca = bundle.map(|bundle| bundle.pem.clone());
        match postgres::check(&target, CONNECT_TIMEOUT).await {
            Ok(info) => {
                environment.extend(bundle.map(|bundle| ("PGSSLROOTCERT", bundle.path.display().to_string())));
                return Ok(Database { name, version: info.version, environment });
            }
            // What the first, more specific authorities led to is what the user can act on.
            Err(error @ ServiceError::TlsFailed { .. }) => refused = refused.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(refused.map_or(DumpError::Empty, DumpError::from))
}

/// Writes the manifest, and takes the dump back if that fails.
async fn publish(bucket: &BucketClient, prefix: &str, manifest: &Manifest) -> Result<String, DumpError> {
    let key = format!("{prefix}{}/{MANIFEST_FILE}", manifest.id);
    let written = async {
        let body =
            serde_json::to_vec_pretty(manifest).map_err(|source| DumpError::Manifest { key: key.clone(), source })?;
        match bucket.create_object(&key, body).await? {
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
        removed: upkeep.removed,
        shared_with: upkeep.shared_with,
        without_owner: upkeep.without_owner,
        not_removed: upkeep.not_removed,
        adoption: upkeep.adoption,
    }
}
