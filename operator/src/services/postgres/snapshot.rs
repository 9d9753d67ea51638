//! A transaction that keeps one state of the database in sight, for as long as it is open, and lends it to `pg_dump`.

use std::time::Duration;

use super::session::Session;
use super::{PostgresTarget, other};
use crate::services::error::ServiceError;

/// Settings of a server or a role that could end the transaction before the dump has ended.
const LIMITS: &str = "'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout', \
                      'idle_session_timeout'";

/// An exported snapshot. Dropping it ends its transaction.
pub struct Snapshot {
    session: Session,
    id: String,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Snapshot").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Exports the present state. A role with no connection to spare after this one gets none: `pg_dump` needs it more.
    pub async fn export(target: &PostgresTarget, application: &str) -> Result<Self, ServiceError> {
        let session = Session::open(target, application).await?;
        let spare = Session::open(target, application).await?;
        drop(spare);
        session.row("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // As pg_dump has it: a policy that hides rows fails the question instead of giving a wrong answer.
        session.row("SET LOCAL row_security = off").await?;
        session.row(&format!("SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ({LIMITS})")).await?;
        let row = session.row("SELECT pg_export_snapshot()").await?;
        let id = row.into_iter().next().flatten();
        let id = id.ok_or_else(|| other(&session.subject(), "it exports no snapshot"))?;
        Ok(Self { session, id })
    }

    /// What `pg_dump --snapshot` takes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The rows that a question gives. One that fails leaves the transaction, and what others ask in it, as it was.
    pub async fn rows(&self, sql: &str, within: Duration) -> Result<Vec<Vec<Option<String>>>, ServiceError> {
        self.session.row("SAVEPOINT question").await?;
        let rows = self.session.rows(sql, within).await;
        let end = if rows.is_ok() { "RELEASE question" } else { "ROLLBACK TO question" };
        self.session.row(end).await?;
        rows
    }
}
