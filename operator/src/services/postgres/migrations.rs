//! Which migrations a database has, as far as the tool that applied them keeps a list: Prisma does.

use std::time::Duration;

use super::{AdvisoryLock, Session};
use crate::services::error::ServiceError;

/// The lists of Prisma: one in each schema that it migrates.
const LISTS: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c \
                     JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE c.relkind = 'r' AND c.relname = '_prisma_migrations' AND n.nspname !~ '^pg_' ORDER BY 1 LIMIT 16";
/// How long an answer may take: by the server, and in all.
const WITHIN: (&str, Duration) = ("3s", Duration::from_secs(5));
/// How many characters of a name are told.
const LONGEST_NAME: usize = 100;

impl AdvisoryLock {
    /// The names of the migrations that are applied, the oldest first.
    pub async fn migrations(&self) -> Result<Vec<String>, ServiceError> {
        let read = migrations(self.session()).await;
        if read.is_err() {
            // Ends the transaction that failed: the lock is none of it.
            self.session().rows("ROLLBACK", WITHIN.1).await?;
        }
        read
    }
}

async fn migrations(session: &Session) -> Result<Vec<String>, ServiceError> {
    let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = '{}'", WITHIN.0);
    session.rows(&begin, WITHIN.1).await?;
    let mut names = Vec::new();
    for list in first_column(session.rows(LISTS, WITHIN.1).await?) {
        let finished = "finished_at IS NOT NULL AND rolled_back_at IS NULL ORDER BY finished_at, migration_name";
        let sql = format!("SELECT migration_name FROM {list} WHERE {finished}");
        names.extend(first_column(session.rows(&sql, WITHIN.1).await?).map(|name| plain(&name)));
    }
    session.rows("COMMIT", WITHIN.1).await?;
    Ok(names)
}

fn first_column(rows: Vec<Vec<Option<String>>>) -> impl Iterator<Item = String> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten())
}

/// A name is for a status: whoever may write the database may have written anything there.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(LONGEST_NAME).collect()
}
