//! A release on its way: which revision the Deployments get, and which step comes next.
//!
//! What enters: the content of the spec, the revisions that the cluster keeps, and what was observed of Jobs and workloads. What
//! leaves: a [`Release`]. The steps are the rows of one [`TABLE`].

mod candidate;
mod facts;
mod gate;
mod kept;
mod message;
mod migration;
mod proof;
mod rollout;
mod table;
#[cfg(test)]
mod tests;
mod verification;

use facts::Facts;
pub use table::{Pick, Row, State, TABLE, diagram};

use super::Step;
use crate::{
    names::{Component, Waiting},
    stack::{Excuse, Observed, Revision, Stack},
};

/// How many releases are kept: the newest revision that served of each.
pub const HISTORY: usize = 10;

/// A release on its way, or one that serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// How far it is.
    pub state: State,
    /// Which revision the Deployments get.
    pub pick: Pick,
    /// The revision that the spec asks for.
    pub target: Revision,
    /// The last one that served.
    pub last_good: Option<Revision>,
    /// The Job that finds or makes the recovery point, that is to run, that runs, or that is kept for reading.
    pub recovery_point: Option<Step>,
    /// How old in seconds a backup may be to be that recovery point.
    pub reuse_within: i64,
    /// The migration that runs, that is to run, or that is kept for reading.
    pub migration: Option<Step>,
    /// The workloads whose candidates run beside those that serve.
    pub candidates: Vec<Component>,
    /// The workloads whose pods smoke tests ask after the rollout.
    pub verified: Vec<Component>,
    /// The Job of the smoke tests, that is to run, that runs, or that is kept for reading.
    pub smoke_test: Option<Step>,
    /// A migration runs, of this release or of one that was withdrawn: no dump begins meanwhile.
    pub migration_runs: bool,
    /// The revisions that are kept, with what became of each.
    pub revisions: Vec<Revision>,
    /// What keeps its rollout, or the start of its candidates, from going on though the release is not at fault: its clock stands.
    pub excuse: Option<Excuse>,
    /// What it waits for. `None`: it serves, or only its rollout is waited for.
    pub waiting: Option<Waiting>,
    /// When the state may be another one though nothing happens, in seconds since 1970.
    pub turns_at: Option<i64>,
}

impl Release {
    /// The revision that the Deployments get. `None`: they are left as they are.
    pub fn picked(&self) -> Option<&Revision> {
        match self.pick {
            Pick::Target => Some(&self.target),
            Pick::LastGood => self.last_good.as_ref(),
            Pick::Unchanged => None,
        }
    }

    /// Whether the plan says when its rollout, or the start of its candidates, has had its time: there is a release to go back to.
    pub fn is_timed(&self) -> bool {
        self.state.has_a_clock() && self.last_good.is_some()
    }
}

/// What a release waits for whatever its steps are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// Nothing.
    #[default]
    None,
    /// The stack hibernates.
    Hibernation,
    /// A restore changes its data, or is about to.
    Restore,
}

/// Plans the release of a stack.
pub(super) fn release(stack: &Stack, observed: &Observed, pause: Pause, now: i64) -> Release {
    let facts = Facts::of(stack, observed, pause, now);
    let row = TABLE.iter().find(|row| (row.holds)(&facts)).unwrap_or(&TABLE[TABLE.len() - 1]);
    let facts = facts.after(row.state, now).with_beside(row.state, row.pick);
    Release {
        state: row.state,
        pick: facts.pick(row.state, row.pick),
        excuse: facts.excuse(row.state).cloned(),
        waiting: facts.waiting(row.state),
        recovery_point: facts.recovery_point(row.state),
        reuse_within: facts.reuse_within,
        migration: facts.migration_step(row.state),
        candidates: facts.candidates(row.state),
        verified: facts.verified(row.state),
        smoke_test: facts.smoke_test(row.state),
        migration_runs: facts.migration_goes_on(row.state),
        turns_at: facts.turns_at(row.state),
        revisions: facts.kept(),
        last_good: facts.last_good,
        target: facts.target,
    }
}
