//! What a status says of each state that a stack can be in, and what tools read in it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod argocd;
mod cluster;
mod creation;
mod edge;
mod notes;
mod preflight;
mod proven;
mod releases;
mod states;
