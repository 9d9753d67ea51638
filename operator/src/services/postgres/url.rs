//! From a URL to what tokio-postgres and `libpq` understand.
//!
//! tokio-postgres refuses parameters that it does not know (`schema`, `pgbouncer`, `sslrootcert`, ...), and of `sslmode` it
//! knows only whether to encrypt. The rest is decided here, as `libpq` decides it.

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

pub use crate::contract::TlsMode;
use crate::contract::{PostgresUrl, UrlError};
use crate::services::tls::Verify;

/// Parameters beside those of the address and the login that tokio-postgres reads itself.
const UNDERSTOOD: [&str; 8] = [
    "options",
    "application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "channel_binding",
    "sslnegotiation",
    "load_balance_hosts",
    "hostaddr",
];

/// Values of `target_session_attrs` that tokio-postgres knows. With another one the dump chooses the server, and any is asked.
const SESSIONS: [&str; 3] = ["any", "read-write", "read-only"];

/// The parameters that reach `libpq`, each in its variable.
const VARIABLES: [(&str, &str); 9] = [
    ("hostaddr", "PGHOSTADDR"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("require_auth", "PGREQUIREAUTH"),
];

/// What `libpq` verifies: `require` with an authority is `verify-ca`.
pub(super) fn verify(mode: TlsMode, has_ca: bool) -> Verify {
    match mode {
        TlsMode::VerifyFull => Verify::ChainAndName,
        TlsMode::VerifyCa => Verify::Chain,
        TlsMode::Require if has_ca => Verify::Chain,
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Verify::Nothing,
    }
}

/// A URL that was understood.
pub(super) struct Connection {
    pub(super) config: Config,
    pub(super) tls: TlsMode,
    /// Whether it shows a certificate to a server that asks for one.
    pub(super) shows_certificate: bool,
    url: PostgresUrl,
}

/// Reads a connection URL.
pub(super) fn parse(text: &str) -> Result<Connection, UrlError> {
    let url = PostgresUrl::parse(text)?;
    let tls = url.tls_mode()?;
    let mut config = parameters(&url)?;
    for host in url.hosts() {
        config.host(host);
    }
    for port in url.ports() {
        config.port(port.parse().map_err(|_| UrlError::Port)?);
    }
    config.user(url.user()).dbname(url.database());
    if !url.password().is_empty() {
        config.password(url.password());
    }
    config.ssl_mode(match tls {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    Ok(Connection { config, tls, shows_certificate: false, url })
}

/// The parameters that tokio-postgres knows, in the form of pairs that it reads.
fn parameters(url: &PostgresUrl) -> Result<Config, UrlError> {
    let session = url.parameter("target_session_attrs").filter(|session| SESSIONS.contains(session));
    let others = UNDERSTOOD.iter().filter_map(|name| Some((*name, url.parameter(name)?)));
    let pairs = others.chain(session.map(|session| ("target_session_attrs", session)));
    let pairs = pairs.map(|(name, value)| format!("{name}='{}' ", value.replace('\\', r"\\").replace('\'', r"\'")));
    pairs.collect::<String>().parse().map_err(|_| UrlError::Parameter)
}

impl Connection {
    /// For messages: where it is, and nothing else.
    pub(super) fn subject(&self) -> String {
        let ports = self.url.ports();
        let address = |(index, host): (usize, &str)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or_default();
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        let addresses: Vec<_> = self.url.hosts().into_iter().enumerate().map(address).collect();
        format!("PostgreSQL at {}", addresses.join(", "))
    }

    /// The name of the database.
    pub(super) fn database(&self) -> &str {
        self.url.database()
    }

    /// The schema that Prisma works in.
    pub(super) fn schema(&self) -> Option<&str> {
        self.url.parameter("schema")
    }

    /// The same connection for `libpq`.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let url = &self.url;
        let mut variables = vec![
            ("PGHOST", url.hosts().join(",")),
            ("PGPORT", url.ports().join(",")),
            ("PGUSER", url.user().to_owned()),
            ("PGDATABASE", url.database().to_owned()),
            ("PGSSLMODE", self.tls.as_str().to_owned()),
        ];
        if !url.password().is_empty() {
            variables.push(("PGPASSWORD", url.password().to_owned()));
        }
        let given = VARIABLES.iter().filter_map(|(name, variable)| Some((*variable, url.parameter(name)?.to_owned())));
        variables.extend(given);
        if url.parameter("application_name").is_none() {
            variables.push(("PGAPPNAME", "rorun-operator".to_owned()));
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parsed(url: &str) -> Connection {
        parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[rstest]
    #[case("", false, SslMode::Prefer, Verify::Nothing)]
    #[case("?sslmode=disable", true, SslMode::Disable, Verify::Nothing)]
    #[case("?sslmode=prefer", true, SslMode::Prefer, Verify::Nothing)]
    #[case("?sslmode=require", false, SslMode::Require, Verify::Nothing)]
    #[case("?sslmode=require", true, SslMode::Require, Verify::Chain)]
    #[case("?sslmode=verify-ca", true, SslMode::Require, Verify::Chain)]
    #[case("?schema=public&sslmode=verify-full", false, SslMode::Require, Verify::ChainAndName)]
    #[case("?sslmode=disable&sslmode=verify-full", false, SslMode::Require, Verify::ChainAndName)]
    fn modes_mean_what_libpq_says(
        #[case] query: &str,
        #[case] has_ca: bool,
        #[case] mode: SslMode,
        #[case] expected: Verify,
    ) {
        let connection = parsed(&format!("postgresql://u@h/d{query}"));
        assert_eq!((connection.config.get_ssl_mode(), verify(connection.tls, has_ca)), (mode, expected));
    }

    #[test]
    fn passwords_may_hold_every_url_metacharacter() {
        let password = r#"a:b@c/d?e#f[g]h%i&j=k+l m"n\o'p"#;
        let encoded: String = password.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
        let connection = parsed(&format!("postgresql://ro%40run:{encoded}@db.shop.svc:6432/ro%2Frun?sslmode=disable"));
        let environment = connection.environment();
        for expected in [
            ("PGHOST", "db.shop.svc"),
            ("PGPORT", "6432"),
            ("PGUSER", "ro@run"),
            ("PGPASSWORD", password),
            ("PGDATABASE", "ro/run"),
            ("PGSSLMODE", "disable"),
        ] {
            assert!(environment.contains(&(expected.0, expected.1.to_owned())), "{expected:?} in {environment:?}");
        }
        assert_eq!(connection.config.get_password(), Some(password.as_bytes()));
        assert_eq!(connection.subject(), "PostgreSQL at db.shop.svc:6432");
    }

    #[rstest]
    #[case("postgres://u:p@ss@host/d")]
    #[case("postgres://u:pa/ss@host/d")]
    #[case("postgres://u:1234/ss@host/d")]
    #[case("postgres://u:pa?ss=word@host/d")]
    #[case("postgres://u:p@ss?word@host/d")]
    fn a_password_that_is_not_encoded_is_refused(#[case] url: &str) {
        assert_eq!(parse(url).err(), Some(UrlError::Delimiter));
    }

    #[rstest]
    #[case("mysql://u@h/d", UrlError::Scheme)]
    #[case("postgres:///d", UrlError::NoHost)]
    #[case("postgres://u@h/d?sslmode=verify_full", UrlError::TlsMode)]
    #[case("postgres://u@h:port/d", UrlError::Port)]
    #[case("postgres://u@h/d?connect_timeout=long", UrlError::Parameter)]
    fn bad_urls_are_refused(#[case] url: &str, #[case] expected: UrlError) {
        assert_eq!(parse(url).err(), Some(expected));
    }

    #[test]
    fn several_hosts_reach_libpq_too() {
        let connection = parsed("postgres://u@a:1,[::1]:2/d?target_session_attrs=read-write&pgbouncer=true");
        let environment = connection.environment();
        assert!(environment.contains(&("PGHOST", "a,::1".to_owned())), "{environment:?}");
        assert!(environment.contains(&("PGPORT", "1,2".to_owned())), "{environment:?}");
        assert!(environment.contains(&("PGTARGETSESSIONATTRS", "read-write".to_owned())), "{environment:?}");
        assert_eq!(connection.subject(), "PostgreSQL at a:1, [::1]:2");
    }

    #[test]
    fn parameters_arrive_as_they_were_meant() {
        let options = "-c application_name=it's\\ here+now";
        let url = parsed(
            "postgres://u@h/d?options=-c%20application_name%3Dit%27s%5C%20here+now&target_session_attrs=standby",
        );
        assert_eq!(url.config.get_options(), Some(options));
        let environment = url.environment();
        assert!(environment.contains(&("PGOPTIONS", options.to_owned())), "{environment:?}");
        assert!(environment.contains(&("PGTARGETSESSIONATTRS", "standby".to_owned())), "{environment:?}");
    }
}
