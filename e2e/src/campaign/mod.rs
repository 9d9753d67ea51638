//! The fault campaign: the operator as its image has it, a real API server, and between them a proxy that lets one thing go
//! wrong at a time. What comes out is compared with what comes out when nothing goes wrong.

mod arena;
mod plan;
mod proxy;
pub mod seeds;
mod snapshot;
mod stage;
mod suite;
mod suites;

pub use arena::Arena;
pub use suite::{Extent, Ground, SUITES, Suite, Verdict};
