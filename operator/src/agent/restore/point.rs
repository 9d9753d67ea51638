//! The recovery point: its manifest, whether the dump is there, and what opens it.

use age::x25519::Identity;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::args::{PointArgs, StepArgs};
use super::error::{RestoreError, refused};
use crate::agent::authorities::Authorities;
use crate::agent::checked::{self, Dump, OpenError};
use crate::agent::inventory::{self, LONGEST_MANIFEST};
use crate::agent::manifest::{self, Manifest, ManifestObject};
use crate::agent::pg_restore::{self, PgRestoreError, Restored};
use crate::agent::seal;
use crate::contract::{DUMP_FILE, MANIFEST_FILE, RestoreRefusal};
use crate::services::bucket::{BucketClient, Timeouts};

/// A recovery point that may be restored.
pub(super) struct Point {
    pub(super) bucket: BucketClient,
    pub(super) manifest: Manifest,
}

/// The dump of a point, under the key that it has now.
pub(super) struct PointDump<'a> {
    point: &'a Point,
    pub(super) object: ManifestObject,
    identities: Vec<Identity>,
}

/// Reads the manifest.
pub(super) async fn load(args: &PointArgs) -> Result<Point, RestoreError> {
    let authorities = Authorities::of_bucket(args.bucket_ca_file.as_deref())?;
    let bucket = BucketClient::new(&args.bucket.target(authorities.for_bucket()), Timeouts::DATA)?;
    let key = inventory::key(&args.prefix, &args.point, MANIFEST_FILE);
    let Some(found) = bucket.get_tagged(&key, LONGEST_MANIFEST).await? else {
        let message =
            format!("there is no recovery point {} in bucket \"{}\": {key} is missing", args.point, bucket.bucket());
        return Err(refused(RestoreRefusal::PointNotFound, message));
    };
    let manifest = read(&found.body, args, &key)?;
    Ok(Point { bucket, manifest })
}

impl Point {
    /// Looks for the dump, and for what opens it.
    pub(super) async fn dump(&self, args: &StepArgs) -> Result<PointDump<'_>, RestoreError> {
        let Some(object) = self.object(&args.point, DUMP_FILE) else {
            let message = format!("recovery point {} holds no dump of a database", args.point.point);
            return Err(refused(RestoreRefusal::PointIncomplete, message));
        };
        let identities = args.identity.as_deref().map(seal::identities).unwrap_or_default();
        if self.is_sealed() && identities.is_empty() {
            let message = format!(
                "the dump of recovery point {} is encrypted for {}: let backup.identitySecretRef of the stack name a Secret with an \
                 identity of one of these, and create another RorunRestore",
                args.point.point,
                self.manifest.recipients.join(", ")
            );
            return Err(refused(RestoreRefusal::PointEncrypted, message));
        }
        let size = self.bucket.size(&object.key).await?;
        if size != Some(object.size) {
            let found = size.map_or("there is none".to_owned(), |size| format!("it has {size}"));
            let message = format!(
                "{} should have {} bytes, and {found}: restore another recovery point",
                object.key, object.size
            );
            return Err(refused(RestoreRefusal::PointCorrupt, message));
        }
        Ok(PointDump { point: self, object, identities })
    }

    /// An object of the point. By the end of its key: the folder may have been copied to another prefix.
    pub(super) fn object(&self, args: &PointArgs, file: &str) -> Option<ManifestObject> {
        let told = self.manifest.object(file)?;
        Some(ManifestObject { key: inventory::key(&args.prefix, &args.point, file), ..told.clone() })
    }

    fn is_sealed(&self) -> bool {
        !self.manifest.recipients.is_empty()
    }
}

impl PointDump<'_> {
    /// Restores it into the database that the variables lead to.
    pub(super) async fn restore(
        &self,
        environment: &[(&'static str, String)],
        arguments: &[&str],
        stop: &CancellationToken,
    ) -> Result<Restored, PgRestoreError> {
        let Point { bucket, .. } = self.point;
        let dump = Dump { bucket, object: &self.object, sealed: self.point.is_sealed(), identities: &self.identities };
        let restored = dump.read(stop, async |reader| pg_restore::restore(environment, arguments, reader, stop).await);
        Box::pin(restored).await?
    }

    /// Refuses a dump that the identity does not open. Reads no more than its beginning.
    pub(super) async fn refuse_sealed(&self) -> Result<(), RestoreError> {
        if !self.point.is_sealed() {
            return Ok(());
        }
        let reader = checked::read(&self.point.bucket, &self.object).await?;
        match seal::open(reader, &self.identities).await {
            Ok(_) => Ok(()),
            Err(why) => Err(OpenError::Sealed { key: self.object.key.clone(), why }.into()),
        }
    }
}

fn read(body: &[u8], args: &PointArgs, key: &str) -> Result<Manifest, RestoreError> {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let version = json.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != manifest::VERSION && version.starts_with("backup.rorun.app/") {
        let message = format!("{key} is of the form {version}, which this release does not know: upgrade the operator");
        return Err(refused(RestoreRefusal::PointTooNew, message));
    }
    let Some(manifest) = inventory::parse(body, &args.point) else {
        let message = format!("{key} is no manifest of {}: restore another recovery point", args.point);
        return Err(refused(RestoreRefusal::PointCorrupt, message));
    };
    if let Some(owner) = &args.whose.owner
        && manifest.owner.as_ref() != Some(owner)
    {
        let whose = manifest.owner.as_deref().map_or("without an owner".to_owned(), |owner| format!("of {owner}"));
        let message =
            format!("recovery point {} is {whose}, not of {owner}: adopt it with rorun.app/adopt-backups", args.point);
        return Err(refused(RestoreRefusal::PointForeign, message));
    }
    refuse_raw(&manifest, args)?;
    Ok(manifest)
}

/// Only a sanitized point leaves its environment. One that does not say which it is of is taken for its own owner, and in Production,
/// where nothing is worth more protection than what is there.
fn refuse_raw(manifest: &Manifest, args: &PointArgs) -> Result<(), RestoreError> {
    let point = &args.point;
    if manifest.sanitized {
        if args.whose.any_owner {
            return Ok(());
        }
        let message = format!(
            "recovery point {point} is sanitized: it fills a new stack, by target Stack and its location, and replaces no data"
        );
        return Err(refused(RestoreRefusal::PointForeign, message));
    }
    let way_out = "make a sanitized one where the data are, by a RorunBackup with sanitize, and name that";
    let message = match (&args.environment, &manifest.environment) {
        _ if args.sanitized => format!("recovery point {point} is not sanitized: {way_out}"),
        (Some(own), Some(of)) if own != of => {
            format!("recovery point {point} is that of a stack of {of}, not of {own}, and not sanitized: {way_out}")
        }
        (Some(own), None) if args.whose.any_owner && own != PRODUCTION => format!(
            "recovery point {point} does not say of which environment it is, as those of earlier releases, so that only its own              stack and Production take it: {way_out}"
        ),
        _ => return Ok(()),
    };
    Err(refused(RestoreRefusal::PointNotSanitized, message))
}

/// The environment whose data nothing else may have.
const PRODUCTION: &str = "Production";
