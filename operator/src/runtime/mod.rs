//! The plumbing of every controller: leader election, watches, the cache of children, the queue, the status writer. It works by
//! type and knows no stack.
//!
//! What enters: clients, settings, and a [`Reconciler`] for each type. What leaves: calls of the reconciler, one at a time for
//! each resource. Forbidden here: the types of the API, what a stack is, and the name of a component.

mod cache;
mod children;
mod events;
mod key;
pub mod leader;
pub mod optional;
mod queue;
pub mod references;
mod requeue;
mod retry_after;
mod scope;
mod start;
mod status_writer;
mod triggers;
mod watch;
mod watched;

pub use cache::Cache;
pub use events::{EventPublisher, event};
pub use key::ResourceKey;
pub use queue::Reconciler;
pub use requeue::{RETRY, Requeue, spread};
pub use retry_after::RetryAfterLayer;
pub use scope::Scope;
pub use start::{Clients, Controller, ControllerRuntime, RunError, Runtime, RuntimeSettings};
pub use status_writer::{StatusError, StatusWriter, Written};
pub use triggers::Triggers;
pub use watched::{Reconciled, Watched};
