//! The suites, one file each.

pub(super) mod mutation;
pub(super) mod writes;
