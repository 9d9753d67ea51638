//! The recovery point: its manifest, and whether the dump is there.

use serde_json::Value;

use super::args::PointArgs;
use super::error::{RestoreError, refused};
use crate::agent::authorities::Authorities;
use crate::agent::inventory::{self, LONGEST_MANIFEST};
use crate::agent::manifest::{self, Manifest, ManifestObject};
use crate::contract::{DUMP_FILE, MANIFEST_FILE, RestoreRefusal};
use crate::services::bucket::{BucketClient, Timeouts};

/// A recovery point that may be restored.
pub(super) struct Point {
    pub(super) bucket: BucketClient,
    pub(super) manifest: Manifest,
    /// The dump, under the key that it has now.
    pub(super) dump: ManifestObject,
}

/// Reads the manifest and looks for the dump.
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
    let dump = dump(&manifest, args)?;
    let size = bucket.size(&dump.key).await?;
    if size != Some(dump.size) {
        let found = size.map_or("there is none".to_owned(), |size| format!("it has {size}"));
        let message =
            format!("{} should have {} bytes, and {found}: restore another recovery point", dump.key, dump.size);
        return Err(refused(RestoreRefusal::PointCorrupt, message));
    }
    Ok(Point { bucket, manifest, dump })
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
    if !manifest.recipients.is_empty() {
        let message = format!(
            "the dump of recovery point {} is encrypted for {}: restores decrypt none in this release; decrypt it with age and an \
             identity of these, and restore it with pg_restore",
            args.point,
            manifest.recipients.join(", ")
        );
        return Err(refused(RestoreRefusal::PointEncrypted, message));
    }
    if let Some(owner) = &args.whose.owner
        && manifest.owner.as_ref() != Some(owner)
    {
        let whose = manifest.owner.as_deref().map_or("without an owner".to_owned(), |owner| format!("of {owner}"));
        let message =
            format!("recovery point {} is {whose}, not of {owner}: adopt it with rorun.app/adopt-backups", args.point);
        return Err(refused(RestoreRefusal::PointForeign, message));
    }
    Ok(manifest)
}

/// By the end of the key: the folder may have been copied to another prefix.
fn dump(manifest: &Manifest, args: &PointArgs) -> Result<ManifestObject, RestoreError> {
    let ending = format!("{}/{DUMP_FILE}", args.point);
    let told = manifest.objects.iter().find(|object| object.key.ends_with(&ending));
    let Some(told) = told else {
        let message = format!("recovery point {} holds no dump of a database", args.point);
        return Err(refused(RestoreRefusal::PointIncomplete, message));
    };
    Ok(ManifestObject { key: inventory::key(&args.prefix, &args.point, DUMP_FILE), ..told.clone() })
}
