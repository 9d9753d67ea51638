//! Checks that a Redis or Valkey server can be used.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisConnectionInfo, RedisError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{Cause, ServiceError, broken};
use super::network::{Bounded, Network, has_control_characters};
use super::tls::{self, Verify};

/// A server to connect to.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisTarget {
    /// `redis(s)://user:password@host:port/database`, the password percent-encoded.
    pub url: String,
    /// The authorities (PEM) to trust. Defaults to the public ones.
    pub ca: Option<String>,
}

impl fmt::Debug for RedisTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RedisTarget").finish_non_exhaustive()
    }
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisInfo {
    /// The version, where the user may ask for it.
    pub version: Option<String>,
}

/// Connects from wherever this runs, logs in and waits for an answer, all within the time-out.
pub async fn check(target: &RedisTarget, timeout: Duration) -> Result<RedisInfo, ServiceError> {
    check_through(&Network::open(), target, timeout).await
}

/// As [`check`], to where the network leads.
pub async fn check_through(
    network: &Network,
    target: &RedisTarget,
    timeout: Duration,
) -> Result<RedisInfo, ServiceError> {
    // What the library says about a bad URL may quote the password.
    let unreadable = "the URL cannot be read; write redis://user:password@host:port with the password percent-encoded";
    let fault = |detail: &str| ServiceError::new(Cause::Other, "Redis", detail);
    if has_control_characters(&target.url) {
        return Err(fault("the URL holds a control character, which no part of it needs"));
    }
    let client = Client::open(target.url.as_str()).map_err(|_| fault(unreadable))?;
    let info = client.get_connection_info();
    let (host, port, tls) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host, *port, None),
        ConnectionAddr::TcpTls { host, port, insecure: false, .. } => (host, *port, Some(tls_of(target)?)),
        _ => return Err(fault(unreadable)),
    };
    let subject = format!("Redis at {}", info.addr());
    let asked = async {
        let stream = network.connect(host, port).await.map_err(io::Error::other)?;
        match tls {
            None => ask(info.redis_settings(), stream, timeout).await,
            Some(tls) => ask(info.redis_settings(), encrypted(tls, host, stream).await?, timeout).await,
        }
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(answer) => answer.map_err(|error| classify(subject, &error)),
        Err(_) => {
            Err(ServiceError::new(Cause::Unreachable, subject, format!("no answer within {} s", timeout.as_secs_f32())))
        }
    }
}

fn tls_of(target: &RedisTarget) -> Result<ClientConfig, ServiceError> {
    tls::client(Verify::ChainAndName, target.ca.as_deref())
        .map_err(|error| ServiceError::new(Cause::Tls, "Redis", error.to_string()))
}

async fn encrypted(tls: ClientConfig, host: &str, stream: Bounded) -> Result<TlsStream<Bounded>, RedisError> {
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    Ok(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?)
}

async fn ask(
    settings: &RedisConnectionInfo,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    timeout: Duration,
) -> Result<RedisInfo, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
    let (mut connection, driver) = MultiplexedConnection::new_with_config(settings, stream, config).await?;
    let asked = async {
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(RedisInfo { version: version(&mut connection).await })
    };
    tokio::select! {
        answer = asked => answer,
        () = driver => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// A user of an ACL may be forbidden to ask; the server is as good without.
async fn version(connection: &mut MultiplexedConnection) -> Option<String> {
    let text: String = redis::cmd("INFO").arg("server").query_async(connection).await.ok()?;
    // Valkey also gives the version of Redis that it resembles, so its own goes first.
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    field("valkey_version:").or_else(|| field("redis_version:"))
}

fn classify(subject: String, error: &RedisError) -> ServiceError {
    let (cause, detail) = match (error.code(), error.kind()) {
        (Some("NOAUTH"), _) => (Cause::Authentication, "it asks for a password, and the URL has none"),
        (Some("WRONGPASS"), _) | (_, ErrorKind::AuthenticationFailed) => {
            (Cause::Authentication, "it refuses the user or the password of the URL")
        }
        (Some("NOPERM"), _) => (Cause::AccessDenied, "this user may not run the command PING"),
        (Some("DENIED"), _) => (Cause::AccessDenied, "it is in protected mode, and lets in only its own host"),
        (Some("LOADING"), _) => (Cause::Unreachable, "it is loading its data"),
        (Some("MASTERDOWN"), _) => (Cause::Unreachable, "it has lost its primary"),
        (Some("CLUSTERDOWN"), _) => (Cause::Unreachable, "its cluster is down"),
        (Some(_), _) => (Cause::Other, "it answers the login, the choice of the database or PING with an error"),
        (None, _) => {
            let unclear = || (Cause::Other, "it does not answer as Redis does".to_owned());
            let (cause, detail) = broken(error).unwrap_or_else(unclear);
            return ServiceError::new(cause, subject, detail);
        }
    };
    ServiceError::new(cause, subject, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> RedisTarget {
        RedisTarget { url: url.to_owned(), ca: None }
    }

    #[tokio::test]
    async fn a_bad_url_is_not_repeated() {
        for url in ["redis://:secret word@h:x/", "http://u:secret@h", "rediss://u:secret@h:1/#insecure"] {
            let text = check(&target(url), Duration::from_secs(1)).await.expect_err(url).to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let error = check(&target("redis://:secret@127.0.0.1:1"), Duration::from_secs(5)).await.expect_err("closed");
        assert!(matches!(&error, ServiceError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().starts_with("failed to reach Redis at 127.0.0.1:1: "), "{error}");
        assert!(!format!("{error:?}{:?}", target("redis://:secret@h")).contains("secret"));
    }

    #[tokio::test]
    async fn a_bad_authority_is_a_tls_failure() {
        let target = RedisTarget { url: "rediss://h:1".to_owned(), ca: Some("no certificate".to_owned()) };
        let error = check(&target, Duration::from_secs(1)).await.expect_err("bad authority");
        assert!(matches!(error, ServiceError::TlsFailed { .. }), "{error:?}");
    }
}
