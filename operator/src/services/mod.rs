//! Clients of the services that a stack uses: PostgreSQL, Redis and S3.
//!
//! What enters: addresses and credentials as plain values. What leaves: answers, or one line that says what is wrong, without
//! a secret. Used by the controller (to check, and to make a bucket) and by the agent. Forbidden here: Kubernetes.

pub mod bucket;
mod error;
pub mod postgres;
pub mod redis;
mod tls;

pub use error::ServiceError;
