//! A role and a database of its own, made by the master of a server: what is missing is made, and nothing that is there is changed.

use std::time::Duration;

use postgres_protocol::password::scram_sha_256;

use super::session::Session;
use super::{PostgresTarget, check};
use crate::services::error::ServiceError;

/// What `pg_stat_activity` shows of the sessions.
const APPLICATION: &str = "rorun-operator provision";
const CONNECT: Duration = Duration::from_secs(15);

/// A role that is to log in to a database of its own.
pub struct Login<'a> {
    /// The name of the role.
    pub role: &'a str,
    /// Its password.
    pub password: &'a str,
    /// The database.
    pub database: &'a str,
}

/// Why the role cannot use its database.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The server cannot be used as its master.
    #[error("failed to log in as the master: {0}")]
    Master(#[source] ServiceError),
    /// The server refused a step.
    #[error("failed to {step}: {source}")]
    Step {
        /// What was asked for.
        step: String,
        /// Why.
        source: ServiceError,
    },
    /// The role was there before, or its database, and they do not fit.
    #[error(
        "failed to log in as the role {role}, which was there before and is left as it is: {source}; give it the password of the Secret with ALTER ROLE"
    )]
    Role {
        /// The role.
        role: String,
        /// Why.
        source: ServiceError,
    },
    /// The database was there before, and belongs to another role.
    #[error(
        "the role {role} may not create schemas and tables in the database {database}, which was there before and belongs to {owner}: make it the owner with ALTER DATABASE, or give the database another name"
    )]
    Rights {
        /// The role.
        role: String,
        /// The database.
        database: String,
        /// Its owner.
        owner: String,
    },
}

/// Makes what is missing, and then does as the application will. `master` leads to a database that exists, `login_target` is what the
/// application connects to. Returns what was made.
pub async fn provision(
    master: &PostgresTarget,
    login_target: &PostgresTarget,
    login: &Login<'_>,
) -> Result<Vec<String>, ProvisionError> {
    let session = Session::open(master, APPLICATION).await.map_err(ProvisionError::Master)?;
    let mut made = Vec::new();
    let (role, database) = (identifier(login.role), identifier(login.database));
    if !exists(&session, "pg_roles", "rolname", login.role).await? {
        // The server hashes a password itself, and then a log of statements has it in clear.
        let verifier = literal(&scram_sha_256(login.password.as_bytes()));
        let creates = creates_databases(&session).await?;
        let sql =
            format!("CREATE ROLE {role} LOGIN NOSUPERUSER {creates} NOCREATEROLE NOREPLICATION PASSWORD {verifier}");
        step(&session, &format!("create the role {}", login.role), &sql).await?;
        made.push(format!("role {}", login.role));
    }
    if !exists(&session, "pg_database", "datname", login.database).await? {
        let what = format!("create the database {}", login.database);
        // Only a member of a role may give it something; that of the master ends again, whatever becomes of the database.
        step(&session, &what, &format!("GRANT {role} TO CURRENT_USER")).await?;
        let sql = format!("CREATE DATABASE {database} OWNER {role} TEMPLATE template0 ENCODING 'UTF8'");
        let created = step(&session, &what, &sql).await;
        step(&session, &what, &format!("REVOKE {role} FROM CURRENT_USER")).await?;
        created?;
        made.push(format!("database {}", login.database));
    }
    as_the_application(&session, login_target, login).await?;
    Ok(made)
}

/// A restore makes a database beside the live one. Nobody gives a right that he has not.
async fn creates_databases(master: &Session) -> Result<&'static str, ProvisionError> {
    let sql = "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user";
    let may = step(master, "ask for the rights of the master", sql).await?;
    Ok(if may.first() == Some(&Some("t".to_owned())) { "CREATEDB" } else { "NOCREATEDB" })
}

/// Logs in as the application will, and asks whether it may do what migrations do.
async fn as_the_application(
    master: &Session,
    target: &PostgresTarget,
    login: &Login<'_>,
) -> Result<(), ProvisionError> {
    let role = || login.role.to_owned();
    let refused = |source| ProvisionError::Role { role: role(), source };
    check(target, CONNECT).await.map_err(refused)?;
    let session = Session::open(target, APPLICATION).await.map_err(refused)?;
    let rights =
        "SELECT has_database_privilege(current_database(), 'CREATE') AND has_schema_privilege('public', 'CREATE')";
    let may = step(&session, "ask for the rights of the role", rights).await?;
    if may.first() == Some(&Some("t".to_owned())) {
        return Ok(());
    }
    let sql = format!("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = {}", literal(login.database));
    let owner = step(master, "ask for the owner of the database", &sql).await?;
    let owner = owner.into_iter().next().flatten().unwrap_or_default();
    Err(ProvisionError::Rights { role: role(), database: login.database.to_owned(), owner })
}

async fn exists(session: &Session, table: &str, column: &str, name: &str) -> Result<bool, ProvisionError> {
    let sql = format!("SELECT count(*) FROM {table} WHERE {column} = {}", literal(name));
    let found = step(session, "look for what is there", &sql).await?;
    Ok(found.first().and_then(Option::as_deref) != Some("0"))
}

async fn step(session: &Session, what: &str, sql: &str) -> Result<Vec<Option<String>>, ProvisionError> {
    let failed = |source| ProvisionError::Step { step: what.to_owned(), source };
    session.row(sql).await.map_err(failed)
}

/// A name in SQL.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL, which has no backslash that means something (`standard_conforming_strings`).
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_quotes() {
        assert_eq!(identifier("a\"; DROP ROLE b"), "\"a\"\"; DROP ROLE b\"");
        assert_eq!(literal("a'; DROP ROLE b"), "'a''; DROP ROLE b'");
    }
}
