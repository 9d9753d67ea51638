//! The core of apply checked state by state: three children, every order of events.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

mod answers;
mod children;
mod core;
mod exhaustive;
mod interned;
mod reconcile;
