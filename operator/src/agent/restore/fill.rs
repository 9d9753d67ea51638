//! `fill`: the dump into a database that is there already and empty, in one transaction.
//!
//! The comment of the database says before it begins that this restore fills it. So a run that finds rows knows whose they are: a
//! transaction leaves all of them or none.

use tokio_util::sync::CancellationToken;

use super::args::StepArgs;
use super::error::{RestoreError, refused};
use super::maintenance::{ANSWER, APPLICATION, LOCK_LIMIT, connect};
use super::point::{self, Point, PointDump};
use super::sql::{self, literal, number, text, value};
use super::{check, compare, tables, unless_stopped};
use crate::agent::authorities::Authorities;
use crate::agent::database::Database;
use crate::agent::exclusion;
use crate::agent::pg_restore::{self, Kind, PgRestoreError, Restored};
use crate::contract::{LOCK_KEYS, RestoreRefusal, RestoreResult, filled_comment, is_of_another_seed};
use crate::services::postgres::{LockRequest, Session};

/// Roles are those of another server, so that what is restored belongs to whoever restores it.
const ARGUMENTS: [&str; 4] = [pg_restore::ONE_TRANSACTION, "--no-owner", "--no-privileges", "--no-subscriptions"];

/// Restores the point into the stack's own database.
pub(super) async fn fill(args: &StepArgs, stop: &CancellationToken) -> Result<RestoreResult, RestoreError> {
    let point = unless_stopped(stop, point::load(&args.point)).await?;
    let dump = unless_stopped(stop, point.dump(args)).await?;
    Box::pin(into(args, &args.target.database_url, (&point, &dump), stop)).await
}

/// Restores the point into the database of a URL.
pub(super) async fn into(
    args: &StepArgs,
    url: &str,
    (point, dump): (&Point, &PointDump<'_>),
    stop: &CancellationToken,
) -> Result<RestoreResult, RestoreError> {
    let authorities = Authorities::of_database(args.target.database_ca_file.as_deref())?;
    let (database, session) = unless_stopped(stop, connect(url, &authorities)).await?;
    check::versions(point, &database.version).await?;
    let request = LockRequest { keys: LOCK_KEYS, application: APPLICATION, limit: LOCK_LIMIT };
    let mut lock = exclusion::require(&database.target, request, stop).await.ok_or(RestoreError::Stopped)??;
    let comment = filled_comment(&args.target.restore);
    let mut warnings = if unless_stopped(stop, is_filled(&session, &comment)).await? {
        Vec::new()
    } else {
        unless_stopped(stop, sign(&session, &database.name, &comment)).await?;
        let end = stop.child_token();
        lock.during(Box::pin(restore(&database, dump, &end)), &end).await?.understood
    };
    lock.release().await;
    let counted = unless_stopped(stop, tables::count(&session)).await?;
    let compared = compare::with_manifest(&session, (&point.manifest, database.name.as_str()), &counted);
    warnings.extend(unless_stopped(stop, compared).await?);
    let size = session.query("SELECT pg_database_size(current_database())", ANSWER).await?;
    Ok(RestoreResult {
        database: Some(database.name),
        rows: Some(counted.rows),
        tables: Some(counted.tables),
        bytes: size.first().map(|row| number(row, 0)),
        warnings,
        ..RestoreResult::default()
    })
}

/// Whether this restore has filled the database. Refuses one with data of somebody else.
async fn is_filled(session: &Session, comment: &str) -> Result<bool, RestoreError> {
    let sql =
        "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()";
    let rows = session.query(sql, ANSWER).await?;
    let there = rows.first().and_then(|row| value(row, 1)).unwrap_or_default();
    let ours = there == comment;
    let found = tables::data(session).await?;
    if found.is_empty() || ours {
        return Ok(ours && !found.is_empty());
    }
    let name = rows.first().map(|row| text(row, 0)).unwrap_or_default();
    if is_of_another_seed(&there, comment) {
        let message = format!(
            "database \"{name}\" was filled for another spec.seedFrom.location of this stack: to begin anew, delete the stack with its \
             data, or name the former location"
        );
        return Err(refused(RestoreRefusal::NotOfRestore, message));
    }
    let message = format!(
        "database \"{name}\" is to be filled and is not empty: it has {}; name an empty database, or restore in place",
        found.join(", ")
    );
    Err(refused(RestoreRefusal::DataFound, message))
}

async fn sign(session: &Session, database: &str, comment: &str) -> Result<(), RestoreError> {
    let sql = format!("COMMENT ON DATABASE {} IS {}", sql::name(database), literal(comment));
    session.query(&sql, ANSWER).await.map(drop).map_err(|error| match RestoreError::from(error) {
        RestoreError::Refused { reason: RestoreRefusal::RightsMissing, message } => {
            let name = sql::name(database);
            let way_out = format!("{message}: ALTER DATABASE {name} OWNER TO that role");
            refused(RestoreRefusal::RightsMissing, way_out)
        }
        error => error,
    })
}

async fn restore(
    database: &Database,
    dump: &PointDump<'_>,
    stop: &CancellationToken,
) -> Result<Restored, RestoreError> {
    let error = match dump.restore(&database.environment, &ARGUMENTS, stop).await {
        Err(PgRestoreError::Said { kind: Kind::Rights, said }) if said.contains("(COMMENT ON EXTENSION ") => said,
        result => return Ok(result?),
    };
    // The extension was there before, and has a comment. One transaction goes on after no error, so it begins anew without any.
    let arguments: Vec<_> = ARGUMENTS.into_iter().chain(["--no-comments"]).collect();
    let mut restored = dump.restore(&database.environment, &arguments, stop).await?;
    restored.understood.push(format!("comments are not restored: {error}"));
    Ok(restored)
}
