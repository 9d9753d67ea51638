//! The URL of a PostgreSQL database.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::api::v1alpha1::SslMode;

/// The parts of `postgresql://user:password@host:port/database?sslmode=...` (PostgreSQL documentation, section 32.1.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUrl {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User, decoded.
    pub user: String,
    /// Password, decoded.
    pub password: String,
    /// Database, decoded.
    pub database: String,
    /// Parameters in the order given, decoded.
    pub parameters: Vec<(String, String)>,
}

impl PostgresUrl {
    /// Parses a URL. The error is a sentence that does not repeat the URL, since it holds a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|error| {
            format!(
                "is not a URL ({error}): reserved characters in the password must be percent-encoded, e.g. / as %2F"
            )
        })?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err("must start with postgresql://".to_owned());
        }
        let decode = |part: &str, what: &str| {
            percent_decode_str(part)
                .decode_utf8()
                .map(String::from)
                .map_err(|_| format!("has a {what} that is not UTF-8"))
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("names no host")?.to_owned();
        let user = decode(url.username(), "user")?;
        if user.is_empty() {
            return Err("names no user, as in postgresql://user:password@host:5432/database".to_owned());
        }
        let database = decode(url.path().trim_start_matches('/'), "database")?;
        if database.is_empty() {
            return Err("names no database, as in postgresql://user:password@host:5432/database".to_owned());
        }
        Ok(Self {
            host,
            port: url.port().unwrap_or(5432),
            user,
            password: decode(url.password().unwrap_or_default(), "password")?,
            database,
            parameters: url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
        })
    }

    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Replaces `sslmode`.
    pub fn set_ssl_mode(&mut self, mode: SslMode) {
        self.parameters.retain(|(key, _)| key != "sslmode");
        self.parameters.push(("sslmode".to_owned(), ssl_mode_name(mode).to_owned()));
    }
}

impl std::fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let encode = |part| utf8_percent_encode(part, NON_ALPHANUMERIC);
        write!(f, "postgresql://{}:{}@{}:{}/", encode(&self.user), encode(&self.password), self.host, self.port)?;
        write!(f, "{}", encode(&self.database))?;
        for (index, (key, value)) in self.parameters.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(f, "{separator}{key}={}", utf8_percent_encode(value, VALUE))?;
        }
        Ok(())
    }
}

/// What is escaped in the value of a parameter: all but what is common and harmless there.
const VALUE: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn ssl_mode_name(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("postgresql://u:p%2F%40%3A%23%3F@db.example:6543/shop?sslmode=require")]
    #[case("postgres://u:p@[::1]/shop?application_name=a%20b&sslmode=disable")]
    fn parts_survive_a_round_trip(#[case] text: &str) {
        let url = PostgresUrl::parse(text).unwrap();
        assert_eq!(PostgresUrl::parse(&url.to_string()).unwrap(), url);
    }

    #[test]
    fn a_password_of_metacharacters_is_decoded() {
        let url = PostgresUrl::parse("postgresql://u:%40%2F%3A%23%3F%25%26@h/d").unwrap();
        assert_eq!(url.password, "@/:#?%&");
    }

    #[rstest]
    #[case("mysql://u:p@h/d", "must start with postgresql://")]
    #[case("postgresql://u:p@h", "names no database")]
    #[case("postgresql://h/d", "names no user")]
    #[case("hello", "is not a URL")]
    #[case("postgresql://u:pa/ss@h/d", "is not a URL")]
    fn what_is_wrong_is_said_without_the_password(#[case] text: &str, #[case] expected: &str) {
        let error = PostgresUrl::parse(text).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("ss@"), "{error}");
    }

    #[test]
    fn ssl_mode_is_replaced_not_added() {
        let mut url = PostgresUrl::parse("postgresql://u:p@h/d?sslmode=disable&a=b").unwrap();
        url.set_ssl_mode(SslMode::VerifyFull);
        assert_eq!(url.to_string(), "postgresql://u:p@h:5432/d?a=b&sslmode=verify-full");
    }
}
