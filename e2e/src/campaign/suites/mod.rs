//! The suites, one file each.

pub(super) mod leaders;
pub(super) mod server;
pub(super) mod soak;
pub(super) mod deletion;
pub(super) mod drift;
pub(super) mod poison;
pub(super) mod rights;
pub(super) mod versions;
pub(super) mod writes;
