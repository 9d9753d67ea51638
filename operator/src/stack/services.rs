//! The data services and the backup of a valid stack.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::{
    Credentials,
    external::{BucketAccess, DatabaseAccess, RedisAccess},
};
use crate::api::v1alpha1::{BucketServer, Environment, RorunStackSpec};

/// A volume to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// How large.
    pub size: String,
    /// Of which class. `None`: the cluster's default.
    pub class: Option<String>,
    /// What the spec asks for and the volume that exists does not allow: one sentence each.
    pub notes: Vec<String>,
}

/// PostgreSQL.
#[derive(Clone, Debug)]
pub enum Database {
    /// In the cluster.
    Embedded {
        /// The image.
        image: String,
        /// The volume.
        volume: Box<Volume>,
        /// CPU and memory.
        resources: ResourceRequirements,
        /// User, password and database. `None`: see [`super::Stack::unresolved`].
        credentials: Option<Credentials>,
    },
    /// Somebody else's. `None`: see [`super::Stack::unresolved`].
    External(Option<Box<DatabaseAccess>>),
}

/// Redis.
#[derive(Clone, Debug)]
pub enum Redis {
    /// In the cluster.
    Embedded {
        /// The image.
        image: String,
        /// The volume.
        volume: Box<Volume>,
        /// CPU and memory.
        resources: ResourceRequirements,
        /// The password. `None`: see [`super::Stack::unresolved`].
        credentials: Option<Credentials>,
    },
    /// Somebody else's. `None`: see [`super::Stack::unresolved`].
    External(Option<Box<RedisAccess>>),
}

/// The bucket.
#[derive(Clone, Debug)]
pub enum Bucket {
    /// On a server in the cluster.
    Embedded {
        /// Which server.
        server: BucketServer,
        /// The image.
        image: String,
        /// The volume.
        volume: Box<Volume>,
        /// CPU and memory.
        resources: ResourceRequirements,
        /// The keys. `None`: see [`super::Stack::unresolved`].
        credentials: Option<Credentials>,
        /// The bucket and the keys to it.
        access: Option<Box<BucketAccess>>,
        /// Turn versioning on.
        versioning: bool,
    },
    /// Somebody else's.
    External {
        /// The bucket and the keys to it. `None`: see [`super::Stack::unresolved`].
        access: Option<Box<BucketAccess>>,
        /// Turn versioning on.
        versioning: bool,
    },
}

impl Bucket {
    /// The bucket and the keys to it.
    pub fn access(&self) -> Option<&BucketAccess> {
        match self {
            Self::Embedded { access, .. } | Self::External { access, .. } => access.as_deref(),
        }
    }

    /// Whether the operator turns versioning on.
    pub fn versioning(&self) -> bool {
        match self {
            Self::Embedded { versioning, .. } | Self::External { versioning, .. } => *versioning,
        }
    }
}

/// The port that an S3 server listens on.
pub fn bucket_port(server: BucketServer) -> i32 {
    match server {
        BucketServer::SeaweedFS => 8333,
        BucketServer::MinIO | BucketServer::RustFS => 9000,
    }
}

/// The dumps of the database.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Five fields of cron.
    pub schedule: String,
    /// IANA time zone.
    pub time_zone: String,
    /// The age in days at which a dump may be removed.
    pub retention_days: i32,
    /// How many dumps are kept whatever their age.
    pub minimum_kept: i32,
    /// The image with `pg_dump`.
    pub image: String,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// The bucket that dumps go to. `None`: see [`super::Stack::unresolved`].
    pub destination: Option<Box<BucketAccess>>,
    /// Whether the destination is a bucket of its own.
    pub own_destination: bool,
    /// The folder in the bucket, ending in a slash.
    pub prefix: String,
    /// Whose the backups are. `None`: it is not known, so none can be removed.
    pub owner: Option<String>,
    /// Whose backups are to become this stack's own.
    pub adopt: Option<String>,
    /// What is wrong with the wish to adopt backups.
    pub adopt_problem: Option<String>,
    /// Whether the dumps are on the volume of the embedded bucket.
    pub embedded: bool,
    /// What the user should know of where the dumps go.
    pub note: Option<&'static str>,
    /// Labels of the user for the pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations of the user for the pods.
    pub pod_annotations: BTreeMap<String, String>,
}

/// Whether a spec asks for dumps.
pub fn backed_up(spec: &RorunStackSpec) -> bool {
    spec.backup.is_some() || spec.environment != Environment::Development
}
