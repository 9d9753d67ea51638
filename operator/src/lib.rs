//! Kubernetes operator for `RorunStack` resources.
//!
//! The modules in floor order, lowest first: a module imports only from lower floors (`tests/layering.rs` checks it).

pub mod names;
pub mod quantity;

pub mod api;
pub mod contract;
pub mod objects;

pub mod stack;

pub mod plan;

pub mod apply;
pub mod runtime;

pub mod desired;
pub mod status;

pub mod services;
pub mod telemetry;

pub mod probe;

pub mod agent;
pub mod controller;

pub mod cli;
