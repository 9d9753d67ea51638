//! The targets of probes.

use super::bucket::BucketAccess;

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
    },
    /// A Redis.
    Redis {
        /// The URL.
        url: String,
        /// Certificate authorities (PEM).
        ca: Option<String>,
        /// Whether the spec says that it is in cluster mode. `None`: it says nothing.
        cluster_mode: Option<bool>,
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
