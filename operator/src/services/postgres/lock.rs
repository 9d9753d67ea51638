//! A lock in the database that lasts as long as a session: an advisory lock, which no table knows of and no statement waits for.
//!
//! It is asked for again and again and never waited for: a statement that waits holds a snapshot, and `CREATE INDEX
//! CONCURRENTLY` waits for every snapshot that is older (PostgreSQL documentation, `CREATE INDEX`). A lock ends with its session,
//! so a pooler that gives each transaction another session cannot keep one: that is found out before the lock is taken.

use std::time::Duration;

use tokio::time::Instant;

use super::PostgresTarget;
use super::session::Session;
use crate::services::error::ServiceError;

/// How often the lock is asked for.
const POLL: Duration = Duration::from_secs(1);
/// How often a held lock is looked at. It also keeps the connection from being taken for idle on the way.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Which lock, for what, and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct LockRequest<'a> {
    /// The two keys of the lock.
    pub keys: (i32, i32),
    /// What `pg_stat_activity` shows as `application_name`.
    pub application: &'a str,
    /// How long to wait.
    pub limit: Duration,
}

/// Why a lock is not held.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The database cannot be used.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The URL leads to a pooler in which no session lasts.
    #[error(
        "failed to hold a lock on {subject}: DIRECT_URL leads to a pooler that shares connections between transactions: let it \
         name the server, or a pooler with pool_mode=session"
    )]
    Pooled {
        /// The service and its address.
        subject: String,
    },
    /// Another session held the lock until the limit passed.
    #[error("failed to get the lock on {subject} within {} s: {holder}", limit.as_secs())]
    TimedOut {
        /// The service and its address.
        subject: String,
        /// How long it was waited for.
        limit: Duration,
        /// Which session holds it.
        holder: String,
    },
    /// A session went on until the limit passed, which must have ended before the lock is of use.
    #[error(
        "failed to be alone on {subject} within {} s: {other}",
        limit.as_secs()
    )]
    NotAlone {
        /// The service and its address.
        subject: String,
        /// How long it was waited for.
        limit: Duration,
        /// The session, since when its statement runs, and how to end it.
        other: String,
    },
    /// The connection that held the lock ended.
    #[error("failed to keep the lock that excludes dumps and migrations from each other: {source}")]
    Lost {
        /// Why.
        source: ServiceError,
    },
}

/// The session lasts as long as its client, and no longer. PostgreSQL 14 and later may end one for being idle; older ones do not know
/// that setting. A client that is gone without a word, with its node, is noticed within 9 s, and the lock is free.
const LASTS: &str = "SELECT set_config(name, given, false) FROM pg_settings JOIN (VALUES ('idle_session_timeout', '0'), \
                     ('tcp_keepalives_idle', '3'), ('tcp_keepalives_interval', '2'), ('tcp_keepalives_count', '3')) \
                     AS settings (name, given) USING (name)";

/// A moment of the server in UTC, as Kubernetes writes one: what comes after it within `to_char(`.
const MOMENT: &str = "AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/// A held lock. Dropping it ends its session, and with it the lock.
pub struct AdvisoryLock {
    session: Session,
    keys: (i32, i32),
    /// The server process of the session: the lock is its own.
    pid: String,
}

impl std::fmt::Debug for AdvisoryLock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AdvisoryLock").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl AdvisoryLock {
    /// Takes the lock, and says each time who holds it that it cannot be had.
    pub async fn take(
        target: &PostgresTarget,
        request: LockRequest<'_>,
        mut waits: impl FnMut(&str),
    ) -> Result<Self, LockError> {
        let session = Session::open(target, request.application).await?;
        let pid = own_session(&session, target, request.application).await?;
        session.row(LASTS).await?;
        let lock = Self { session, keys: request.keys, pid };
        let started = Instant::now();
        loop {
            if lock.try_take().await? {
                lock.sign(request.application).await?;
                return Ok(lock);
            }
            let holder = lock.holder().await?;
            let Some(left) = request.limit.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(LockError::TimedOut { subject: lock.session.subject(), limit: request.limit, holder });
            };
            waits(&holder);
            tokio::time::sleep(POLL.min(left)).await;
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Waits until no session of the database has a name, and says each time which one has it. The lock is held meanwhile.
    pub async fn wait_alone(
        &self,
        application: &str,
        limit: Duration,
        mut waits: impl FnMut(&str),
    ) -> Result<(), LockError> {
        let name = application.replace('\'', "''");
        let since = format!("to_char(coalesce(query_start, backend_start) {MOMENT}");
        let other = "datname = current_database() AND pid <> pg_backend_pid()";
        let sql = format!(
            "SELECT pid, {since}, client_addr FROM pg_stat_activity WHERE {other} AND application_name = '{name}' LIMIT 1"
        );
        let started = Instant::now();
        loop {
            let row = self.session.row(&sql).await?;
            let Some(pid) = value(&row, 0) else { return Ok(()) };
            let (from, since) = (said("from", value(&row, 2)), said("since", value(&row, 1)));
            let other = format!(
                "session {pid} of a migration that was ended still runs{from}{since}; end it with SELECT pg_terminate_backend({pid})"
            );
            let Some(left) = limit.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(LockError::NotAlone { subject: self.session.subject(), limit, other });
            };
            waits(&other);
            tokio::time::sleep(POLL.min(left)).await;
        }
    }

    /// Waits until the lock is lost, and says why. It may be called again after it was dropped.
    pub async fn lost(&mut self) -> LockError {
        loop {
            tokio::select! {
                biased;
                source = self.session.ended() => return LockError::Lost { source },
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            if let Err(error) = self.check().await {
                return error;
            }
        }
    }

    /// Gives the lock back. What goes wrong ends the session, and with it the lock.
    pub async fn release(self) {
        let (one, two) = self.keys;
        let sql = format!("CASE WHEN pg_backend_pid() = {} THEN pg_advisory_unlock({one}, {two}) END", self.pid);
        if let Err(error) = self.session.row(&format!("SELECT {sql}")).await {
            tracing::warn!(%error, "the lock ends with its connection");
        }
    }

    /// Only in the session that was found to last: in another one the lock would stay behind, held by nobody who knows of it.
    async fn try_take(&self) -> Result<bool, LockError> {
        let ((one, two), pid) = (self.keys, &self.pid);
        let taken = format!("CASE WHEN pg_backend_pid() = {pid} THEN pg_try_advisory_lock({one}, {two}) END");
        let row = self.session.row(&format!("SELECT pg_backend_pid(), {taken}")).await?;
        self.same_session(&row)?;
        Ok(value(&row, 1) == Some("t"))
    }

    /// Shows in `pg_stat_activity` since when the lock is held, by the clock of the server.
    async fn sign(&self, application: &str) -> Result<(), LockError> {
        let name = format!("'{} since ' || to_char(now() {MOMENT}", application.replace('\'', "''"));
        let sql = format!("SELECT pg_backend_pid(), set_config('application_name', {name}, false)");
        self.same_session(&self.session.row(&sql).await?)
    }

    /// Who holds the lock. `application_name` may be anything that whoever may log in writes, so only plain characters of it are
    /// repeated. From where and since when a session of another role is connected is for those with `pg_read_all_stats` to see.
    async fn holder(&self) -> Result<String, LockError> {
        let sessions = "pg_locks l LEFT JOIN pg_stat_activity a USING (pid)";
        let since = format!("to_char(a.backend_start {MOMENT}");
        let columns = format!("pid, a.client_addr, {since}, a.application_name");
        let sql = format!("SELECT {columns} FROM {sessions} WHERE l.granted AND {}", self.is_ours());
        let row = self.session.row(&format!("{sql} LIMIT 1")).await?;
        let Some(pid) = value(&row, 0) else { return Ok("another session holds it".to_owned()) };
        let plain = |c: &char| c.is_ascii_alphanumeric() || " -_.:/".contains(*c);
        let name: String = value(&row, 3).unwrap_or_default().chars().filter(plain).take(63).collect();
        let name = if name.is_empty() { "without application_name" } else { &name };
        let connected = said("from", value(&row, 1)) + &said("since", value(&row, 2));
        let connected = if connected.is_empty() { connected } else { format!(", connected{connected}") };
        Ok(format!("session {pid} ({name}) holds it{connected}"))
    }

    /// The rows of `pg_locks` that are about this lock. Two keys of 32 bits are told from one of 64 by `objsubid`.
    fn is_ours(&self) -> String {
        let (one, two) = self.keys;
        let database = "l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        format!("l.locktype = 'advisory' AND {database} AND l.classid = {one} AND l.objid = {two} AND l.objsubid = 2")
    }

    async fn check(&self) -> Result<(), LockError> {
        let held =
            format!("SELECT FROM pg_locks l WHERE l.granted AND l.pid = pg_backend_pid() AND {}", self.is_ours());
        let row = self.session.row(&format!("SELECT pg_backend_pid(), EXISTS ({held})")).await;
        let row = row.map_err(|source| LockError::Lost { source })?;
        self.same_session(&row)?;
        if value(&row, 1) == Some("t") {
            return Ok(());
        }
        Err(LockError::Lost { source: super::other(&self.session.subject(), "it no longer lists the lock") })
    }

    fn same_session(&self, row: &[Option<String>]) -> Result<(), LockError> {
        if value(row, 0) == Some(&*self.pid) {
            return Ok(());
        }
        Err(LockError::Pooled { subject: self.session.subject() })
    }
}

/// What a column says; nothing if it may not be seen.
fn said(what: &str, value: Option<&str>) -> String {
    value.map(|value| format!(" {what} {value}")).unwrap_or_default()
}

fn value(row: &[Option<String>], column: usize) -> Option<&str> {
    row.get(column)?.as_deref()
}

/// The server process of a session, which keeps it for itself: while another session of the same URL is in a transaction, a
/// pooler that shares processes between transactions gives it this process, or gives this session another one.
async fn own_session(session: &Session, target: &PostgresTarget, application: &str) -> Result<String, LockError> {
    const PID: &str = "SELECT pg_backend_pid()";
    let pid_of = async |session: &Session, sql: &str| -> Result<String, LockError> {
        let row = session.row(sql).await?;
        value(&row, 0).map(str::to_owned).ok_or_else(|| super::other(&session.subject(), "it has no process id").into())
    };
    let pid = pid_of(session, PID).await?;
    let other = Session::open(target, application).await?;
    let in_transaction = pid_of(&other, &format!("BEGIN; {PID}")).await?;
    // A pooler with a single connection would not answer the second question before the transaction ends.
    let mut shared = in_transaction == pid || pid_of(session, PID).await? != pid;
    other.row("COMMIT").await?;
    // One that takes its connections in turn had this one left while the other was in use.
    for _ in 0..2 {
        shared = shared || pid_of(session, PID).await? != pid;
    }
    if shared { Err(LockError::Pooled { subject: session.subject() }) } else { Ok(pid) }
}
