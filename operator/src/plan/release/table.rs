//! The steps of a release as a table: the first row that holds is the state.

use std::fmt::Write as _;

use super::facts::Facts;

/// How far a release is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The spec is what serves.
    #[default]
    Serving,
    /// The rollout was given up, and the last good release serves.
    RolledBack,
    /// Somebody has to approve it.
    AwaitingApproval,
    /// Its migration failed.
    MigrationFailed,
    /// A restore changes the data, and the release goes on afterwards.
    Restoring,
    /// The stack hibernates, and the release goes on when it wakes.
    Hibernating,
    /// Its recovery point is found or made.
    BackingUp,
    /// Its recovery point could not be made.
    RecoveryPointFailed,
    /// Its migration runs.
    Migrating,
    /// Its migration has not begun, since another session holds the lock of the database.
    MigrationLocked,
    /// Its candidates start, or are asked.
    Testing,
    /// Its candidates did not pass their tests.
    SmokeTestFailed,
    /// The Deployments are changed, and not all pods are of it yet.
    RollingOut,
    /// All pods are of it, and the smoke tests ask them.
    Verifying,
}

impl State {
    /// As status and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "Serving",
            Self::RolledBack => "RolledBack",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::MigrationFailed => "MigrationFailed",
            Self::Restoring => "Restoring",
            Self::Hibernating => "Hibernating",
            Self::BackingUp => "BackingUp",
            Self::RecoveryPointFailed => "RecoveryPointFailed",
            Self::Migrating => "Migrating",
            Self::MigrationLocked => "MigrationLocked",
            Self::Testing => "Testing",
            Self::SmokeTestFailed => "SmokeTestFailed",
            Self::RollingOut => "RollingOut",
            Self::Verifying => "Verifying",
        }
    }

    /// Whether no pod of the release may run yet, because it waits for somebody, for its recovery point or for its migration.
    pub(super) fn comes_before_pods(self) -> bool {
        matches!(
            self,
            Self::AwaitingApproval
                | Self::BackingUp
                | Self::RecoveryPointFailed
                | Self::Migrating
                | Self::MigrationLocked
                | Self::MigrationFailed
        )
    }

    /// Whether a migration runs, or is to.
    pub fn migrates(self) -> bool {
        matches!(self, Self::Migrating | Self::MigrationLocked)
    }

    /// Whether its pods have a time to become ready in.
    pub(super) fn has_a_clock(self) -> bool {
        matches!(self, Self::Testing | Self::RollingOut)
    }

    /// Whether what is amiss with something else is kept with the revision, so that its clock stands and its smoke tests are asked anew.
    pub(super) fn is_excused(self) -> bool {
        self.has_a_clock() || self == Self::Verifying
    }

    /// Whether the release has begun, so that it holds other operations: its recovery point is made, its migration or its
    /// candidates run, its Deployments change, or its pods are tested. One that waits for approval, failed or was rolled back
    /// holds nobody.
    pub fn has_begun(self) -> bool {
        self.migrates() || matches!(self, Self::BackingUp | Self::Testing | Self::RollingOut | Self::Verifying)
    }
}

/// Which revision the Deployments get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// That of the spec.
    #[default]
    Target,
    /// The last one that served.
    LastGood,
    /// None: they are left as they are, or are not made yet.
    Unchanged,
}

/// A row: the state, when it holds, which revision the Deployments get, and what comes next.
pub struct Row {
    /// The state.
    pub state: State,
    /// When it holds, in words.
    pub when: &'static str,
    /// Whether it holds, if no row before does.
    pub(super) holds: fn(&Facts) -> bool,
    /// Which revision the Deployments get. Where no revision ever served, `LastGood` leaves them as they are.
    pub pick: Pick,
    /// The states that may follow while the spec stays as it is, and what leads to each.
    pub next: &'static [(State, &'static str)],
}

/// The steps of a release.
pub static TABLE: [Row; 14] = [
    Row {
        state: State::Serving,
        when: "every pod is of the revision that the spec asks for",
        holds: Facts::rests,
        pick: Pick::Target,
        next: &[],
    },
    Row {
        state: State::RolledBack,
        when: "the pods did not become ready within progressDeadlineSeconds, or did not pass their smoke tests",
        holds: Facts::is_rolled_back,
        pick: Pick::LastGood,
        next: &[(State::RollingOut, "rorun.app/retry has a new value")],
    },
    Row {
        state: State::AwaitingApproval,
        when: "release.approval is Required, and the images never served",
        holds: Facts::lacks_approval,
        pick: Pick::LastGood,
        next: &[
            (State::BackingUp, "rorun.app/approve is the hash of the release"),
            (State::Migrating, "the same, and no recovery point is needed"),
            (State::Testing, "the same, no migration is needed, and a candidate is to be tested"),
            (State::RollingOut, "the same, and nothing else is needed"),
        ],
    },
    Row {
        state: State::MigrationFailed,
        when: "the Job of the migration failed",
        holds: Facts::migration_failed,
        pick: Pick::LastGood,
        next: &[
            (State::Migrating, "rorun.app/retry has a new value"),
            (State::BackingUp, "the same, and its recovery point has become too old"),
        ],
    },
    Row {
        state: State::RecoveryPointFailed,
        when: "the Job that makes the recovery point failed",
        holds: Facts::recovery_point_failed,
        pick: Pick::LastGood,
        next: &[
            (State::BackingUp, "rorun.app/retry has a new value"),
            (State::Migrating, "rorun.app/skip-recovery-point is the hash of the release"),
        ],
    },
    Row {
        state: State::SmokeTestFailed,
        when: "a candidate did not pass its tests, or did not become ready within progressDeadlineSeconds",
        holds: Facts::smoke_test_failed,
        pick: Pick::LastGood,
        next: &[(State::Testing, "rorun.app/retry has a new value")],
    },
    Row {
        state: State::Restoring,
        when: "a restore goes on",
        holds: Facts::is_interrupted,
        pick: Pick::LastGood,
        next: &[
            (State::BackingUp, "the restore has ended, and a recovery point is needed"),
            (State::Migrating, "the restore has ended, and the images never served"),
            (State::MigrationLocked, "the restore has ended, and another session still holds the lock"),
            (State::Testing, "the restore has ended, and a candidate is to be tested"),
            (State::RollingOut, "the restore has ended"),
        ],
    },
    Row {
        state: State::Hibernating,
        when: "the stack hibernates",
        holds: Facts::hibernates,
        pick: Pick::LastGood,
        next: &[
            (State::BackingUp, "the stack wakes, and a recovery point is needed"),
            (State::Migrating, "the stack wakes, and the images never served"),
            (State::MigrationLocked, "the stack wakes, and another session still holds the lock"),
            (State::Testing, "the stack wakes, and a candidate is to be tested"),
            (State::RollingOut, "the stack wakes"),
        ],
    },
    Row {
        state: State::BackingUp,
        when: "a migration is to run in Production",
        holds: Facts::backs_up,
        pick: Pick::LastGood,
        next: &[
            (State::Migrating, "a good backup that is young enough is held"),
            (State::RecoveryPointFailed, "the Job failed"),
        ],
    },
    Row {
        state: State::MigrationLocked,
        when: "the migration has not begun, since another session holds the lock of the database",
        holds: Facts::is_locked,
        pick: Pick::LastGood,
        next: &[
            (State::Migrating, "the lock is free, or the next Job finds something else in the way"),
            (State::Testing, "the lock was free, and the Job is complete already"),
            (State::RollingOut, "the same, and no candidate is wanted"),
            (State::MigrationFailed, "the lock was free, and the Job has failed already"),
        ],
    },
    Row {
        state: State::Migrating,
        when: "api.migrations is set, and the images never served these data",
        holds: Facts::migrates,
        pick: Pick::LastGood,
        next: &[
            (State::Testing, "the Job is complete, and something serves"),
            (State::RollingOut, "the Job is complete, and no candidate is wanted"),
            (State::Serving, "the Job is complete, and the images served other data before"),
            (State::MigrationFailed, "the Job failed"),
            (
                State::MigrationLocked,
                "the Job waits for the lock, or waited in vain: its command never ran, and another is made",
            ),
        ],
    },
    Row {
        state: State::Testing,
        when: "an image never served, and its workload wants a candidate",
        holds: Facts::tests,
        pick: Pick::LastGood,
        next: &[
            (State::RollingOut, "the Job of the smoke tests is complete"),
            (
                State::SmokeTestFailed,
                "the Job failed and the release is at fault, or a candidate does not become ready",
            ),
        ],
    },
    Row {
        state: State::Verifying,
        when: "every pod is of the revision, and a smoke test is to ask them",
        holds: Facts::verifies,
        pick: Pick::Target,
        next: &[
            (State::Serving, "the Job of the smoke tests is complete"),
            (State::RolledBack, "the Job failed, and the release is at fault or has had its time"),
        ],
    },
    Row {
        state: State::RollingOut,
        when: "nothing is left to be done before",
        holds: |_| true,
        pick: Pick::Target,
        next: &[
            (State::Serving, "every pod is of the revision, and no smoke test asks them"),
            (State::Verifying, "every pod is of the revision"),
            (State::RolledBack, "progressDeadlineSeconds have passed, and the release is at fault"),
        ],
    },
];

/// The table as a Mermaid diagram, which the documentation shows.
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n");
    for row in &TABLE {
        let _ = writeln!(text, "    {}: {} ({})", row.state.as_str(), row.state.as_str(), row.when);
    }
    for state in [State::AwaitingApproval, State::BackingUp, State::Migrating, State::Testing, State::RollingOut] {
        let _ = writeln!(text, "    Serving --> {}: the spec changes", state.as_str());
    }
    for row in &TABLE {
        for (next, why) in row.next {
            let _ = writeln!(text, "    {} --> {}: {why}", row.state.as_str(), next.as_str());
        }
    }
    text
}
