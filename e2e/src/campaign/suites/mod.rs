//! The suites, one file each.

pub(super) mod writes;
