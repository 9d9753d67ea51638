//! The suites, one file each.

pub(super) mod drift;
pub(super) mod writes;
