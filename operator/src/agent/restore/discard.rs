//! `discard`: drops exactly one database, by the name that the user wrote, after the database itself said that this restore made or
//! kept it.

use super::args::DiscardArgs;
use super::error::{OBJECT_IN_USE, RestoreError, refused};
use super::maintenance::{ANSWER, Maintenance, WORK};
use super::sql::{self, literal, text};
use crate::contract::{RestoreRefusal, RestoreResult, begun_comment, is_of_restore, restore_comment};

/// Drops it. One that is gone was dropped by an earlier run.
pub(super) async fn discard(args: &DiscardArgs) -> Result<RestoreResult, RestoreError> {
    let (name, uid) = (&args.database, &args.target.restore);
    let server = Maintenance::open(&args.target).await?;
    let foreign =
        |why: &str| refused(RestoreRefusal::NotOfRestore, format!("database \"{name}\" is not dropped: {why}"));
    if *name == server.live {
        return Err(foreign("it is the live one"));
    }
    if !is_of_restore(name, uid) {
        return Err(foreign("this restore gives no database such a name"));
    }
    let _turn = server.turn(uid).await?;
    let result = RestoreResult { database: Some(name.clone()), ..RestoreResult::default() };
    let Some(found) = server.find(name).await? else { return Ok(result) };
    let ours = [restore_comment(uid), begun_comment(uid)];
    if !found.comment.is_some_and(|comment| ours.contains(&comment)) {
        return Err(foreign("its comment does not say that it is of this restore"));
    }
    let size = server.size(name).await;
    match server.session.query(&format!("DROP DATABASE {}", sql::name(name)), WORK).await {
        Ok(_) => Ok(RestoreResult { bytes: Some(size), ..result }),
        Err(error) if error.code() == Some(OBJECT_IN_USE) => {
            let users = users(&server, name).await?;
            let message = format!("database \"{name}\" is not dropped: {error}{users}; end them, and discard it again");
            Err(refused(RestoreRefusal::DatabaseInUse, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whose sessions use a database.
async fn users(server: &Maintenance, name: &str) -> Result<String, RestoreError> {
    let sql = format!(
        "SELECT DISTINCT quote_ident(usename) FROM pg_stat_activity WHERE datname = {} AND usename IS NOT NULL ORDER BY 1 LIMIT 3",
        literal(name)
    );
    let rows = server.session.query(&sql, ANSWER).await?;
    let users: Vec<_> = rows.iter().map(|row| text(row, 0)).collect();
    Ok(if users.is_empty() { String::new() } else { format!("; sessions of {}", users.join(", ")) })
}
