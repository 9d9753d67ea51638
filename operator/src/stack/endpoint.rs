//! The targets of probes.

use super::bucket::BucketAccess;
use crate::contract::{ClientCertificate, ClusterMode};

/// A service to probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A PostgreSQL database.
    Postgres {
        /// The key and the Secret that hold the URL, for messages.
        origin: String,
        /// The URL.
        url: String,
        /// Certificate authorities (PEM).
        ca: Option<String>,
        /// What to show to a server that asks for a certificate.
        client: Option<ClientCertificate>,
    },
    /// A Redis.
    Redis {
        /// The URL.
        url: String,
        /// Certificate authorities (PEM).
        ca: Option<String>,
        /// What the spec says of its cluster mode.
        cluster_mode: ClusterMode,
    },
    /// A bucket.
    Bucket {
        /// The endpoint, the bucket and the keys.
        access: BucketAccess,
        /// The folder of backups in it: keys that are limited to it may list nothing else.
        prefix: Option<String>,
        /// Create the bucket if it is missing.
        create: bool,
        /// Turn versioning on.
        versioning: bool,
    },
}
