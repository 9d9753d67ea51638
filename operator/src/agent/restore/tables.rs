//! What is in a database: whether it is empty, and how many rows its tables have.

use std::collections::BTreeMap;

use super::error::{RestoreError, refused};
use super::maintenance::{ANSWER, WORK};
use super::sql::{number, text, value};
use crate::contract::RestoreRefusal;
use crate::services::postgres::{QueryError, Session};

/// Relations of users, without those that belong to an extension.
const RELATIONS: &str = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' \
     AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend d \
     WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";
/// Larger tables are estimated, not counted.
const COUNTED_BELOW: u64 = 1 << 30;

/// The rows and tables of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) tables: u64,
    pub(super) rows: u64,
    /// The rows of the tables that were counted, by quoted names.
    pub(super) exact: BTreeMap<String, u64>,
}

/// The first things that somebody put there: relations and large objects.
pub(super) async fn data(session: &Session) -> Result<Vec<String>, RestoreError> {
    let name = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)";
    let sql = format!(
        "(SELECT {name} {RELATIONS} AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') ORDER BY 1 LIMIT 3) \
         UNION ALL (SELECT 'large object ' || oid FROM pg_largeobject_metadata ORDER BY 1 LIMIT 1)"
    );
    Ok(session.query(&sql, ANSWER).await?.iter().map(|row| text(row, 0).to_owned()).collect())
}

/// Reads every table.
pub(super) async fn count(session: &Session) -> Result<Counted, RestoreError> {
    let name = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)";
    let sql = format!(
        "SELECT {name}, pg_relation_size(c.oid), greatest(c.reltuples, 0)::bigint {RELATIONS} AND c.relkind = 'r' ORDER BY 1"
    );
    let mut counted = Counted::default();
    for table in session.query(&sql, ANSWER).await? {
        counted.tables += 1;
        counted.rows += if number(&table, 1) < COUNTED_BELOW {
            let rows = rows_of(session, text(&table, 0)).await?;
            counted.exact.insert(text(&table, 0).to_owned(), rows);
            rows
        } else {
            number(&table, 2)
        };
    }
    Ok(counted)
}

/// Counts the rows of a table by its quoted name.
pub(super) async fn rows_of(session: &Session, table: &str) -> Result<u64, QueryError> {
    let rows = session.query(&format!("SELECT count(*) FROM ONLY {table}"), WORK).await?;
    Ok(rows.first().map(|row| number(row, 0)).unwrap_or_default())
}

/// Refuses a database in which a migration left something half done.
pub(super) async fn refuse_broken(session: &Session, database: &str) -> Result<(), RestoreError> {
    let differs = |what: String| refused(RestoreRefusal::CopyDiffers, format!("database \"{database}\": {what}"));
    let sql = format!(
        "SELECT i.indexrelid::regclass FROM pg_index i JOIN (SELECT c.oid {RELATIONS}) c ON c.oid = i.indexrelid \
         WHERE NOT (i.indisvalid AND i.indisready) LIMIT 1"
    );
    if let Some(row) = session.query(&sql, ANSWER).await?.first() {
        return Err(differs(format!("index {} is not valid", text(row, 0))));
    }
    // Prisma keeps its migrations in a table of this name and with these columns.
    let sql = format!(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) {RELATIONS} AND c.relname = '_prisma_migrations' AND 3 = \
         (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname IN ('finished_at', 'rolled_back_at', \
         'migration_name'))"
    );
    for table in session.query(&sql, ANSWER).await? {
        let sql = format!(
            "SELECT migration_name FROM {} WHERE finished_at IS NULL AND rolled_back_at IS NULL LIMIT 1",
            text(&table, 0)
        );
        if let Some(migration) = session.query(&sql, ANSWER).await?.first().and_then(|row| value(row, 0)) {
            return Err(differs(format!("migration {migration} did not finish")));
        }
    }
    Ok(())
}
