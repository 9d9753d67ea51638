//! The agent and the clients of services against real servers: PostgreSQL, Redis, and SeaweedFS for S3.
//!
//! The servers are started when the first test needs them, on free ports, and stopped with the last. What this machine
//! lacks is installed, and said so.

#![expect(clippy::panic, reason = "this is how a test fails; clippy sees tests only in `#[test]` functions")]

mod cut;
mod gateway;
mod moto;
mod pooler;
mod process;
mod programs;
mod proxy;
mod scenario;
mod servers;

mod asks;
mod bad_buckets;
mod captures;
mod client_certificates;
mod drill_faults;
mod drills;
mod dumps;
mod failures;
mod holds;
mod installs;
mod locked;
mod locks;
mod numbers;
mod object_locks;
mod owners;
mod placed;
mod points;
mod preflight;
mod provisions;
mod prunes;
mod replications;
mod restores;
mod rights;
mod roles;
mod rules;
mod sanitizes;
mod schemas;
mod services;
mod specs;
