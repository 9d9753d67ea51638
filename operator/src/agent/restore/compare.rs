//! What was restored against the numbers of the manifest, which were counted in the snapshot of the dump.

use super::error::{RestoreError, refused};
use super::maintenance::{ANSWER, WORK};
use super::sql::{is_true, literal, number, value};
use super::tables::{self, Counted};
use crate::agent::manifest::{Contents, Manifest};
use crate::contract::RestoreRefusal;
use crate::services::postgres::{QueryError, Session};

/// How many differences a message names.
const NAMED: usize = 3;
/// The SQLSTATEs of a table and of a schema that are not there.
const MISSING: [&str; 2] = ["42P01", "3F000"];

/// Refuses a database that differs from the manifest. Gives what could not be compared.
pub(super) async fn with_manifest(
    session: &Session,
    (manifest, database): (&Manifest, &str),
    counted: &Counted,
) -> Result<Vec<String>, RestoreError> {
    // Those of earlier releases have no numbers.
    let Some(contents) = &manifest.contents else { return Ok(Vec::new()) };
    let mut found = Findings::default();
    exact(session, contents, counted, &mut found).await?;
    estimated(session, contents, counted, &mut found).await?;
    views(session, contents, &mut found).await?;
    if contents.not_counted.is_none() || contents.large_objects > 0 {
        let there = session.query("SELECT count(*) FROM pg_largeobject_metadata", ANSWER).await?;
        let there = there.first().map(|row| number(row, 0)).unwrap_or_default();
        if there != contents.large_objects {
            found.wrong.push(format!("{there} large objects instead of {}", contents.large_objects));
        }
    }
    let not_counted = contents.not_counted.as_ref();
    found.hidden.extend(not_counted.map(|why| format!("not all rows are compared with the recovery point: {why}")));
    if found.wrong.is_empty() {
        return Ok(found.hidden);
    }
    let more = found.wrong.len().saturating_sub(NAMED);
    found.wrong.truncate(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let message = format!(
        "database \"{database}\" differs from the manifest of recovery point {}: {}{more}; restore another recovery point",
        manifest.id,
        found.wrong.join("; ")
    );
    Err(refused(RestoreRefusal::CopyDiffers, message))
}

/// What was found, in words.
#[derive(Debug, Default)]
struct Findings {
    wrong: Vec<String>,
    /// What the role does not see.
    hidden: Vec<String>,
}

async fn exact(
    session: &Session,
    contents: &Contents,
    counted: &Counted,
    found: &mut Findings,
) -> Result<(), RestoreError> {
    for (table, expected) in &contents.rows {
        let there = match counted.exact.get(table) {
            Some(there) => Some(*there),
            // It takes more room than it did, or another version of the server quotes its name in another way.
            None => present(tables::rows_of(session, table).await)?,
        };
        match there {
            Some(there) if there == *expected => {}
            Some(_) if hides(session, table).await? => {
                found.hidden.push(format!("the rows of {table} are not compared: its row-level security hides some"));
            }
            Some(there) => found.wrong.push(format!("{table} has {there} rows instead of {expected}")),
            None => found.wrong.push(format!("{table} is missing")),
        }
    }
    Ok(())
}

/// An estimate says only that there is something.
async fn estimated(
    session: &Session,
    contents: &Contents,
    counted: &Counted,
    found: &mut Findings,
) -> Result<(), RestoreError> {
    for (table, expected) in &contents.estimated {
        if counted.exact.get(table).is_some_and(|there| *there > 0) {
            continue;
        }
        let sql = format!("SELECT EXISTS (SELECT FROM ONLY {table})");
        match present(session.query(&sql, WORK).await)? {
            None => found.wrong.push(format!("{table} is missing")),
            Some(rows) if *expected > 0 && !rows.first().is_some_and(|row| is_true(row, 0)) => {
                if hides(session, table).await? {
                    continue;
                }
                found.wrong.push(format!("{table} has no rows instead of about {expected}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

async fn views(session: &Session, contents: &Contents, found: &mut Findings) -> Result<(), RestoreError> {
    for (view, populated) in &contents.materialized_views {
        let sql = format!("SELECT relispopulated FROM pg_class WHERE oid = to_regclass({})", literal(view));
        let rows = session.query(&sql, ANSWER).await?;
        match rows.first().and_then(|row| value(row, 0)).map(|there| there == "t") {
            Some(there) if there == *populated => {}
            Some(_) if *populated => found.wrong.push(format!("materialized view {view} is not populated")),
            Some(_) => found.wrong.push(format!("materialized view {view} is populated, and was not")),
            None => found.wrong.push(format!("materialized view {view} is missing")),
        }
    }
    Ok(())
}

/// What a statement about a table gave, or that there is no such table.
fn present<T>(answer: Result<T, QueryError>) -> Result<Option<T>, RestoreError> {
    match answer {
        Err(error) if error.code().is_some_and(|code| MISSING.contains(&code)) => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

/// Whether the role may not see all rows of a table.
async fn hides(session: &Session, table: &str) -> Result<bool, RestoreError> {
    let sql = format!("SELECT row_security_active(to_regclass({}))", literal(table));
    Ok(session.query(&sql, ANSWER).await?.first().is_some_and(|row| is_true(row, 0)))
}
