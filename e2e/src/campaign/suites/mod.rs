//! The suites, one file each.

pub(super) mod leaders;
pub(super) mod server;
pub(super) mod soak;
pub(super) mod writes;
