//! The lock that keeps a dump and a migration of one database apart, and how the container that holds it reports.

use serde::{Deserialize, Serialize};

/// `agent hold-lock`: takes the lock and holds it until SIGTERM. It is for a native sidecar of a migration Job: an init container
/// with `restartPolicy: Always`, so that it runs as long as the migration does.
pub const HOLD_LOCK: &str = "hold-lock";
/// `agent await-lock`: the init container between that sidecar and the migration. It ends well once the lock is held, and with
/// [`NOT_BEGUN`] once it has waited too long; [`super::TERMINATION_PATH`] has a [`LockOutcome`] then.
pub const AWAIT_LOCK: &str = "await-lock";
/// The exit code of `agent await-lock` after which the migration may be tried again: its command never ran, and what kept it from that
/// may pass by itself.
pub const NOT_BEGUN: u8 = 75;
/// `agent hold-lock --timeout-seconds` and `agent await-lock --timeout-seconds`: how long to wait for the lock.
pub const ARG_TIMEOUT_SECONDS: &str = "--timeout-seconds";
/// The folder of [`LOCK_FILE`]: an `emptyDir` of the sidecar.
pub const LOCK_DIRECTORY: &str = "/run/rorun";
/// The file that `agent hold-lock` writes and `agent await-lock` reads.
pub const LOCK_FILE: &str = "/run/rorun/lock.json";

/// The keys of `pg_try_advisory_lock(int, int)`, in ASCII `roru` and `lock`. PostgreSQL keeps advisory locks per database, so
/// that stacks with databases of their own never wait for each other. The pair must not change: agents of two releases would no
/// longer exclude each other.
pub const LOCK_KEYS: (i32, i32) = (0x726f_7275, 0x6c6f_636b);

/// `application_name` of the sessions of a migration, as far as its client or the server of the stack lets the Job set it. Whoever
/// holds the lock and finds such a session finds that of a migration which was ended, while its server process goes on.
pub const MIGRATION_SESSION: &str = "rorun-operator-migrates";

/// What `agent hold-lock` writes to [`super::TERMINATION_PATH`] when it ends, and `agent await-lock` when it waited in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LockOutcome {
    /// It held the lock until SIGTERM.
    Released,
    /// Likewise, and the database tells which migrations were applied meanwhile.
    Applied {
        /// Their names, the oldest first; of very many the last ones.
        migrations: Vec<String>,
    },
    /// SIGTERM came before it had the lock.
    Stopped,
    /// Another session holds the lock, or works for a migration that was ended. The message names that session.
    TimedOut {
        /// One line for the user.
        message: String,
    },
    /// The URL leads to a pooler, in which no lock lasts.
    PooledConnection {
        /// One line for the user.
        message: String,
    },
    /// It had the lock, and its connection ended. The kubelet restarts the container, which takes the lock again.
    Lost {
        /// One line for the user.
        message: String,
    },
    /// The database did not answer, which may pass by itself.
    Unreachable {
        /// One line for the user.
        message: String,
    },
    /// The database could not be used.
    Failed {
        /// One line for the user.
        message: String,
    },
}

impl LockOutcome {
    /// Why the lock was not held, in one line for the user. `None`: it was, or was not waited for.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Released | Self::Applied { .. } | Self::Stopped => None,
            Self::TimedOut { message }
            | Self::PooledConnection { message }
            | Self::Lost { message }
            | Self::Unreachable { message }
            | Self::Failed { message } => Some(message),
        }
    }

    /// Whether another session is in the way.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// Whether what keeps a migration from its beginning may pass by itself.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Lost { .. } | Self::Unreachable { .. })
    }
}
