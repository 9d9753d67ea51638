//! A point without what must not leave the environment, as a RorunBackup asks for it: by which statements, and where to.

use super::{BucketAccess, Observed, References, backup, bucket, mode::ModeSpec};
use crate::{
    api::v1alpha1::{ConfigMapKey, RorunBackupSpec},
    names::Waiting,
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
}

impl SanitizeRequest {
    /// Reads what a spec asks for. `None`: a backup of the database as it is.
    pub fn of(spec: &RorunBackupSpec, observed: &Observed) -> Option<Self> {
        let (sanitize, destination) = (spec.sanitize.as_ref()?, spec.destination.as_ref()?);
        let inline = || Statements::Inline(sanitize.sql.clone().unwrap_or_default());
        Some(Self {
            sql: sanitize.sql_config_map_ref.clone().map_or_else(inline, Statements::ConfigMap),
            destination: bucket::access(backup::sanitized_to(destination), FIELD, observed).map(Box::new),
            prefix: destination.prefix.clone().unwrap_or_else(|| PREFIX.to_owned()),
        })
    }
}

/// Adds the Secrets that a RorunBackup names.
pub fn backup_references(spec: &RorunBackupSpec) -> References {
    let mut found = References::default();
    if let Some(destination) = &spec.destination {
        backup::sanitized_to(destination).references("", &mut found);
    }
    found
}
