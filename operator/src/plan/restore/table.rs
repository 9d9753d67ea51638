//! The steps of a restore as a table: the first row that holds is the state.

use std::fmt::Write as _;

use super::{Kind, facts::Facts};

/// How far a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has not begun.
    #[default]
    Waiting,
    /// It cannot be done, and is over.
    Refused,
    /// A step broke off.
    Broken,
    /// The point and the rights are looked at.
    Checking,
    /// The database of a new stack is filled.
    Filling,
    /// The dump is restored beside the live database, or another Cluster recovered.
    Copying,
    /// The copy is migrated.
    Migrating,
    /// The copy is read.
    Verifying,
    /// A recovery point of what is live is made.
    Saving,
    /// The pods of the application end.
    Stopping,
    /// The copy takes the name of the live database, or its place.
    Switching,
    /// The objects of the bucket are put back.
    RestoringObjects,
    /// The pods of the application start.
    Starting,
    /// The application is asked.
    Testing,
    /// Everything is done.
    Complete,
}

impl State {
    /// As status and documentation name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Refused => "Refused",
            Self::Broken => "Broken",
            Self::Checking => "Checking",
            Self::Filling => "Filling",
            Self::Copying => "Copying",
            Self::Migrating => "Migrating",
            Self::Verifying => "Verifying",
            Self::Saving => "Saving",
            Self::Stopping => "Stopping",
            Self::Switching => "Switching",
            Self::RestoringObjects => "RestoringObjects",
            Self::Starting => "Starting",
            Self::Testing => "Testing",
            Self::Complete => "Complete",
        }
    }

    /// Its Job.
    pub(super) fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Checking => Kind::Check,
            Self::Filling => Kind::Fill,
            Self::Copying => Kind::Copy,
            Self::Migrating => Kind::Migrate,
            Self::Verifying => Kind::Verify,
            Self::Saving => Kind::Save,
            Self::Switching => Kind::Switch,
            Self::RestoringObjects => Kind::Objects,
            Self::Testing => Kind::Test,
            Self::Waiting | Self::Refused | Self::Broken | Self::Stopping | Self::Starting | Self::Complete => {
                return None;
            }
        })
    }

    /// Whether no pod of the application runs. One that broke off once data were changed is told as `Broken`, and stays stopped.
    pub fn stops(self) -> bool {
        matches!(self, Self::Stopping | Self::Switching | Self::RestoringObjects | Self::Broken | Self::Refused)
    }

    /// Whether releases, dumps and hibernation wait. A release may mend what does not start or does not pass.
    pub fn holds(self) -> bool {
        !matches!(self, Self::Waiting | Self::Starting | Self::Testing | Self::Complete)
    }

    /// The condition that is true once the step is done.
    pub fn condition(self) -> Option<&'static str> {
        Some(match self {
            Self::Checking => "Checked",
            Self::Filling => "Filled",
            Self::Copying => "Copied",
            Self::Migrating => "Migrated",
            Self::Verifying => "Verified",
            Self::Saving => "Saved",
            Self::Stopping => "Stopped",
            Self::Switching => "Switched",
            Self::RestoringObjects => "ObjectsRestored",
            Self::Starting => "Started",
            Self::Testing => "Tested",
            Self::Complete => "Complete",
            Self::Waiting | Self::Refused | Self::Broken => return None,
        })
    }
}

/// A row: the state, when it holds, and what comes next.
pub struct Row {
    /// The state.
    pub state: State,
    /// When it holds, in words.
    pub when: &'static str,
    /// Whether it holds, if no row before does.
    pub(super) holds: fn(&Facts<'_>) -> bool,
    /// The states that may follow, and what leads to each.
    pub next: &'static [(State, &'static str)],
}

/// The steps of a restore.
pub static TABLE: [Row; 15] = [
    Row {
        state: State::Refused,
        when: "it is for another stack, was done before, or a Job says that it cannot be done",
        holds: |facts| facts.is_refused(),
        next: &[],
    },
    Row {
        state: State::Broken,
        when: "a Job broke off",
        holds: |facts| facts.is_broken(),
        next: &[
            (State::Checking, "rorun.app/retry has a new value; likewise every other step that broke off"),
            (State::Switching, "the same"),
        ],
    },
    Row {
        state: State::Waiting,
        when: "it has not begun, and something keeps it from that",
        holds: |facts| facts.waits(),
        next: &[(State::Checking, "nothing keeps it any more"), (State::Refused, "it never can be done")],
    },
    Row {
        state: State::Checking,
        when: "agent restore check is not done",
        holds: |facts| facts.checks(),
        next: &[
            (State::Copying, "target InPlace, with Database in scope"),
            (State::Saving, "target InPlace, without"),
            (State::Filling, "target Stack"),
            (State::Refused, "the point, the server or the rights do not allow it"),
            (State::Broken, "the Job broke off; likewise at every other step"),
        ],
    },
    Row {
        state: State::Filling,
        when: "target Stack, and its database is not filled",
        holds: |facts| facts.fills(),
        next: &[
            (State::RestoringObjects, "Bucket is in scope, or a sanitized point has objects"),
            (State::Complete, "Bucket is not"),
            (State::Refused, "the database has tables"),
        ],
    },
    Row {
        state: State::Copying,
        when: "the point is not restored beside the live database",
        holds: |facts| facts.copies(),
        next: &[(State::Migrating, "api.migrations is set"), (State::Verifying, "it is not")],
    },
    Row {
        state: State::Migrating,
        when: "the migration of the serving release did not run on the copy",
        holds: |facts| facts.migrates(),
        next: &[(State::Verifying, "the Job is complete")],
    },
    Row {
        state: State::Verifying,
        when: "the copy was not read",
        holds: |facts| facts.verifies(),
        next: &[
            (State::Saving, "the Job is complete"),
            (State::Complete, "intoSecretRef is set: nothing is switched"),
            (State::Refused, "something holds the live database, which cannot be renamed"),
        ],
    },
    Row {
        state: State::Saving,
        when: "what is live has no recovery point of this moment",
        holds: |facts| facts.saves(),
        next: &[(State::Stopping, "the recovery point is held")],
    },
    Row {
        state: State::Stopping,
        when: "the application has pods",
        holds: |facts| facts.stops(),
        next: &[(State::Switching, "no pod is left"), (State::RestoringObjects, "the same, without Database in scope")],
    },
    Row {
        state: State::Switching,
        when: "the copy is not the live database",
        holds: |facts| facts.switches(),
        next: &[(State::RestoringObjects, "Bucket is in scope"), (State::Starting, "Bucket is not")],
    },
    Row {
        state: State::RestoringObjects,
        when: "the objects of the point are not in the bucket, and are to be",
        holds: |facts| facts.restores_objects(),
        next: &[(State::Starting, "target InPlace"), (State::Complete, "target Stack")],
    },
    Row {
        state: State::Starting,
        when: "not all pods of the application serve",
        holds: |facts| facts.starts(),
        next: &[(State::Testing, "they do"), (State::Complete, "api has no pods")],
    },
    Row {
        state: State::Testing,
        when: "the application was not asked",
        holds: |facts| facts.tests(),
        next: &[(State::Complete, "it passed")],
    },
    Row { state: State::Complete, when: "nothing is left to be done", holds: |_| true, next: &[] },
];

/// The table as a Mermaid diagram, which the documentation shows.
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n    [*] --> Waiting\n");
    for row in &TABLE {
        let _ = writeln!(text, "    {}: {} ({})", row.state.as_str(), row.state.as_str(), row.when);
    }
    for row in &TABLE {
        for (next, why) in row.next {
            let _ = writeln!(text, "    {} --> {}: {why}", row.state.as_str(), next.as_str());
        }
    }
    text
}
