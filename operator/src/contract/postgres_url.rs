//! The URL of a PostgreSQL database, with the meaning that libpq gives it: the one reader and writer of such URLs, for the
//! connection Secret, the prober and the dump alike.
//!
//! It keeps the text that the user wrote, since clients differ in what they decode. It changes the scheme `postgres://`, which
//! `SQLAlchemy` refuses, and percent-encodes characters that no URL may hold (RFC 3986), since some clients refuse these.

use std::{borrow::Cow, fmt};

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{TlsMode, UrlError};

/// Characters that may stand in no part of a URL.
const ILLEGAL: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');
/// Likewise, and brackets, which enclose the address of a host.
const ILLEGAL_BUT_IN_HOST: &AsciiSet = &ILLEGAL.add(b'[').add(b']');
/// All but the characters that need no encoding anywhere (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The port of PostgreSQL.
const PORT: &str = "5432";

/// A host, and the port that is written behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// An IPv6 address without its brackets.
    name: String,
    port: String,
}

/// One parameter, as written and decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    written: String,
    name: String,
    value: String,
}

/// `postgresql://user:password@host:port,host:port/database?name=value&...` (PostgreSQL documentation, section 32.1.1.2).
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    /// All before the parameters.
    base: String,
    /// The name of the database in it, as written.
    written_database: String,
    user: String,
    password: String,
    hosts: Vec<Host>,
    database: String,
    parameters: Vec<Parameter>,
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PostgresUrl").finish_non_exhaustive()
    }
}

impl PostgresUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.starts_with(['"', '\'']) {
            return Err(UrlError::Quoted);
        }
        if text.contains(char::is_control) {
            return Err(UrlError::Control);
        }
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let rest = rest.ok_or(UrlError::Scheme)?;
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = before.split_once('/').unwrap_or((before, ""));
        let (login, hosts) = authority.split_once('@').unwrap_or(("", authority));
        // More than one, or one behind the host, comes from a password: a part of it would be taken for the host.
        if hosts.contains('@') || database.contains('@') || query.contains('@') || rest.contains('#') {
            return Err(UrlError::Delimiter);
        }
        if Cow::from(utf8_percent_encode(hosts, ILLEGAL)) != hosts {
            return Err(UrlError::Delimiter);
        }
        let (login, database) = (legal(login), legal(database));
        let (user, password) = login.split_once(':').unwrap_or((&login, ""));
        let at = if authority.contains('@') { "@" } else { "" };
        let slash = if before.contains('/') { "/" } else { "" };
        let url = Self {
            base: format!("postgresql://{login}{at}{hosts}{slash}{database}"),
            user: decode(user)?,
            password: decode(password)?,
            hosts: hosts_of(hosts)?,
            database: decode(&database)?,
            written_database: database.into_owned(),
            parameters: query.split('&').filter(|text| !text.is_empty()).map(parameter).collect::<Result<_, _>>()?,
        };
        url.check()?;
        Ok(url)
    }

    /// The URL of a database whose parts are known.
    pub fn new(host: &str, port: i32, (user, password): (&str, &str), database: &str, mode: TlsMode) -> Self {
        let encode = |part: &str| utf8_percent_encode(part, RESERVED).to_string();
        let written_database = encode(database);
        let base = format!("postgresql://{}:{}@{host}:{port}/{written_database}", encode(user), encode(password));
        let url = Self {
            base,
            written_database,
            user: user.to_owned(),
            password: password.to_owned(),
            hosts: vec![Host { name: host.to_owned(), port: port.to_string() }],
            database: database.to_owned(),
            parameters: Vec::new(),
        };
        url.with(&[("sslmode", mode.as_str())])
    }

    fn check(&self) -> Result<(), UrlError> {
        let hosts = self.hosts();
        if hosts.iter().any(|host| host.is_empty()) {
            return Err(UrlError::NoHost);
        }
        // The second is a socket of Linux that has no file.
        if hosts.iter().any(|host| host.starts_with(['/', '@'])) {
            return Err(UrlError::Socket);
        }
        let ports = self.ports();
        if !ports.iter().all(|port| is_port(port)) {
            return Err(UrlError::Port);
        }
        if ports.len() != 1 && ports.len() != hosts.len() {
            return Err(UrlError::Ports);
        }
        if self.user().is_empty() {
            return Err(UrlError::NoUser);
        }
        if self.database().is_empty() {
            return Err(UrlError::NoDatabase);
        }
        Ok(())
    }

    /// The value of a parameter, decoded: of one that stands several times the last.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|parameter| parameter.name == name).map(|parameter| parameter.value.as_str())
    }

    /// Every parameter in the order written: name and value, decoded.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.value.as_str()))
    }

    /// The hosts, an IPv6 address without brackets.
    pub fn hosts(&self) -> Vec<&str> {
        match self.parameter("host") {
            Some(list) => list.split(',').collect(),
            None => self.hosts.iter().map(|host| host.name.as_str()).collect(),
        }
    }

    /// The ports: one for all hosts, or one for each.
    pub fn ports(&self) -> Vec<&str> {
        let or_usual = |port| if str::is_empty(port) { PORT } else { port };
        match self.parameter("port") {
            Some(list) => list.split(',').map(or_usual).collect(),
            // The hosts come from a parameter, so there may be more of them than ports.
            None if self.parameter("host").is_some() && self.hosts.iter().all(|host| host.port.is_empty()) => {
                vec![PORT]
            }
            None => self.hosts.iter().map(|host| or_usual(host.port.as_str())).collect(),
        }
    }

    /// The user.
    pub fn user(&self) -> &str {
        self.parameter("user").unwrap_or(&self.user)
    }

    /// The password.
    pub fn password(&self) -> &str {
        self.parameter("password").unwrap_or(&self.password)
    }

    /// The database.
    pub fn database(&self) -> &str {
        self.parameter("dbname").unwrap_or(&self.database)
    }

    /// What it asks of TLS.
    pub fn tls_mode(&self) -> Result<TlsMode, UrlError> {
        // libpq takes `ssl=true`, which is of JDBC, for `sslmode=require`.
        let mode = self.parameters.iter().rev().find_map(|parameter| match (&*parameter.name, &*parameter.value) {
            ("sslmode", mode) => Some(TlsMode::read(mode)),
            ("ssl", "true") => Some(Ok(TlsMode::Require)),
            _ => None,
        });
        mode.unwrap_or(Ok(TlsMode::Prefer))
    }

    /// The same server with another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let mut url = self.clone();
        url.base.truncate(url.base.len() - url.written_database.len());
        url.written_database = utf8_percent_encode(name, RESERVED).to_string();
        url.base.push_str(&url.written_database);
        name.clone_into(&mut url.database);
        url.parameters.retain(|parameter| parameter.name != "dbname");
        url
    }

    /// The same database with other parameters: each one replaces those of its name, at the end, since the last one counts.
    #[must_use]
    pub fn with(&self, parameters: &[(&str, &str)]) -> Self {
        let mut url = self.clone();
        for (name, value) in parameters {
            url.parameters.retain(|parameter| parameter.name != *name);
            let written = format!("{name}={}", utf8_percent_encode(value, RESERVED_IN_VALUE));
            url.parameters.push(Parameter { written, name: (*name).to_owned(), value: (*value).to_owned() });
        }
        url
    }

    /// The same database without some parameters.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let mut url = self.clone();
        url.parameters.retain(|parameter| !names.contains(&&*parameter.name));
        url
    }

    /// The parts as written before the parameters: user and password, decoded; host and port of the only host; the name of the
    /// database, as written and decoded. `None`: there are several hosts.
    pub fn written(&self) -> Option<Written<'_>> {
        let [host] = self.hosts.as_slice() else { return None };
        Some(Written {
            user: &self.user,
            password: &self.password,
            host: &host.name,
            port: if host.port.is_empty() { PORT } else { &host.port },
            database: &self.database,
            encoded_database: &self.written_database,
            parameters: self.parameters.iter().map(|parameter| parameter.written.as_str()).collect(),
        })
    }
}

/// What stands in a URL of one host, whatever its parameters say.
#[derive(Clone)]
pub struct Written<'a> {
    /// The user, decoded.
    pub user: &'a str,
    /// The password, decoded.
    pub password: &'a str,
    /// The host, an IPv6 address without brackets.
    pub host: &'a str,
    /// The port.
    pub port: &'a str,
    /// The database, decoded.
    pub database: &'a str,
    /// The database, as written.
    pub encoded_database: &'a str,
    /// Each parameter, as written.
    pub parameters: Vec<&'a str>,
}

/// In the value of a parameter a slash needs no encoding (RFC 3986, section 3.4).
const RESERVED_IN_VALUE: &AsciiSet = &RESERVED.remove(b'/');

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)?;
        for (index, parameter) in self.parameters.iter().enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            f.write_str(&parameter.written)?;
        }
        Ok(())
    }
}

fn legal(part: &str) -> Cow<'_, str> {
    utf8_percent_encode(part, ILLEGAL_BUT_IN_HOST).into()
}

/// As libpq decodes: a plus sign is a plus sign, and a zero byte ends no text.
fn decode(part: &str) -> Result<String, UrlError> {
    let digits = |tail: &str| tail.len() >= 2 && tail.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if part.split('%').skip(1).any(|tail| !digits(tail)) {
        return Err(UrlError::Percent);
    }
    let text = percent_decode_str(part).decode_utf8().map_err(|_| UrlError::Text)?;
    if text.contains(char::is_control) { Err(UrlError::Control) } else { Ok(text.into_owned()) }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse().is_ok_and(|port: u16| port > 0)
}

fn hosts_of(text: &str) -> Result<Vec<Host>, UrlError> {
    text.split(',')
        .map(|host| {
            let (name, port) = match host.strip_prefix('[') {
                Some(rest) => {
                    let (name, port) = rest.split_once(']').ok_or(UrlError::Delimiter)?;
                    name.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::Delimiter)?;
                    (name, port)
                }
                None => host.split_at(host.find(':').unwrap_or(host.len())),
            };
            let port = match port.strip_prefix(':') {
                Some(port) => port,
                None if port.is_empty() => "",
                None => return Err(UrlError::Delimiter),
            };
            Ok(Host { name: decode(name)?, port: decode(port)? })
        })
        .collect()
}

fn parameter(written: &str) -> Result<Parameter, UrlError> {
    let written = legal(written).into_owned();
    let (name, value) = written.split_once('=').unwrap_or((&written, ""));
    Ok(Parameter { name: decode(name)?, value: decode(value)?, written })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parsed(text: &str) -> PostgresUrl {
        PostgresUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[rstest]
    #[case("postgresql://app:pw@pg.default.svc:5432/shop_prod?sslmode=disable")]
    #[case("postgresql://app.ref:p-w_.~!$&'()*+,;=@pooler.example.com/my-app?pgbouncer=true&schema=public")]
    #[case("postgresql://u:p%2f%40%3A@[2001:db8::7]:6543/a%2Fb?application_name=a+b&options=-c%20search_path%3Dx")]
    #[case("postgresql://u@a:1,[::1]:2,c/d?target_session_attrs=read-write&sslmode=require&sslmode=verify-full")]
    #[case("postgresql://h?user=u&dbname=d&flag")]
    fn the_text_stays_as_it_was_written(#[case] text: &str) {
        assert_eq!(parsed(text).to_string(), text);
        assert_eq!(parsed(&format!("  {text}\n")).to_string(), text);
    }

    #[test]
    fn only_the_old_scheme_and_what_no_url_may_hold_is_written_anew() {
        let url = parsed("postgres://u:p[ ]^\u{e9}%2F@h/d b?a= b");
        assert_eq!(url.to_string(), "postgresql://u:p%5B%20%5D%5E%C3%A9%2F@h/d%20b?a=%20b");
        assert_eq!((url.password(), url.database()), ("p[ ]^\u{e9}/", "d b"));
        assert_eq!(parsed(&url.to_string()), url);
    }

    #[test]
    fn the_parts_are_those_of_libpq() {
        let password = r#"a:b@c/d?e#f[g]h%i&j=k+l m"n\o'p"#;
        let encoded: String = password.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
        let url = parsed(&format!("postgresql://ro%40run:{encoded}@db.shop.svc:6432/ro%2Frun?sslmode=disable"));
        assert_eq!((url.user(), url.password(), url.database()), ("ro@run", password, "ro/run"));
        assert_eq!((url.hosts(), url.ports()), (vec!["db.shop.svc"], vec!["6432"]));
        let colons = parsed("postgresql://u:a:b@h/d");
        assert_eq!((colons.user(), colons.password()), ("u", "a:b"));
    }

    #[rstest]
    #[case("postgresql://u@h/d", &["h"], &["5432"])]
    #[case("postgresql://u@[::1]/d", &["::1"], &["5432"])]
    #[case("postgresql://u@a:1,[::1]:2,c/d", &["a", "::1", "c"], &["1", "2", "5432"])]
    #[case("postgresql://u@a:1/d?host=b", &["b"], &["1"])]
    #[case("postgresql://u@a/d?host=b,c", &["b", "c"], &["5432"])]
    #[case("postgresql://u@a,b/d?port=7", &["a", "b"], &["7"])]
    fn hosts_and_ports(#[case] text: &str, #[case] hosts: &[&str], #[case] ports: &[&str]) {
        let url = parsed(text);
        assert_eq!((url.hosts(), url.ports()), (hosts.to_vec(), ports.to_vec()));
    }

    #[test]
    fn of_a_parameter_that_stands_twice_the_last_counts_and_a_plus_sign_is_one() {
        let url = parsed("postgresql://u:x@h/d?sslmode=disable&a=1+1&sslmode=verify-full&a=2%2B2&password=y&dbname=e");
        assert_eq!((url.parameter("a"), url.tls_mode()), (Some("2+2"), Ok(TlsMode::VerifyFull)));
        assert_eq!((url.password(), url.database()), ("y", "e"));
        assert_eq!(parsed("postgresql://u@h/d?a=1+1").parameter("a"), Some("1+1"));
    }

    #[rstest]
    #[case("", Ok(TlsMode::Prefer))]
    #[case("?sslmode=allow", Ok(TlsMode::Prefer))]
    #[case("?sslmode=verify-ca", Ok(TlsMode::VerifyCa))]
    #[case("?ssl=true", Ok(TlsMode::Require))]
    #[case("?sslmode=disable&ssl=true", Ok(TlsMode::Require))]
    #[case("?ssl=true&sslmode=disable", Ok(TlsMode::Disable))]
    #[case("?sslmode=no-verify", Err(UrlError::TlsMode))]
    fn modes(#[case] query: &str, #[case] expected: Result<TlsMode, UrlError>) {
        assert_eq!(parsed(&format!("postgresql://u@h/d{query}")).tls_mode(), expected);
    }

    #[test]
    fn another_parameter_replaces_all_of_its_name_and_nothing_else() {
        let url = parsed("postgresql://u_1:p-w@h/my_db?sslmode=disable&a=b+c&ssl=true&sslmode=require");
        let changed = url.with(&[("sslmode", "verify-full"), ("sslcert", "/etc/ca.crt")]);
        let expected = "postgresql://u_1:p-w@h/my_db?a=b+c&ssl=true&sslmode=verify-full&sslcert=/etc/ca.crt";
        assert_eq!(changed.to_string(), expected);
        assert_eq!(changed.tls_mode(), Ok(TlsMode::VerifyFull));
        assert_eq!(parsed(expected), changed);
        let without = url.without(&["sslmode", "ssl", "a"]);
        assert_eq!(without.to_string(), "postgresql://u_1:p-w@h/my_db");
    }

    #[rstest]
    #[case("\"postgresql://u:secret@h/d\"", UrlError::Quoted)]
    #[case("'postgresql://u:secret@h/d'", UrlError::Quoted)]
    #[case("postgresql://u:sec\nret@h/d", UrlError::Control)]
    #[case("postgresql://u:sec%0d%0aret@h/d", UrlError::Control)]
    #[case("postgresql://u:sec%00ret@h/d", UrlError::Control)]
    #[case("mysql://u:secret@h/d", UrlError::Scheme)]
    #[case("admin:secret", UrlError::Scheme)]
    #[case("postgres://u:p@secret@h/d", UrlError::Delimiter)]
    #[case("postgres://u:pa/secret@h/d", UrlError::Delimiter)]
    #[case("postgres://u:1234/secret@h/d", UrlError::Delimiter)]
    #[case("postgres://u:1234?secret@h/d", UrlError::Delimiter)]
    #[case("postgres://u:1234#secret@h/d", UrlError::Delimiter)]
    #[case("postgres://u:p@secret?word@h/d", UrlError::Delimiter)]
    #[case("postgres://u:secret@[::1/d", UrlError::Delimiter)]
    #[case("postgres://u:secret@[::1]5432/d", UrlError::Delimiter)]
    #[case("postgres://u:secret@[secret]/d", UrlError::Delimiter)]
    #[case("postgres://u:secret@a b/d", UrlError::Delimiter)]
    #[case("postgres://u:secret%@h/d", UrlError::Percent)]
    #[case("postgres://u:secret%4@h/d", UrlError::Percent)]
    #[case("postgres://u:secret@h/d?a=%zz", UrlError::Percent)]
    #[case("postgres://u:secret%ff@h/d", UrlError::Text)]
    #[case("postgres://u:secret@/d", UrlError::NoHost)]
    #[case("postgres:///d", UrlError::NoHost)]
    #[case("postgres://u:secret@a,,b/d", UrlError::NoHost)]
    #[case("postgres://u:secret@%2Fvar%2Frun/d", UrlError::Socket)]
    #[case("postgres://u:secret@h/d?host=/var/run", UrlError::Socket)]
    #[case("postgres://u:secret@h:port/d", UrlError::Port)]
    #[case("postgres://u:secret@h:+1/d", UrlError::Port)]
    #[case("postgres://u:secret@h:0/d", UrlError::Port)]
    #[case("postgres://u:secret@h:65536/d", UrlError::Port)]
    #[case("postgres://u:secret@h/d?port=1,2", UrlError::Ports)]
    #[case("postgres://h/d", UrlError::NoUser)]
    #[case("postgres://u:secret@h", UrlError::NoDatabase)]
    #[case("postgres://u:secret@h/?sslmode=require", UrlError::NoDatabase)]
    fn what_is_wrong_is_told_without_any_part_of_it(#[case] text: &str, #[case] expected: UrlError) {
        let error = PostgresUrl::parse(text).map(|url| url.to_string()).unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("1234"), "{error}");
    }

    #[test]
    fn a_url_of_known_parts_reads_back() {
        let url = PostgresUrl::new("h", 5432, ("my_user", "p@/:#?%&"), "my_db", TlsMode::Disable);
        assert_eq!(parsed(&url.to_string()), url);
        assert_eq!(url.to_string(), "postgresql://my_user:p%40%2F%3A%23%3F%25%26@h:5432/my_db?sslmode=disable");
        assert_eq!((url.user(), url.password(), url.database()), ("my_user", "p@/:#?%&", "my_db"));
        assert!(!format!("{url:?}").contains("my_user"));
    }
}
