//! The values that 0.1.0 gave the application, and the rule which of them the hash of the pods still covers.
//!
//! 0.1.0 parsed URLs and formatted them anew: with a port where none was, and with more percent-encoding than clients need. Pods
//! carry a hash of these values, so another text replaces them. Where every client reads the text of 0.1.0 as it reads the
//! user's, the hash stays that of 0.1.0 and so do the pods, while the Secret has the user's text. Where a client reads it
//! otherwise, the pods have a wrong value and the operator replaces them.

use std::{collections::BTreeMap, net::Ipv6Addr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{DatabaseAccess, RedisAccess};
use crate::{
    api::v1alpha1::UrlStyle,
    contract::{PostgresUrl, Written},
};

/// The characters that 0.1.0 encoded in the value of a parameter.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The values of 0.1.0 beside those of today.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    /// Values that differ and mean the same, by key: these are hashed.
    pub(super) hashed: BTreeMap<&'static str, String>,
    /// Whether a value of 0.1.0 was wrong, so that its pods are replaced.
    pub(super) corrected: bool,
}

impl Released {
    /// Compares. Nothing differs where 0.1.0 refused a URL: it made no pods then.
    pub(super) fn new(database: &DatabaseAccess, redis: &RedisAccess, data: &BTreeMap<&'static str, String>) -> Self {
        let urls = [
            ("DATABASE_URL", &database.url.url),
            ("DIRECT_URL", &database.direct.url),
            ("DATABASE_READ_URL", &database.read.url),
        ];
        let texts: Option<Vec<_>> = urls.into_iter().map(|(key, url)| Some((key, url, text(url)?))).collect();
        let (Some(texts), Some(parts)) = (texts, parts(&database.direct.url)) else { return Self::default() };
        // The spec asks for another style, so its text is new in any case.
        let texts = texts.into_iter().filter(|_| database.style == UrlStyle::Libpq);
        let texts = texts.map(|(key, url, text)| (key, text, means_the_same(url)));
        let parts = parts.into_iter().map(|(key, value)| (key, value, key == "PGSSLMODE" && is_ssl_true(database)));
        let redis = ("REDIS_HOST", bracketed(&redis.host), false);
        let mut released = Self::default();
        for (key, value, same) in texts.chain(parts).chain([redis]) {
            if data.get(key).is_none_or(|today| *today == value) {
                continue;
            }
            if same {
                released.hashed.insert(key, value);
            } else {
                released.corrected = true;
            }
        }
        released
    }
}

/// The URL as 0.1.0 wrote it. `None`: it was refused.
fn text(url: &PostgresUrl) -> Option<String> {
    let of = understood(url)?;
    let encode = |part| utf8_percent_encode(part, NON_ALPHANUMERIC);
    let (user, password, database) = (encode(of.user), encode(of.password), encode(of.database));
    let mut text = format!("postgresql://{user}:{password}@{}:{}/{database}", bracketed(of.host), of.port);
    for (index, parameter) in of.parameters.iter().enumerate() {
        let (name, value) = form(parameter);
        text.push(if index == 0 { '?' } else { '&' });
        text.extend([name.as_str(), "="]);
        text.extend(utf8_percent_encode(&value, VALUE));
    }
    Some(text)
}

/// The parts of the URL as 0.1.0 read them.
fn parts(url: &PostgresUrl) -> Option<[(&'static str, String); 6]> {
    let of = understood(url)?;
    let mode = of.parameters.iter().map(|parameter| form(parameter)).find(|(name, _)| name == "sslmode");
    Some([
        ("PGHOST", bracketed(of.host)),
        ("PGPORT", of.port.to_owned()),
        ("PGUSER", of.user.to_owned()),
        ("PGPASSWORD", of.password.to_owned()),
        ("PGDATABASE", of.database.to_owned()),
        ("PGSSLMODE", mode.map_or_else(|| "prefer".to_owned(), |(_, value)| value)),
    ])
}

/// 0.1.0 knew one host, and looked for user and database before the parameters alone.
fn understood(url: &PostgresUrl) -> Option<Written<'_>> {
    url.written().filter(|of| ![of.host, of.user, of.database].contains(&""))
}

/// Whether every client reads the text of 0.1.0 as it reads the user's. User, password and parameters are decoded by all. Some,
/// such as `SQLAlchemy` up to 2.0, look up the name of the database as it is written; and 0.1.0 took a plus sign for a space,
/// which it is in forms and not in these URLs.
fn means_the_same(url: &PostgresUrl) -> bool {
    let Some(of) = url.written() else { return false };
    let database = utf8_percent_encode(of.database, NON_ALPHANUMERIC).to_string();
    database == of.encoded_database && !of.parameters.iter().any(|parameter| parameter.contains('+'))
}

/// 0.1.0 did not know that libpq takes `ssl=true` for `sslmode=require`: with what it said, `prefer`, a server that speaks TLS
/// is spoken to in TLS all the same.
fn is_ssl_true(database: &DatabaseAccess) -> bool {
    let url = &database.direct.url;
    url.parameter("ssl") == Some("true") && url.parameter("sslmode").is_none()
}

/// A parameter, decoded as one of a form.
fn form(parameter: &str) -> (String, String) {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    (decode(name), decode(value))
}

/// An IPv6 address in brackets, as 0.1.0 wrote it everywhere.
fn bracketed(host: &str) -> String {
    host.parse::<Ipv6Addr>().map_or_else(|_| host.to_owned(), |address| format!("[{address}]"))
}
