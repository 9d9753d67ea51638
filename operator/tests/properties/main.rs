//! What holds for every stack, whatever its spec: from random specs and random observations to objects.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

mod accounts;
mod agent;
mod client_certificate;
mod configuration;
mod deterministic;
mod generate;
mod modes;
mod objects;
mod paths;
mod placement;
mod plans;
mod pod_templates;
mod pods;
mod probing;
#[path = "../support/mod.rs"]
mod support;
mod switches;
mod urls;
