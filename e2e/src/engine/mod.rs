//! The cluster engine: a Kubernetes on this machine, whatever the machine has. What a run starts is gone when it ends.

pub mod cache;
pub mod cleanup;
pub mod cluster;
pub mod docker;
pub mod durations;
pub mod host;
pub mod image;
pub mod packages;
pub mod pool;
pub mod ports;
pub mod process;
pub mod progress;
pub mod record;
pub mod redis_cluster;
pub mod schemas;
pub mod test_server;
pub mod tools;
pub mod wait;

pub use cache::Cache;
pub use cluster::{Cluster, Lease};
pub use docker::Docker;
pub use durations::Durations;
pub use test_server::{AuditCall, Backup, TestServer};
