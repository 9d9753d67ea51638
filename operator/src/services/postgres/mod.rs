//! Checks that a PostgreSQL database can be used, and says how `libpq` would connect to it.

mod backend_key;
mod client;
mod examine;
mod lock;
mod migrations;
mod provision;
mod query;
mod session;
mod snapshot;
mod url;

use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::error::{Cause, ServiceError, broken};
use super::network::{Bounded, Network, NetworkError, has_control_characters};
use super::tls;
use crate::contract::ClientCertificate;
pub use examine::Examined;
pub use lock::{AdvisoryLock, LockError, LockRequest};
pub use provision::{Login, ProvisionError, provision};
pub use query::{QueryError, Row};
pub use session::Session;
pub use snapshot::Snapshot;
use url::Connection;
pub use url::TlsMode;

/// How long a database that answers may take to say the rest: it may be told another time.
const EXAMINED_WITHIN: Duration = Duration::from_secs(4);

/// A database to connect to.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresTarget {
    /// `postgresql://user:password@host:port/database?sslmode=...`, the password percent-encoded.
    pub url: String,
    /// The authorities (PEM) to trust, and no others. Defaults to the public ones, where `sslmode` verifies.
    pub ca: Option<String>,
    /// The certificate to show to a server that asks for one. The URL may name its files, which only `libpq` reads.
    pub client: Option<ClientCertificate>,
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
    /// How long the answer to one statement took.
    pub latency: Duration,
}

impl PostgresTarget {
    /// The variables that make `libpq` connect as [`check`] does, except for those that name files: `PGSSLROOTCERT`, `PGSSLCERT` and
    /// `PGSSLKEY`.
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

/// Connects from wherever this runs, logs in and asks for the version, all within the time-out.
pub async fn check(target: &PostgresTarget, timeout: Duration) -> Result<PostgresInfo, ServiceError> {
    check_through(&Network::open(), target, timeout).await
}

/// As [`check`], to where the network leads.
pub async fn check_through(
    network: &Network,
    target: &PostgresTarget,
    timeout: Duration,
) -> Result<PostgresInfo, ServiceError> {
    ask_within(network, target, timeout, false).await.map(|(info, _)| info)
}

/// As [`check_through`], and asks what else the database says of itself and of its user.
pub async fn examine_through(
    network: &Network,
    target: &PostgresTarget,
    timeout: Duration,
) -> Result<(PostgresInfo, Examined), ServiceError> {
    ask_within(network, target, timeout, true).await
}

async fn ask_within(
    network: &Network,
    target: &PostgresTarget,
    timeout: Duration,
    examine: bool,
) -> Result<(PostgresInfo, Examined), ServiceError> {
    let (connection, tls) = connector(target)?;
    let place = Place { network, connection: &connection, tls, examine };
    if let Ok(answer) = tokio::time::timeout(timeout, ask(&place)).await {
        return answer.map_err(|failure| failure.told(&connection));
    }
    let detail = format!("no answer within {} s", timeout.as_secs_f32());
    Err(ServiceError::new(Cause::Unreachable, connection.subject(), detail))
}

/// Where to ask, and how much.
struct Place<'a> {
    network: &'a Network,
    connection: &'a Connection,
    tls: MakeRustlsConnect,
    examine: bool,
}

/// The connection that a URL means, and how it is encrypted.
fn connector(target: &PostgresTarget) -> Result<(Connection, MakeRustlsConnect), ServiceError> {
    if has_control_characters(&target.url) {
        let detail = "the URL holds a control character, which no part of it needs";
        return Err(ServiceError::new(Cause::Other, "PostgreSQL", detail));
    }
    let mut connection = target.connection()?;
    connection.shows_certificate = target.client.is_some();
    let subject = connection.subject();
    let verify = url::verify(connection.tls, target.ca.is_some());
    if verify == tls::Verify::Chain && target.ca.is_none() {
        // As libpq has it: anybody gets a public certificate for some name.
        let detail = "sslmode=verify-ca needs an authority of your own; give it in caSecretRef or use verify-full";
        return Err(ServiceError::new(Cause::Tls, subject, detail));
    }
    let tls = tls::client_with(verify, target.ca.as_deref(), target.client.as_ref())
        .map_err(|error| ServiceError::new(Cause::Tls, subject.clone(), error.to_string()))?;
    Ok((connection, MakeRustlsConnect::new(tls)))
}

/// Why one host of a URL was not asked, or did not answer.
enum Failure {
    Network(NetworkError),
    Said(tokio_postgres::Error),
    /// It is of the kind that `target_session_attrs` does not ask for.
    OtherKind,
    /// A socket of the file system.
    NoAddress,
    /// A host that TLS has no name for.
    NoName,
}

impl Failure {
    fn told(&self, connection: &Connection) -> ServiceError {
        let (cause, detail) = match self {
            Self::Network(error) => broken(error).unwrap_or((Cause::Unreachable, error.to_string())),
            Self::Said(error) => return classify(connection, error),
            Self::OtherKind => (Cause::Other, "it is not of the kind that target_session_attrs asks for".to_owned()),
            Self::NoAddress => (Cause::Other, "the URL names a socket of the file system, not a host".to_owned()),
            Self::NoName => (Cause::Other, "the URL names a host that no certificate can name".to_owned()),
        };
        ServiceError::new(cause, connection.subject(), detail)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Said(error)
    }
}

/// One host after the other, as libpq does.
async fn ask(place: &Place<'_>) -> Result<(PostgresInfo, Examined), Failure> {
    let mut last = Failure::NoAddress;
    for (name, address, port) in hosts(&place.connection.config) {
        match ask_one(place, (&name, &address, port)).await {
            Ok(info) => return Ok(info),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// The name, the address to connect to, and the port of each host.
fn hosts(config: &Config) -> Vec<(String, String, u16)> {
    let (names, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let all = (0..names.len().max(addresses.len())).filter_map(|index| {
        let address = addresses.get(index).map(ToString::to_string);
        let name = match names.get(index) {
            Some(Host::Tcp(name)) => Some(name.clone()),
            Some(Host::Unix(_)) => return None,
            None => None,
        };
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let name = name.or_else(|| address.clone())?;
        Some((name.clone(), address.unwrap_or(name), port))
    });
    all.collect()
}

/// A name, the address to connect to, and a port.
type At<'a> = (&'a str, &'a str, u16);

async fn ask_one(place: &Place<'_>, host: At<'_>) -> Result<(PostgresInfo, Examined), Failure> {
    let config = &place.connection.config;
    let (stream, tls) = reach(place, host).await?;
    let (client, driver) = config.connect_raw(stream, tls).await?;
    // The simple protocol, so that it works through a pooler. The driver never ends before the answers are there.
    let asked = async {
        let read_only = match config.get_target_session_attrs() {
            TargetSessionAttrs::Any => None,
            attributes => Some((attributes, first(&client.simple_query("SHOW transaction_read_only").await?))),
        };
        let begun = Instant::now();
        let version = first(&client.simple_query("SHOW server_version").await?);
        let latency = begun.elapsed();
        let examined = if place.examine {
            // On the heap: whoever asks for the version alone need not carry it.
            let examined = Box::pin(examined(place, host, &client));
            tokio::time::timeout(EXAMINED_WITHIN, examined).await.unwrap_or_default()
        } else {
            Examined::default()
        };
        Ok::<_, tokio_postgres::Error>((read_only, version, latency, examined))
    };
    let (read_only, version, latency, examined) = tokio::select! {
        answers = asked => answers?,
        ended = driver => { ended?; return Err(Failure::Network(NetworkError::Connect(ErrorKind::UnexpectedEof.into()))) }
    };
    if read_only.is_some_and(|(attributes, read_only)| is_other_kind(attributes, read_only.as_deref())) {
        return Err(Failure::OtherKind);
    }
    // "15.18 (Debian 15.18-0+deb12u1)"
    let version = version.as_deref().and_then(|text| text.split_whitespace().next()).unwrap_or("unknown");
    Ok((PostgresInfo { version: version.to_owned(), latency }, examined))
}

/// An open connection, before anything is said on it, and how it is encrypted.
async fn reach(
    place: &Place<'_>,
    (name, address, port): At<'_>,
) -> Result<(Bounded, <MakeRustlsConnect as MakeTlsConnect<Bounded>>::TlsConnect), Failure> {
    let stream = place.network.connect(address, port).await.map_err(Failure::Network)?;
    let mut tls = place.tls.clone();
    let tls = MakeTlsConnect::<Bounded>::make_tls_connect(&mut tls, name).map_err(|_| Failure::NoName)?;
    Ok((stream, tls))
}

/// What the database says of itself. Only of a pooler a second session is asked for, to find out whether it is another one.
async fn examined(place: &Place<'_>, host: At<'_>, client: &Client) -> Examined {
    let mut examined = examine::examine(client, place.connection.schema()).await;
    if examined.facts.pooled == Some(true)
        && let Ok((stream, tls)) = reach(place, host).await
        && let Ok((second, driver)) = place.connection.config.connect_raw(stream, tls).await
    {
        let _driver = AbortOnDropHandle::new(tokio::spawn(driver));
        examined.facts.shared_sessions = examine::shares_sessions(client, &second).await;
    }
    examined
}

/// Whether a server is not of the kind that `target_session_attrs` asks for.
fn is_other_kind(attributes: TargetSessionAttrs, read_only: Option<&str>) -> bool {
    match (attributes, read_only) {
        (TargetSessionAttrs::ReadWrite, Some(read_only)) => read_only == "on",
        (TargetSessionAttrs::ReadOnly, Some(read_only)) => read_only == "off",
        _ => false,
    }
}

/// The first value of an answer.
fn first(messages: &[SimpleQueryMessage]) -> Option<String> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// An answer that no server should give.
fn other(subject: &str, detail: &str) -> ServiceError {
    ServiceError::new(Cause::Other, subject, detail)
}

fn classify(connection: &Connection, error: &tokio_postgres::Error) -> ServiceError {
    if let Some((cause, detail)) = client::refused(error, connection.shows_certificate) {
        return ServiceError::new(cause, connection.subject(), detail);
    }
    if let Some(database) = error.as_db_error() {
        return said(connection, database.code());
    }
    // The kind of an error is private to the library; its text is pinned by the tests here.
    let text = error.to_string();
    let own = || {
        if text.starts_with("error performing TLS handshake") {
            (Cause::Tls, "it does not offer TLS, which sslmode asks for")
        } else if text.starts_with("authentication error") || text.starts_with("invalid configuration") {
            (Cause::Authentication, "the URL lacks the password that it asks for, or it asks for it in an unknown way")
        } else if error.is_closed() {
            (Cause::Unreachable, "it ended the connection before it answered")
        } else {
            (Cause::Other, "it does not answer as PostgreSQL does")
        }
    };
    let (cause, detail) = broken(error).unwrap_or_else(|| {
        let (cause, detail) = own();
        (cause, detail.to_owned())
    });
    ServiceError::new(cause, connection.subject(), detail)
}

/// What the server itself said, by its SQLSTATE (PostgreSQL documentation, appendix A).
fn said(connection: &Connection, code: &SqlState) -> ServiceError {
    let subject = connection.subject();
    let (cause, detail) = match code.code() {
        "3D000" => {
            let subject = format!("database \"{}\" on {subject}", connection.database());
            return ServiceError::new(Cause::Missing, subject, "it does not exist; create it, or correct the URL");
        }
        "28000" => (Cause::Authentication, "it does not let this user in from here (SQLSTATE 28000)"),
        "28P01" => (Cause::Authentication, "it refuses the user or the password of the URL (SQLSTATE 28P01)"),
        "42501" => (Cause::AccessDenied, "this user may not connect to the database (SQLSTATE 42501)"),
        "53300" => (Cause::Unreachable, "it has no connection left (SQLSTATE 53300)"),
        "53100" => (
            Cause::Unreachable,
            "its disk is full (SQLSTATE 53100); enlarge its volume, or take off it what nobody needs",
        ),
        "57P03" => (Cause::Unreachable, "it is starting, or not ready yet (SQLSTATE 57P03)"),
        code if code.starts_with("57P") => (Cause::Unreachable, "it is stopping (SQLSTATE 57P0x)"),
        code if code.starts_with("08") => {
            (Cause::Other, "it, or a pooler before it, refuses the connection (SQLSTATE 08xxx)")
        }
        "XX000" => (Cause::Other, "it, or a pooler before it, reports an internal error (SQLSTATE XX000)"),
        _ => (Cause::Other, "it answers with an error; its own log says which"),
    };
    ServiceError::new(cause, subject, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> PostgresTarget {
        PostgresTarget { url: url.to_owned(), ca: None, client: None }
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
        let variant = |code: &str| format!("{:?}", said(&connection, &SqlState::from_code(code)));
        for (code, expected) in [
            ("28P01", "AuthenticationFailed"),
            ("28000", "AuthenticationFailed"),
            ("3D000", "Missing"),
            ("42501", "AccessDenied"),
            ("57P03", "Unreachable"),
            ("53300", "Unreachable"),
            ("53100", "Unreachable"),
            ("XX000", "Other"),
        ] {
            assert!(variant(code).starts_with(expected), "{code}: {}", variant(code));
        }
    }
}
