//! The cluster and the scenarios that prove rorun-operator.

pub mod cli;
pub mod engine;
pub mod fake_controllers;
pub mod scenarios;
pub mod suite_result;
