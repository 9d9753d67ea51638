//! Clients of the services that a stack uses: PostgreSQL, Redis and S3.
//!
//! What enters: addresses and credentials as plain values. What leaves: answers, or one line that says what is wrong, without
//! a secret and without the words of a service. Used by `probe` (to check, and to make a bucket) through a guarded network, and
//! by the agent through an open one. Forbidden here: Kubernetes.

pub mod bucket;
mod error;
pub mod https;
mod network;
pub mod postgres;
pub mod redis;
mod tls;

pub use error::ServiceError;
pub use network::{Network, NetworkError, READ_MAX, Resolve, has_control_characters};
