//! The lock that keeps a dump and a migration of one database apart, and how the container that holds it reports.

use serde::{Deserialize, Serialize};

/// `agent hold-lock`: takes the lock and holds it until SIGTERM. It is for a native sidecar of a migration Job: an init container
/// with `restartPolicy: Always`, so that the migration starts only after its startup probe has succeeded.
pub const HOLD_LOCK: &str = "hold-lock";
/// `agent lock-held`: the startup probe of that sidecar. It succeeds while the lock is held, and prints why it is not.
pub const LOCK_HELD: &str = "lock-held";
/// `agent hold-lock --timeout-seconds`: how long to wait for the lock. The startup probe must allow more time than this.
pub const ARG_TIMEOUT_SECONDS: &str = "--timeout-seconds";
/// The folder of [`LOCK_FILE`]: an `emptyDir` of the sidecar.
pub const LOCK_DIRECTORY: &str = "/run/rorun";
/// The file that `agent hold-lock` writes and `agent lock-held` reads.
pub const LOCK_FILE: &str = "/run/rorun/lock.json";
/// The path of the binary in the operator's own image, which has no shell: an `exec` probe names it.
pub const OPERATOR_PATH: &str = "/rorun-operator";

/// The keys of `pg_try_advisory_lock(int, int)`, in ASCII `roru` and `lock`. PostgreSQL keeps advisory locks per database, so
/// that stacks with databases of their own never wait for each other. The pair must not change: agents of two releases would no
/// longer exclude each other.
pub const LOCK_KEYS: (i32, i32) = (0x726f_7275, 0x6c6f_636b);

/// `application_name` of the sessions of a migration, as far as its client or the server of the stack lets the Job set it. Whoever
/// holds the lock and finds such a session finds that of a migration which was ended, while its server process goes on.
pub const MIGRATION_SESSION: &str = "rorun-operator-migrates";

/// What `agent hold-lock` writes to [`super::TERMINATION_PATH`] when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LockOutcome {
    /// It held the lock until SIGTERM.
    Released,
    /// SIGTERM came before it had the lock.
    Stopped,
    /// Another session held the lock until the limit passed. The message names that session.
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
            Self::Released | Self::Stopped => None,
            Self::TimedOut { message }
            | Self::PooledConnection { message }
            | Self::Lost { message }
            | Self::Failed { message } => Some(message),
        }
    }
}
