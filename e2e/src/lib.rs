//! The cluster, the scenarios and the benchmarks that prove rorun-operator.

pub mod actor;
pub mod campaign;
pub mod cli;
pub mod engine;
pub mod scenarios;
