//! The controllers: one for each type of resource, and what starts them. No Kubernetes plumbing, which is in `runtime`.

mod backup;
mod clock;
mod request;
mod requests;
mod restore;
mod run;
mod stack;

pub use run::{Settings, run};
