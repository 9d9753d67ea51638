//! A step: a Job that runs once.

/// A Job of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name of the Job.
    pub name: String,
    /// The Job exists: it runs, or it is kept for reading.
    pub exists: bool,
}
