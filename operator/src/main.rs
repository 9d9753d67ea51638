//! The `rorun-operator` binary.
fn main() {}
