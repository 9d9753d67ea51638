//! What happens over time: which steps a stack takes now, and which of them are over.
//!
//! What enters: a valid stack, and what was observed of its Jobs, records and commands. What leaves: a [`Plan`]. A step is a Job
//! whose name says what it means, so planning the same step twice is planning it once. Nothing is remembered between two
//! reconciles but what the cluster holds. Forbidden here: the client, the clock, the environment, random numbers.

mod backup;
mod commands;
mod picked;
pub mod release;
mod step;

pub use picked::picked;
pub use release::Release;
pub use step::{Step, meaning};

use crate::{
    names::annotation,
    stack::{Handled, Observed, Stack},
};

/// The steps of a stack, and the record of the commands that were obeyed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The dumps that somebody asked for: the newest ones, and the one that is to be made.
    pub backups: Vec<Step>,
    /// The commands that were handled. `None`: none ever was.
    pub handled: Option<Handled>,
    /// The release on its way, or the one that serves.
    pub release: Release,
}

impl Plan {
    /// When the plan may be another one though nothing happens, in seconds since 1970.
    pub fn turns_at(&self) -> Option<i64> {
        self.release.turns_at
    }
}

/// Plans the steps of a stack. `now` is in seconds since 1970: moments that are recorded, and deadlines.
pub fn plan(stack: &Stack, observed: &Observed, now: i64) -> Plan {
    let asked = backup::asked(stack, observed);
    let obeyed = asked.iter().filter(|step| step.exists).map(|_| annotation::BACKUP);
    let handled = commands::handled(observed, obeyed);
    Plan { backups: backup::steps(asked, observed), handled, release: release::release(stack, observed, now) }
}
