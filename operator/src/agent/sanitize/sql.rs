//! The user's statements, in one transaction. What a server says of a value is not repeated: it could be one that must not leave.

use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_postgres::{Client, Error, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;

use super::failed;
use super::script::Script;
use crate::agent::drill::Ended;
use crate::agent::drill::server::{NAME, Server, said};

/// A transaction has another one of these than the one before it.
const TRANSACTION: &str = "SELECT virtualxid FROM pg_locks WHERE locktype = 'virtualxid' AND pid = pg_backend_pid()";
/// A transaction that wrote nothing has none.
const WROTE: &str = "SELECT txid_current_if_assigned()";

/// Changes the restored database. Nothing is changed unless every statement succeeds.
pub(super) async fn apply(server: &Server, script: &Script, stop: &CancellationToken) -> Result<(), Ended> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Ended::Stopped),
        done = transaction(server, script) => done,
    }
}

/// What a dump holds of other servers: passwords of user mappings, and connections of subscriptions.
const CREDENTIALS: &str = "SELECT 'user mapping for ' || usename || ' of server ' || srvname FROM pg_user_mappings WHERE umoptions IS NOT NULL \
     UNION ALL SELECT 'subscription ' || subname FROM pg_subscription";

/// Refuses a database that holds credentials of other servers.
pub(super) async fn without_credentials(server: &Server, script: &Script) -> Result<(), Ended> {
    let ended = |error: Error| failed(format!("the server of the drill refuses: {}", said(&error)));
    let client = server.connect(NAME).await.map_err(ended)?;
    let messages = client.simple_query(CREDENTIALS).await.map_err(ended)?;
    let found: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    let found = found.join(", ");
    Err(failed(format!(
        "the database holds credentials of other servers, which must not leave: {found}; drop them in {} (DROP USER MAPPING, DROP \
         SUBSCRIPTION)",
        script.field
    )))
}

async fn transaction(server: &Server, Script { sql, field }: &Script) -> Result<(), Ended> {
    let ended = |error: Error| failed(format!("the server of the drill refuses: {}", said(&error)));
    let client = server.connect(NAME).await.map_err(ended)?;
    client.batch_execute("BEGIN").await.map_err(ended)?;
    let before = value(&client, TRANSACTION).await.map_err(ended)?;
    client.batch_execute(sql).await.map_err(|error| failed(of_a_statement(&error, sql, field)))?;
    // A COMMIT would keep what a later statement should have undone, and a ROLLBACK would undo all.
    if value(&client, TRANSACTION).await.map_err(ended)? != before {
        return Err(failed(format!(
            "{field} ends its transaction: leave BEGIN, COMMIT and ROLLBACK out, since all of it runs in one"
        )));
    }
    if value(&client, WROTE).await.map_err(ended)?.is_none() {
        return Err(failed(format!(
            "{field} changes nothing of the restored database, which is not sanitized then: let its statements match rows"
        )));
    }
    client.batch_execute("COMMIT").await.map_err(|error| failed(of_a_statement(&error, sql, field)))
}

async fn value(client: &Client, sql: &str) -> Result<Option<String>, Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Which statement failed, and why, without a value of a row.
fn of_a_statement(error: &Error, sql: &str, field: &str) -> String {
    let Some(error) = error.as_db_error() else {
        return "failed to sanitize: the server ended, or a statement reads from its client".to_owned();
    };
    let at = match error.position() {
        Some(ErrorPosition::Original(at)) => line(sql, *at),
        _ => None,
    };
    let at = at.map(|line| format!(" in line {line}")).unwrap_or_default();
    format!("failed to sanitize: a statement of {field} failed{at}: {}; nothing was written", why(error))
}

/// Names that are missing are those of the user's SQL (PostgreSQL documentation, appendix A: table, column, function, right); other
/// words may quote data, also those of a syntax error in a statement that was put together of rows.
fn why(error: &DbError) -> String {
    let code = error.code().code();
    if ["42P01", "42703", "42883", "42501"].contains(&code) {
        return format!("{} (SQLSTATE {code})", error.message());
    }
    let named = [("constraint", error.constraint()), ("table", error.table()), ("column", error.column())];
    let named = named.into_iter().filter_map(|(kind, name)| Some(format!(", {kind} {}", name?)));
    format!("SQLSTATE {code}{}", named.collect::<String>())
}

/// The line of a character, both counted from 1.
fn line(sql: &str, at: u32) -> Option<usize> {
    let at = usize::try_from(at).ok()?.checked_sub(1)?;
    Some(sql.chars().take(at).filter(|character| *character == '\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_told_as_its_line() {
        let lines = [0, 1, 3, 4, 9].map(|at| line("ab\ncd", at));
        assert_eq!(lines, [None, Some(1), Some(1), Some(2), Some(2)]);
    }
}
