//! The suites, one file each.

pub(super) mod deletion;
pub(super) mod drift;
pub(super) mod leaders;
pub(super) mod mutation;
pub(super) mod operations;
pub(super) mod optional;
pub(super) mod pairs;
pub(super) mod poison;
pub(super) mod releases;
pub(super) mod rest;
pub(super) mod rights;
pub(super) mod server;
pub(super) mod soak;
pub(super) mod versions;
pub(super) mod watches;
pub(super) mod writes;
