//! What the operator reports about itself: logs, metrics and the endpoints of its probes.
//!
//! What enters: events, numbers and states, pushed by the code that knows them. What leaves: JSON lines on stderr and three HTTP
//! endpoints. Forbidden here: anything of ours, globals (each [`Metrics`] owns its registry) and labels without a bound.

mod health;
pub mod http;
mod listener;
pub mod logs;
mod metrics;
mod reconciles;
mod requests;
mod stacks;

pub use health::{Health, HealthLimits, Role};
pub use metrics::{Metrics, MetricsError, WriteVerb};
pub use reconciles::{ControllerMetrics, Outcome, ReconcileGuard};
pub use requests::{CountedRequests, RequestMetricsLayer};
pub use stacks::{ConditionStatus, StackSample};
