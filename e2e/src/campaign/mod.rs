//! The fault campaign: the operator as its image has it, a real API server, and between them a proxy that lets one thing go
//! wrong at a time. What comes out is compared with what comes out when nothing goes wrong.

mod arena;
mod bucket;
mod canary;
mod endpoint;
mod fleet;
mod gate;
mod history;
mod past;
mod plan;
mod play;
mod proxy;
pub(crate) mod relay;
pub mod seeds;
mod site;
mod snapshot;
mod stage;
mod streams;
mod suite;
mod suites;
mod workload;

pub use arena::Arena;
pub(crate) use arena::{connect, define};
pub use suite::{Extent, Ground, SUITES, Suite, Verdict};
