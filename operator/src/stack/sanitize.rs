//! A point without what must not leave the environment, as a RorunBackup asks for it: by which statements, and where to.

use super::{BucketAccess, Observed, References, backup, bucket, defaults, mode::ModeSpec, recovery};
use crate::{
    api::v1alpha1::{ConfigMapKey, ExternalBucket, RorunBackupSpec, RorunStackSpec, SanitizeCommand},
    names::{Waiting, label, reason},
};

/// The field with the bucket.
const FIELD: &str = "destination.external";
/// The folder, where the spec names none.
const PREFIX: &str = "sanitized/";

/// What a RorunBackup with `sanitize` asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SanitizeRequest {
    /// The statements.
    pub sql: Statements,
    /// The folders of the stack's bucket whose objects it has.
    pub objects: Vec<String>,
    /// The bucket of the point, or what is missing of it.
    pub destination: Result<Box<BucketAccess>, Waiting>,
    /// The folder in it, which those of the namespaces are below, ending in a slash.
    pub prefix: String,
}

/// Statements, and where they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Statements {
    /// In the spec.
    Inline(String),
    /// In a `ConfigMap`, which only the pod reads.
    ConfigMap(ConfigMapKey),
    /// A program prints them, whose image has its registry.
    Printed(SanitizeCommand),
}

impl SanitizeRequest {
    /// Reads what a spec asks for. `None`: a backup of the database as it is.
    pub fn of(spec: &RorunBackupSpec, stack: &RorunStackSpec, observed: &Observed) -> Option<Self> {
        let (sanitize, destination) = (spec.sanitize.as_ref()?, spec.destination.as_ref()?);
        let sql = match (&sanitize.command, &sanitize.sql_config_map_ref) {
            (Some(command), _) => {
                let image = defaults::image(defaults::registry(stack), &command.image);
                Statements::Printed(SanitizeCommand { image, ..command.clone() })
            }
            (None, Some(of)) => Statements::ConfigMap(of.clone()),
            (None, None) => Statements::Inline(sanitize.sql.clone().unwrap_or_default()),
        };
        let objects = sanitize.object_prefixes.clone();
        let readable = readable(stack, !objects.is_empty(), observed);
        Some(Self {
            sql,
            objects,
            destination: readable.and_then(|()| access(backup::sanitized_to(destination), observed)),
            prefix: destination.prefix.clone().unwrap_or_else(|| PREFIX.to_owned()),
        })
    }
}

/// Whether the points can be read. The pod runs statements of users, and gets no role.
fn readable(stack: &RorunStackSpec, objects: bool, observed: &Observed) -> Result<(), Waiting> {
    let reader = recovery::reader(stack, observed)?;
    if reader.is_some() || !backup::read_by_role(stack, objects) {
        return Ok(());
    }
    let message = "a sanitized point comes out of a pod that runs statements of users, and gets no cloud role: name a Secret with keys \
                   that may read the backups in backup.verify.credentialsSecretRef of the stack";
    Err(Waiting::new(reason::INVALID_SPEC, message))
}

/// The bucket, by keys that are sure to be keys of S3: whoever may ask for a backup need not be allowed to read Secrets.
fn access(block: &ExternalBucket, observed: &Observed) -> Result<Box<BucketAccess>, Waiting> {
    let access = bucket::access(block, FIELD, observed)?;
    // The definition refuses one without keys.
    let unusual = block.credentials_secret_ref.as_ref().filter(|keys| bucket::unusual_keys(keys, observed).is_some());
    match unusual {
        Some(keys) => Err(Waiting::new(reason::INVALID_SPEC, not_for_s3(&keys.name))),
        None => Ok(Box::new(access)),
    }
}

fn not_for_s3(secret: &str) -> String {
    format!(
        "secret/{secret}, named by {FIELD}, may hold something else than keys of S3 under names other than AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY: label it (kubectl label secret {secret} {}=true), or use these names",
        label::S3
    )
}

/// Adds the Secrets that a RorunBackup names.
pub fn backup_references(spec: &RorunBackupSpec) -> References {
    let mut found = References::default();
    if let Some(destination) = &spec.destination {
        backup::sanitized_to(destination).references("", &mut found);
    }
    found
}
