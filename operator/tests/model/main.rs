//! The whole operator against an API server in memory, in paused time, and its core checked state by state.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

#[allow(dead_code, reason = "each test binary uses its part")]
mod api;
mod children;
mod core;
mod exhaustive;
mod faults;
mod interned;
mod judge;
mod pass;
mod runs;
#[path = "../support/mod.rs"]
mod support;
mod world;
