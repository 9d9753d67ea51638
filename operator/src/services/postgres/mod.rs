//! Checks that a PostgreSQL database can be used, and says how `libpq` would connect to it.

mod url;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{Cause, ServiceError, causes, root_cause};
use super::tls;
use url::Connection;
pub use url::TlsMode;

/// A database to connect to.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresTarget {
    /// `postgresql://user:password@host:port/database?sslmode=...`, the password percent-encoded.
    pub url: String,
    /// The authorities (PEM) to trust, and no others. Left out: the public ones, where `sslmode` asks to verify.
    pub ca: Option<String>,
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PostgresTarget").finish_non_exhaustive()
    }
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresInfo {
    /// The version, e.g. `17.6`.
    pub version: String,
}

impl PostgresTarget {
    /// The variables that make `libpq` connect as [`check`] does, except for `PGSSLROOTCERT`, which names a file.
    /// They hold the password: variables can be read by the same user only, arguments by everybody.
    pub fn environment(&self) -> Result<Vec<(&'static str, String)>, ServiceError> {
        Ok(self.connection()?.environment())
    }

    /// The name of the database.
    pub fn database(&self) -> Result<String, ServiceError> {
        Ok(self.connection()?.database().to_owned())
    }

    /// What the URL asks of TLS.
    pub fn tls_mode(&self) -> Result<TlsMode, ServiceError> {
        Ok(self.connection()?.tls)
    }

    fn connection(&self) -> Result<Connection, ServiceError> {
        url::parse(&self.url).map_err(|error| ServiceError::new(Cause::Other, "PostgreSQL", format!("the URL {error}")))
    }
}

/// Connects, logs in and asks for the version, all within the time-out.
pub async fn check(target: &PostgresTarget, timeout: Duration) -> Result<PostgresInfo, ServiceError> {
    let connection = target.connection()?;
    let subject = connection.subject();
    let verify = url::verify(connection.tls, target.ca.is_some());
    if verify == tls::Verify::Chain && target.ca.is_none() {
        // As libpq has it: anybody gets a public certificate for some name.
        let detail = "sslmode=verify-ca needs an authority of your own; give it in caSecretRef or use verify-full";
        return Err(ServiceError::new(Cause::Tls, subject, detail));
    }
    let tls = tls::client(verify, target.ca.as_deref())
        .map_err(|error| ServiceError::new(Cause::Tls, subject.clone(), error.to_string()))?;
    match tokio::time::timeout(timeout, ask(&connection, MakeRustlsConnect::new(tls))).await {
        Ok(answer) => answer.map_err(|error| classify(&connection, &error)),
        Err(_) => {
            Err(ServiceError::new(Cause::Unreachable, subject, format!("no answer within {} s", timeout.as_secs_f32())))
        }
    }
}

async fn ask(connection: &Connection, tls: MakeRustlsConnect) -> Result<PostgresInfo, tokio_postgres::Error> {
    let (client, driver) = connection.config.connect(tls).await?;
    // The simple protocol, so that it works through a pooler. The driver never ends before the answer is there.
    let query = client.simple_query("SHOW server_version");
    let messages = tokio::select! {
        messages = query => messages?,
        ended = driver => { ended?; Vec::new() }
    };
    let version = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    // "15.18 (Debian 15.18-0+deb12u1)"
    let version = version.and_then(|text| text.split_whitespace().next()).unwrap_or("unknown");
    Ok(PostgresInfo { version: version.to_owned() })
}

fn classify(connection: &Connection, error: &tokio_postgres::Error) -> ServiceError {
    let subject = connection.subject();
    if let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return ServiceError::new(Cause::Tls, subject, tls::advice(tls));
    }
    if let Some(database) = error.as_db_error() {
        return said(connection, database.code(), database.message());
    }
    // The kind of an error is private to the library; its text is pinned by the tests here.
    let text = error.to_string();
    let cause = if text.starts_with("error performing TLS handshake") {
        Cause::Tls
    } else if text.starts_with("authentication error") || text.starts_with("invalid configuration") {
        Cause::Authentication
    } else if causes(error).any(<dyn Error>::is::<std::io::Error>) || error.is_closed() {
        Cause::Unreachable
    } else {
        Cause::Other
    };
    ServiceError::new(cause, subject, root_cause(error))
}

/// What the server itself said.
fn said(connection: &Connection, code: &SqlState, message: &str) -> ServiceError {
    let subject = connection.subject();
    match code.code() {
        "3D000" => {
            let subject = format!("database {:?} on {subject}", connection.database());
            ServiceError::new(Cause::Missing, subject, "it does not exist; create it, or correct the URL")
        }
        "28000" | "28P01" => ServiceError::new(Cause::Authentication, subject, message),
        "42501" => ServiceError::new(Cause::AccessDenied, subject, message),
        // Starting, stopping, or out of connections.
        code if code.starts_with("57P") || code == "53300" => ServiceError::new(Cause::Unreachable, subject, message),
        _ => ServiceError::new(Cause::Other, subject, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> PostgresTarget {
        PostgresTarget { url: url.to_owned(), ca: None }
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let target = target("postgres://u:secret@127.0.0.1:1/d");
        let error = check(&target, Duration::from_secs(5)).await.expect_err("closed");
        assert!(matches!(&error, ServiceError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().starts_with("failed to reach PostgreSQL at 127.0.0.1:1: "), "{error}");
        assert!(!format!("{error:?}{target:?}").contains("secret"));
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let url = format!("postgres://u:secret@{}/d", listener.local_addr().expect("address"));
        let error = check(&target(&url), Duration::from_millis(50)).await.expect_err("silent");
        assert!(matches!(&error, ServiceError::Unreachable { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn verify_ca_needs_an_authority() {
        let error = check(&target("postgres://u@h/d?sslmode=verify-ca"), Duration::from_secs(1)).await;
        assert!(matches!(error, Err(ServiceError::TlsFailed { .. })), "{error:?}");
    }

    #[test]
    fn what_the_server_says_becomes_a_reason() {
        let connection = url::parse("postgres://u@h/shop").expect("valid");
        let variant = |code: &str| format!("{:?}", said(&connection, &SqlState::from_code(code), "m"));
        for (code, expected) in [
            ("28P01", "AuthenticationFailed"),
            ("28000", "AuthenticationFailed"),
            ("3D000", "Missing"),
            ("42501", "AccessDenied"),
            ("57P03", "Unreachable"),
            ("53300", "Unreachable"),
            ("XX000", "Other"),
        ] {
            assert!(variant(code).starts_with(expected), "{code}: {}", variant(code));
        }
    }
}
