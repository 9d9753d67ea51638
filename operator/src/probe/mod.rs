//! Asks services that a tenant named whether they answer: trusts neither address nor answer, and delays no other tenant.
//!
//! What enters: plain addresses and credentials, by tenant and service. What leaves: a short answer in the operator's own words, and
//! a call when it changes. Forbidden here: the Kubernetes API, and what a stack is.

mod ask;
mod pace;
mod postgres;
mod prober;
mod redis;
mod slots;

pub use self::postgres::{Clock, PostgresQuestion, Purpose};
pub use self::redis::RedisQuestion;
pub use ask::{Answer, Measured, Question, Service};
pub use prober::{Prober, Tenant};
