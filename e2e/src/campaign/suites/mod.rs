//! The suites, one file each.

pub(super) mod pairs;
pub(super) mod watches;
pub(super) mod writes;
