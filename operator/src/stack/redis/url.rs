//! The URL of a Redis.

use percent_encoding::percent_decode_str;

/// The parts of `redis://user:password@host:port/database`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RedisUrl {
    /// Whether it starts with `rediss://`.
    pub(super) tls: bool,
    /// Host name or address, an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Decoded.
    pub(super) password: String,
    /// The number of the database. What is no number is the server's to refuse.
    pub(super) database: i64,
}

/// Why a URL cannot be used, to follow "the value". None of it repeats a part of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RedisUrlError {
    #[error("begins with a quotation mark, which some tools keep from an .env file: remove the quotation marks")]
    Quoted,
    #[error("has a line break or another control character in it: remove it")]
    Control,
    #[error("must start with redis:// or rediss://")]
    Scheme,
    #[error(
        "is not a URL: reserved characters in the password must be percent-encoded, e.g. / as %2F, # as %23, ? as %3F, @ as %40"
    )]
    Delimiter,
    #[error("names no host, as in rediss://user:password@host:6379/0")]
    NoHost,
    #[error("has a user or a password that is not UTF-8 text")]
    Text,
}

impl RedisUrl {
    pub(super) fn parse(text: &str) -> Result<Self, RedisUrlError> {
        if text.starts_with(['"', '\'']) {
            return Err(RedisUrlError::Quoted);
        }
        if text.contains(char::is_control) {
            return Err(RedisUrlError::Control);
        }
        let tls = text.starts_with("rediss://");
        let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
        let rest = rest.ok_or(RedisUrlError::Scheme)?;
        // A delimiter that is part of the password ends the host's part early, and what stands before it would be taken for host
        // and port. The at sign behind gives it away.
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if rest.contains('#') || rest.matches('@').count() != usize::from(authority.contains('@')) {
            return Err(RedisUrlError::Delimiter);
        }
        let url = url::Url::parse(text).map_err(|error| match error {
            url::ParseError::EmptyHost => RedisUrlError::NoHost,
            _ => RedisUrlError::Delimiter,
        })?;
        let host = match url.host() {
            Some(url::Host::Ipv6(address)) => address.to_string(),
            _ => url.host_str().filter(|host| !host.is_empty()).ok_or(RedisUrlError::NoHost)?.to_owned(),
        };
        decode(url.username())?;
        let password = decode(url.password().unwrap_or_default())?;
        let database = url.path().trim_matches('/').parse().unwrap_or(0);
        Ok(Self { tls, host, port: url.port().unwrap_or(6379), password, database })
    }
}

/// A line break in a password would end one command of the protocol and begin another.
fn decode(part: &str) -> Result<String, RedisUrlError> {
    let text = percent_decode_str(part).decode_utf8().map_err(|_| RedisUrlError::Text)?;
    if text.contains(char::is_control) { Err(RedisUrlError::Control) } else { Ok(text.into_owned()) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("redis://cache", false, "cache", 6379, "")]
    #[case("redis://:4711%23qx@cache.example.com:6380/0", false, "cache.example.com", 6380, "4711#qx")]
    #[case("rediss://default:a%2Fb%3F%40@[2001:db8::7]:6380?protocol=resp3", true, "2001:db8::7", 6380, "a/b?@")]
    fn parts(#[case] text: &str, #[case] tls: bool, #[case] host: &str, #[case] port: u16, #[case] password: &str) {
        let url = RedisUrl::parse(text).unwrap();
        assert_eq!((url.tls, &*url.host, url.port, &*url.password), (tls, host, port, password));
    }

    #[rstest]
    #[case("redis://default:4711#qx@cache.example.com:6379/0", RedisUrlError::Delimiter)]
    #[case("redis://default:4711?qx@cache.example.com:6379/0", RedisUrlError::Delimiter)]
    #[case("rediss://default:4711?qx@cache.example.com:6379/0", RedisUrlError::Delimiter)]
    #[case("redis://default:4711/qx@cache.example.com:6379/0", RedisUrlError::Delimiter)]
    #[case("redis://default:4711@qx@cache.example.com:6379/0", RedisUrlError::Delimiter)]
    #[case("redis://default:qx4711#@cache.example.com", RedisUrlError::Delimiter)]
    #[case("redis://:4711#qx", RedisUrlError::Delimiter)]
    #[case("redis://qx4711:port/0", RedisUrlError::Delimiter)]
    #[case("\"redis://default:4711qx@cache\"", RedisUrlError::Quoted)]
    #[case("'redis://default:4711qx@cache'", RedisUrlError::Quoted)]
    #[case("redis://default:4711%0d%0aqx@cache", RedisUrlError::Control)]
    #[case("redis://4711%0Aqx:p@cache", RedisUrlError::Control)]
    #[case("redis://default:4711\nqx@cache", RedisUrlError::Control)]
    #[case("redis://default:4711%ffqx@cache", RedisUrlError::Text)]
    #[case("http://default:4711qx@cache", RedisUrlError::Scheme)]
    #[case("4711qx:secret", RedisUrlError::Scheme)]
    #[case("redis://default:4711qx@/0", RedisUrlError::NoHost)]
    fn what_is_wrong_is_told_without_any_part_of_it(#[case] text: &str, #[case] expected: RedisUrlError) {
        let error = RedisUrl::parse(text).err().unwrap();
        assert_eq!(error, expected, "{text}");
        let words = format!("{error} {error:?}");
        assert!(!words.contains("4711") && !words.contains("qx"), "{words}");
    }
}
