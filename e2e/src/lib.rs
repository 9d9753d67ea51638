//! The cluster and the scenarios that prove rorun-operator.

pub mod actor;
pub mod cli;
pub mod engine;
pub mod scenarios;
pub mod suite_result;
