//! `verify`: reads the copy, after the serving release's migration ran on it.

use super::args::StepArgs;
use super::error::{RestoreError, refused};
use super::maintenance::{ANSWER, Maintenance, connect};
use super::sql::number;
use super::{check, tables};
use crate::agent::authorities::Authorities;
use crate::agent::database::Database;
use crate::contract::{RestoreRefusal, RestoreResult, copy_database, restore_comment};
use crate::services::postgres::Session;

/// Reads every table of the copy, and refuses what a migration left half done.
pub(super) async fn verify(args: &StepArgs) -> Result<RestoreResult, RestoreError> {
    let target = &args.target;
    if let Some(url) = target.own_copy() {
        let authorities = Authorities::of_database(target.database_ca_file.as_deref())?;
        let (database, session) = connect(url, &authorities).await?;
        return read(&database, &session).await;
    }
    let server = Maintenance::open(target).await?;
    let name = copy_database(&server.live, &target.restore);
    require_copy(&server, &name, &target.restore).await?;
    let (database, session) = server.connect(&name).await?;
    let result = read(&database, &session).await?;
    Ok(RestoreResult { held: check::held(&server).await?, ..result })
}

/// Reads every table of a database.
pub(super) async fn read(database: &Database, session: &Session) -> Result<RestoreResult, RestoreError> {
    tables::refuse_broken(session, &database.name).await?;
    let counted = tables::count(session).await?;
    let size = session.query("SELECT pg_database_size(current_database())", ANSWER).await?;
    Ok(RestoreResult {
        database: Some(database.name.clone()),
        rows: Some(counted.rows),
        tables: Some(counted.tables),
        bytes: size.first().map(|row| number(row, 0)),
        ..RestoreResult::default()
    })
}

/// Refuses a copy that is not whole, or not of this restore.
pub(super) async fn require_copy(server: &Maintenance, name: &str, uid: &str) -> Result<(), RestoreError> {
    let found = server.find(name).await?;
    if found.is_some_and(|found| found.comment == Some(restore_comment(uid))) {
        return Ok(());
    }
    let message = format!("database \"{name}\" is missing, or is not a whole copy of this restore: restore again");
    Err(refused(RestoreRefusal::CopyMissing, message))
}
