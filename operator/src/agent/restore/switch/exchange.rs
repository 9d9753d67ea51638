//! The transaction that renames.

use std::time::Duration;

use super::super::error::{INSUFFICIENT_PRIVILEGE, OBJECT_IN_USE, RestoreError, refused};
use super::super::maintenance::{ANSWER, Maintenance};
use super::super::settings::Settings;
use super::super::sql::{self, literal, text};
use super::Names;
use crate::contract::RestoreRefusal;
use crate::services::postgres::{QueryError, Session};

/// How often sessions are ended while a renaming waits. PostgreSQL gives them 5 s (`CountOtherDBBackends`).
const POLL: Duration = Duration::from_millis(50);
/// How often the transaction is tried, when a session does not end in time.
const ATTEMPTS: u32 = 3;

/// Renames the live database, unless it has its new name, and the copy.
pub(super) async fn exchange(server: &Maintenance, names: &Names, rename_live: bool) -> Result<(), RestoreError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        // A session of its own: whatever goes wrong ends it, and with it the transaction.
        let session = server.another().await?;
        match transaction(server, &session, names, rename_live).await {
            Ok(()) => return Ok(()),
            Err(Broken::InUse(error)) => last = Some(error),
            Err(Broken::Other(error)) => return Err(error),
        }
    }
    let why = last.map(|error| error.to_string()).unwrap_or_default();
    let message = format!("failed to rename database \"{}\": its sessions do not end: {why}", names.live);
    Err(RestoreError::Failed(message))
}

/// Why a transaction was not committed.
enum Broken {
    /// A session did not end in time.
    InUse(QueryError),
    Other(RestoreError),
}

impl<E: Into<RestoreError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

async fn transaction(server: &Maintenance, session: &Session, names: &Names, rename_live: bool) -> Result<(), Broken> {
    let Names { live, copy, kept, comment } = names;
    session.query("BEGIN", ANSWER).await?;
    if rename_live {
        rename(server, session, live, kept).await?;
    }
    // Of what nobody else can change any more.
    Settings::read(session, kept).await?.give(session, copy).await?;
    let said = session.query(&comment_of(kept), ANSWER).await?;
    let said = said.first().and_then(|row| sql::value(row, 0)).filter(|said| rename_live && said != comment);
    rename(server, session, copy, live).await?;
    let said = said.map_or("NULL".to_owned(), |said| literal(&said));
    let comments = [(kept, literal(comment)), (live, said)];
    for (name, comment) in comments {
        session.query(&format!("COMMENT ON DATABASE {} IS {comment}", sql::name(name)), ANSWER).await?;
    }
    if let Err(error) = session.query("COMMIT", ANSWER).await {
        // Perhaps only the answer was lost.
        return if matches!(super::state(server, names).await, Ok(super::State::Done)) {
            Ok(())
        } else {
            Err(error.into())
        };
    }
    Ok(())
}

fn comment_of(name: &str) -> String {
    format!("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = {}", literal(name))
}

/// Renames a database, and ends its sessions once no new one can begin.
async fn rename(server: &Maintenance, session: &Session, from: &str, to: &str) -> Result<(), Broken> {
    let Some(found) = server.find(from).await? else {
        return Err(RestoreError::Failed(format!("failed to find database \"{from}\"")).into());
    };
    let pid = session.query("SELECT pg_backend_pid()", ANSWER).await?;
    let pid = pid.first().map(|row| text(row, 0).to_owned()).unwrap_or_default();
    let statement = format!("ALTER DATABASE {} RENAME TO {}", sql::name(from), sql::name(to));
    let renaming = session.query(&statement, ANSWER);
    tokio::pin!(renaming);
    let renamed = loop {
        tokio::select! {
            biased;
            renamed = &mut renaming => break renamed,
            () = tokio::time::sleep(POLL) => end_sessions(server, (from, &found.oid), &pid).await?,
        }
    };
    match renamed {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(OBJECT_IN_USE) => Err(Broken::InUse(error)),
        Err(error) if error.code() == Some(INSUFFICIENT_PRIVILEGE) => {
            let message = format!("{error}: let the role of DIRECT_URL own database \"{from}\" and make databases");
            Err(refused(RestoreRefusal::RightsMissing, message).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends the sessions of a database, if the process that renames it holds its lock: before, others would take their place.
/// Workers of autovacuum have no role, and end by themselves.
async fn end_sessions(server: &Maintenance, (name, oid): (&str, &str), renamer: &str) -> Result<(), RestoreError> {
    let sql = format!(
        "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.datid = {oid} AND a.usesysid IS NOT NULL \
         AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = {renamer} AND l.locktype = 'object' AND l.granted \
         AND l.classid = 'pg_database'::regclass AND l.objid = {oid} AND l.mode = 'AccessExclusiveLock')"
    );
    server.session.query(&sql, ANSWER).await.map(drop).map_err(|error| {
        if error.code() != Some(INSUFFICIENT_PRIVILEGE) {
            return error.into();
        }
        let message = format!(
            "{error}: the role of DIRECT_URL may not end all sessions of database \"{name}\": end those of superusers, and grant it \
             pg_signal_backend"
        );
        refused(RestoreRefusal::RightsMissing, message)
    })
}
