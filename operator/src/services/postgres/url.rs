//! Translates the URL that `libpq` and Prisma understand into what tokio-postgres understands.
//!
//! tokio-postgres refuses parameters that it does not know (`schema`, `pgbouncer`, `sslrootcert`, ...), and of `sslmode` it
//! knows only whether to encrypt. What to verify is decided here, as `libpq` decides it.

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, SslNegotiation, TargetSessionAttrs};

use crate::services::tls::Verify;

/// Parameters that tokio-postgres reads itself. The others are for other drivers, or are decided here.
const UNDERSTOOD: [&str; 14] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "target_session_attrs",
    "channel_binding",
    "sslnegotiation",
    "load_balance_hosts",
];

/// Why a URL cannot be used. None of it quotes the URL: a password that is not encoded ends up in any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error("the URL does not start with postgres:// or postgresql://")]
    Scheme,
    #[error("the URL cannot be read; percent-encode the user and the password in it")]
    Unreadable,
    #[error("the URL names no host")]
    NoHost,
    #[error("sslmode in the URL is none of disable, allow, prefer, require, verify-ca, verify-full")]
    TlsMode,
}

/// `sslmode`, with the meaning that `libpq` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No encryption.
    Disable,
    /// Encryption where the server offers it (also `allow`).
    Prefer,
    /// Encryption. The certificate counts only where an authority is given.
    Require,
    /// Encryption, and the certificate must come from the authority.
    VerifyCa,
    /// Encryption, and the certificate must come from the authority and name the host.
    VerifyFull,
}

impl TlsMode {
    fn read(text: &str) -> Result<Self, UrlError> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(UrlError::TlsMode),
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// `require` with an authority is `verify-ca`, a rule of `libpq`.
    pub(super) fn verify(self, has_ca: bool) -> Verify {
        match self {
            Self::VerifyFull => Verify::ChainAndName,
            Self::VerifyCa => Verify::Chain,
            Self::Require if has_ca => Verify::Chain,
            Self::Disable | Self::Prefer | Self::Require => Verify::Nothing,
        }
    }
}

/// A URL that was understood.
pub(super) struct Connection {
    pub(super) config: Config,
    pub(super) tls: TlsMode,
}

/// Reads a connection URL.
pub(super) fn parse(url: &str) -> Result<Connection, UrlError> {
    let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://")).ok_or(UrlError::Scheme)?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    // A second one, or one behind the host, comes from a password: parts of it would be taken for the host.
    if rest.matches('@').count() > authority.matches('@').count() || authority.matches('@').count() > 1 {
        return Err(UrlError::Unreadable);
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut tls = TlsMode::Prefer;
    let mut understood = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => tls = TlsMode::read(mode)?,
            Some((name, _)) if UNDERSTOOD.contains(&name) => understood.push(pair),
            _ => {}
        }
    }
    let mut config: Config = format!("{base}?{}", understood.join("&")).parse().map_err(|_| UrlError::Unreadable)?;
    if config.get_hosts().is_empty() {
        return Err(UrlError::NoHost);
    }
    if std::str::from_utf8(config.get_password().unwrap_or_default()).is_err() {
        return Err(UrlError::Unreadable);
    }
    // libpq does not encrypt on a socket of the file system, whatever the mode.
    if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
        tls = TlsMode::Disable;
    }
    config.ssl_mode(match tls {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    Ok(Connection { config, tls })
}

impl Connection {
    /// For messages: where it is, and nothing else.
    pub(super) fn subject(&self) -> String {
        let ports = self.ports();
        let address = |(index, host): (usize, String)| {
            let port = ports.get(index).or(ports.first()).map_or("5432", String::as_str);
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        format!("PostgreSQL at {}", self.hosts().into_iter().enumerate().map(address).collect::<Vec<_>>().join(", "))
    }

    /// The name of the database, which is the user's where the URL names none.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().or(self.config.get_user()).unwrap_or_default()
    }

    fn hosts(&self) -> Vec<String> {
        let name = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        self.config.get_hosts().iter().map(name).collect()
    }

    fn ports(&self) -> Vec<String> {
        self.config.get_ports().iter().map(u16::to_string).collect()
    }

    /// The same connection for `libpq`.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let config = &self.config;
        let addresses: Vec<_> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
        let variables = [
            ("PGHOST", Some(self.hosts().join(","))),
            ("PGHOSTADDR", (!addresses.is_empty()).then(|| addresses.join(","))),
            ("PGPORT", (!config.get_ports().is_empty()).then(|| self.ports().join(","))),
            ("PGUSER", config.get_user().map(str::to_owned)),
            ("PGPASSWORD", config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned())),
            ("PGDATABASE", Some(self.database().to_owned())),
            ("PGOPTIONS", config.get_options().map(str::to_owned)),
            ("PGAPPNAME", Some(config.get_application_name().unwrap_or("rorun-operator").to_owned())),
            ("PGCONNECT_TIMEOUT", config.get_connect_timeout().map(|timeout| timeout.as_secs().to_string())),
            ("PGSSLMODE", Some(self.tls.as_str().to_owned())),
            ("PGSSLNEGOTIATION", (config.get_ssl_negotiation() == SslNegotiation::Direct).then(|| "direct".to_owned())),
            ("PGCHANNELBINDING", channel_binding(config.get_channel_binding()).map(str::to_owned)),
            ("PGTARGETSESSIONATTRS", session(config.get_target_session_attrs()).map(str::to_owned)),
        ];
        variables.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn channel_binding(binding: ChannelBinding) -> Option<&'static str> {
    match binding {
        ChannelBinding::Disable => Some("disable"),
        ChannelBinding::Require => Some("require"),
        _ => None,
    }
}

fn session(attributes: TargetSessionAttrs) -> Option<&'static str> {
    match attributes {
        TargetSessionAttrs::ReadWrite => Some("read-write"),
        TargetSessionAttrs::ReadOnly => Some("read-only"),
        _ => None,
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
    fn modes_mean_what_libpq_says(
        #[case] query: &str,
        #[case] has_ca: bool,
        #[case] mode: SslMode,
        #[case] verify: Verify,
    ) {
        let connection = parsed(&format!("postgresql://u@h/d{query}"));
        assert_eq!((connection.config.get_ssl_mode(), connection.tls.verify(has_ca)), (mode, verify));
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
        assert_eq!(connection.subject(), "PostgreSQL at db.shop.svc:6432");
    }

    #[rstest]
    #[case("postgres://u:p@ss@host/d")]
    #[case("postgres://u:pa/ss@host/d")]
    #[case("postgres://u:1234/ss@host/d")]
    #[case("postgres://u:pa?ss=word@host/d")]
    #[case("postgres://u:p@ss?word@host/d")]
    fn a_password_that_is_not_encoded_is_refused(#[case] url: &str) {
        assert_eq!(parse(url).err(), Some(UrlError::Unreadable));
    }

    #[rstest]
    #[case("mysql://u@h/d", UrlError::Scheme)]
    #[case("postgres:///d", UrlError::NoHost)]
    #[case("postgres://u@h/d?sslmode=verify_full", UrlError::TlsMode)]
    #[case("postgres://u@h:port/d", UrlError::Unreadable)]
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
}
