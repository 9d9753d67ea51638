//! The server as seen from a database that is not the live one: from there databases are made, renamed and dropped.

use std::time::Duration;

use super::args::TargetArgs;
use super::error::{RestoreError, refused};
use super::sql::{self, is_true, literal, text, value};
use crate::agent::authorities::Authorities;
use crate::agent::database::{self, Database};
use crate::contract::{PostgresUrl, RestoreRefusal, restore_suffix};
use crate::services::ServiceError;
use crate::services::postgres::{AdvisoryLock, LockRequest, Session};

/// What `pg_stat_activity` shows of the sessions of a restore.
pub(super) const APPLICATION: &str = "rorun-operator restore";
/// For questions about the catalogue. One may have to wait for a database that is being made.
pub(super) const ANSWER: Duration = Duration::from_mins(2);
/// For what takes as long as the database is large.
pub(super) const WORK: Duration = Duration::from_hours(6);
/// Databases that every server has, in the order of preference.
const CANDIDATES: [&str; 2] = ["postgres", "template1"];
/// The first key of the lock that keeps two runs of one restore apart, in ASCII `rres`. The second is of the restore.
const TURN: i32 = 0x7272_6573;
/// How long to wait for a dump or a migration of the live database.
pub(super) const LOCK_LIMIT: Duration = Duration::from_hours(1);
/// A run that was killed on a node that is gone is noticed late by the server.
const TURN_LIMIT: Duration = Duration::from_mins(3);

/// The server, from its maintenance database.
pub(super) struct Maintenance {
    pub(super) session: Session,
    /// The name of the live database, which may not be there.
    pub(super) live: String,
    url: PostgresUrl,
    authorities: Authorities,
    home: Database,
}

/// One database of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) oid: String,
    pub(super) comment: Option<String>,
}

impl Maintenance {
    /// Connects to the first database that is neither the live one nor one of a restore.
    pub(super) async fn open(target: &TargetArgs) -> Result<Self, RestoreError> {
        let authorities = Authorities::of_database(target.database_ca_file.as_deref())?;
        let url = parse(&target.database_url)?;
        let live = url.database().to_owned();
        let mut last = None;
        for name in CANDIDATES.into_iter().filter(|name| *name != live) {
            match database::connect(&url.with_database(name).to_string(), &authorities).await {
                Ok(home) => {
                    let session = Session::open(&home.target, APPLICATION).await?;
                    return Ok(Self { session, live, url, authorities, home });
                }
                Err(crate::agent::DumpError::Service(
                    error @ (ServiceError::AccessDenied { .. } | ServiceError::Missing { .. }),
                )) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        let why = last.map(|error| error.to_string()).unwrap_or_default();
        let message =
            format!("a restore needs another database than \"{live}\" to connect to, such as postgres: {why}");
        Err(refused(RestoreRefusal::RightsMissing, message))
    }

    /// Another session of the maintenance database.
    pub(super) async fn another(&self) -> Result<Session, RestoreError> {
        Ok(Session::open(&self.home.target, APPLICATION).await?)
    }

    /// Another database of the server, and a session in it.
    pub(super) async fn connect(&self, name: &str) -> Result<(Database, Session), RestoreError> {
        connect(&self.url.with_database(name).to_string(), &self.authorities).await
    }

    /// The version of the server.
    pub(super) fn version(&self) -> &str {
        &self.home.version
    }

    /// Waits until no other run of this restore is at work. It lasts as long as the value.
    pub(super) async fn turn(&self, uid: &str) -> Result<AdvisoryLock, RestoreError> {
        let key = i32::from_str_radix(&restore_suffix(uid), 16).unwrap_or_default();
        let request = LockRequest { keys: (TURN, key), application: APPLICATION, limit: TURN_LIMIT };
        let waits = |holder: &str| tracing::info!(holder, "another run of this restore is at work");
        Ok(AdvisoryLock::take(&self.home.target, request, waits).await?)
    }

    /// Looks for a database by its name.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Found>, RestoreError> {
        let sql = format!(
            "SELECT oid, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = {}",
            literal(name)
        );
        let rows = self.session.query(&sql, ANSWER).await?;
        Ok(rows.first().map(|row| Found { oid: text(row, 0).to_owned(), comment: value(row, 1) }))
    }

    /// The size of a database; nothing where the role may not ask.
    pub(super) async fn size(&self, name: &str) -> u64 {
        let sql = format!("SELECT pg_database_size({}::name)", literal(name));
        let rows = self.session.query(&sql, ANSWER).await.unwrap_or_default();
        rows.first().map(|row| sql::number(row, 0)).unwrap_or_default()
    }

    /// What holds a database so that it can neither be renamed nor dropped, in words.
    pub(super) async fn held(&self, name: &str) -> Result<Vec<String>, RestoreError> {
        let name = literal(name);
        let sql = format!(
            "SELECT 'replication slot \"' || slot_name || '\"' FROM pg_replication_slots WHERE database = {name} \
             UNION ALL SELECT 'subscription \"' || subname || '\"' FROM pg_subscription s JOIN pg_database d \
             ON d.oid = s.subdbid WHERE datname = {name} \
             UNION ALL SELECT 'prepared transaction \"' || gid || '\"' FROM pg_prepared_xacts WHERE database = {name}"
        );
        Ok(self.session.query(&sql, ANSWER).await?.iter().map(|row| text(row, 0).to_owned()).collect())
    }

    /// Refuses when something holds a database.
    pub(super) async fn refuse_held(&self, name: &str) -> Result<(), RestoreError> {
        let held = self.held(name).await?;
        if held.is_empty() {
            return Ok(());
        }
        let message = format!("database \"{name}\" cannot be renamed: drop {} first", held.join(" and "));
        Err(refused(RestoreRefusal::DatabaseHeld, message))
    }

    /// What the role may do with the live database.
    pub(super) async fn rights(&self) -> Result<Rights, RestoreError> {
        let sql = format!(
            "SELECT r.rolname, r.rolsuper OR r.rolcreatedb, pg_has_role(d.datdba, 'USAGE'), pg_get_userbyid(d.datdba) \
             FROM pg_database d, pg_roles r WHERE d.datname = {} AND r.rolname = current_user",
            literal(&self.live)
        );
        let rows = self.session.query(&sql, ANSWER).await?;
        let row = rows.first().ok_or_else(|| self.no_live())?;
        Ok(Rights {
            role: text(row, 0).to_owned(),
            creates: is_true(row, 1),
            owns: is_true(row, 2),
            owner: text(row, 3).to_owned(),
        })
    }

    /// The live database is not there.
    pub(super) fn no_live(&self) -> RestoreError {
        RestoreError::Failed(format!("failed to find the live database \"{}\"", self.live))
    }
}

/// What a role may do.
pub(super) struct Rights {
    pub(super) role: String,
    /// Whether it may make databases.
    pub(super) creates: bool,
    /// Whether it may do what the owner of the live database may.
    pub(super) owns: bool,
    pub(super) owner: String,
}

/// A database by its URL, and a session in it.
pub(super) async fn connect(url: &str, authorities: &Authorities) -> Result<(Database, Session), RestoreError> {
    let database = database::connect(url, authorities).await?;
    let session = Session::open(&database.target, APPLICATION).await?;
    Ok((database, session))
}

pub(super) fn parse(url: &str) -> Result<PostgresUrl, RestoreError> {
    PostgresUrl::parse(url).map_err(|error| RestoreError::Failed(format!("failed to read DIRECT_URL: the URL {error}")))
}
