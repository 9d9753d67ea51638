//! The fault campaign: the operator as its image has it, a real API server, and between them a proxy that lets one thing go
//! wrong at a time. What comes out is compared with what comes out when nothing goes wrong.

mod arena;
mod plan;
pub(crate) mod proxy;
mod run;
mod snapshot;

pub use arena::Arena;
pub(crate) use arena::{connect, define};
pub use plan::{Call, Fault, Plan};
pub use run::{Case, Learnt, Verdict, Workload, learn, plans, play_all};
pub use snapshot::Reference;
