//! Checks that a Redis or Valkey server can be used.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, TlsCertificates};

use super::error::{Cause, ServiceError, causes, root_cause};
use super::tls;

/// A server to connect to.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisTarget {
    /// `redis(s)://user:password@host:port/database`, the password percent-encoded.
    pub url: String,
    /// The authorities (PEM) to trust. Left out: the public ones.
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

/// Connects, logs in and waits for an answer, all within the time-out.
pub async fn check(target: &RedisTarget, timeout: Duration) -> Result<RedisInfo, ServiceError> {
    let client = client(target)?;
    let subject = format!("Redis at {}", client.get_connection_info().addr());
    match tokio::time::timeout(timeout, ask(&client, timeout)).await {
        Ok(answer) => answer.map_err(|error| classify(subject, &error)),
        Err(_) => {
            Err(ServiceError::new(Cause::Unreachable, subject, format!("no answer within {} s", timeout.as_secs_f32())))
        }
    }
}

fn client(target: &RedisTarget) -> Result<Client, ServiceError> {
    // What the library says about a bad URL may quote the password.
    let unreadable = |_: RedisError| {
        let detail = "the URL cannot be read; write redis://user:password@host:port with the password percent-encoded";
        ServiceError::new(Cause::Other, "Redis", detail)
    };
    if !target.url.starts_with("rediss:") {
        return Client::open(target.url.as_str()).map_err(unreadable);
    }
    let authorities = target.ca.as_deref().map(tls::parse).transpose();
    let authorities = authorities.map_err(|error| ServiceError::new(Cause::Tls, "Redis", error.to_string()))?;
    let root_cert = authorities.map(|certificates| tls::to_pem(&certificates).into_bytes());
    Client::build_with_tls(target.url.as_str(), TlsCertificates { client_tls: None, root_cert }).map_err(unreadable)
}

async fn ask(client: &Client, timeout: Duration) -> Result<RedisInfo, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout)).set_response_timeout(Some(timeout));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").query_async::<()>(&mut connection).await?;
    Ok(RedisInfo { version: version(&mut connection).await })
}

/// A user of an ACL may be forbidden to ask; the server is as good without.
async fn version(connection: &mut MultiplexedConnection) -> Option<String> {
    let text: String = redis::cmd("INFO").arg("server").query_async(connection).await.ok()?;
    // Valkey also gives the version of Redis that it resembles, so its own goes first.
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    field("valkey_version:").or_else(|| field("redis_version:"))
}

fn classify(subject: String, error: &RedisError) -> ServiceError {
    if let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return ServiceError::new(Cause::Tls, subject, tls::advice(tls));
    }
    let cause = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => Cause::Authentication,
        (_, Some("NOPERM")) => Cause::AccessDenied,
        (ErrorKind::Io, _) | (_, Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN")) => Cause::Unreachable,
        _ => Cause::Other,
    };
    let detail = if error.is_io_error() { root_cause(error) } else { error.to_string() };
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
