//! Checks that a Redis or Valkey server can be used.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{Cause, ServiceError, broken, causes};
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

/// What a server says about itself, as far as the user may ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisInfo {
    /// The version.
    pub version: Option<String>,
    /// Whether it is in cluster mode.
    pub cluster: Option<bool>,
    /// How many nodes of the cluster hold slots.
    pub shards: Option<u32>,
    /// What it does when its memory is full, as `maxmemory-policy` names it.
    pub eviction: Option<&'static str>,
    /// Whether it could not write its data to its disk, after which it refuses writes.
    pub not_saved: bool,
    /// How long the answer to one command took.
    pub latency: Duration,
}

/// The values of `maxmemory-policy`; whoever named the server chose any other word of it.
const POLICIES: [&str; 8] = [
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
];

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
    let plain = tls.is_none();
    let asked = async {
        let stream = network.connect(host, port).await.map_err(io::Error::other)?;
        match tls {
            None => ask(info.redis_settings(), stream, timeout).await,
            Some(tls) => ask(info.redis_settings(), encrypted(tls, host, stream).await?, timeout).await,
        }
    };
    // A server that waits for TLS is silent or hangs up; what is left of the time is for finding that out.
    let limit = if plain { timeout.mul_f32(0.7) } else { timeout };
    let failed = match tokio::time::timeout(limit, asked).await {
        Ok(Ok(info)) => return Ok(info),
        Ok(Err(error)) if error.code().is_some() => return Err(classify(subject, &error)),
        Ok(Err(error)) => classify(subject.clone(), &error),
        Err(_) => {
            let detail = format!("no answer within {} s", limit.as_secs_f32());
            ServiceError::new(Cause::Unreachable, subject.clone(), detail)
        }
    };
    let speaks = speaks_tls(network, host, port);
    if plain && tokio::time::timeout(timeout.mul_f32(0.25), speaks).await.unwrap_or(false) {
        let detail = "it speaks TLS, and the URL starts with redis://; write rediss:// instead";
        return Err(ServiceError::new(Cause::Tls, subject, detail));
    }
    Err(failed)
}

/// Whether a server answers the beginning of TLS, whatever its certificate is.
async fn speaks_tls(network: &Network, host: &str, port: u16) -> bool {
    let (Ok(stream), Ok(tls)) = (network.connect(host, port).await, tls::client(Verify::ChainAndName, None)) else {
        return false;
    };
    match encrypted(tls, host, stream).await {
        Ok(_) => true,
        Err(error) => causes(&error).find_map(|cause| cause.downcast_ref::<rustls::Error>()).is_some_and(|error| {
            // What is no record of TLS is a message that cannot be read.
            !matches!(error, rustls::Error::InvalidMessage(_))
        }),
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
        let begun = Instant::now();
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        let latency = begun.elapsed();
        let said = RedisInfo { latency, ..said(&mut connection).await };
        if said.cluster == Some(true) {
            return cluster(&mut connection, said).await;
        }
        Ok(said)
    };
    tokio::select! {
        answer = asked => answer,
        () = driver => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// A user of an ACL may be forbidden to ask; the server is as good without. One command tells all, since some providers count them.
async fn said(connection: &mut MultiplexedConnection) -> RedisInfo {
    let Ok(text) = redis::cmd("INFO").query_async::<String>(connection).await else { return RedisInfo::default() };
    // Valkey also gives the version of Redis that it resembles, so its own goes first.
    let version = field(&text, "valkey_version:").or_else(|| field(&text, "redis_version:"));
    let policy = field(&text, "maxmemory_policy:");
    RedisInfo {
        version: version.map(str::to_owned),
        not_saved: ["rdb_last_bgsave_status:", "aof_last_write_status:"]
            .iter()
            .any(|name| field(&text, name) == Some("err")),
        latency: Duration::ZERO,
        cluster: field(&text, "cluster_enabled:").map(|enabled| enabled == "1"),
        shards: None,
        eviction: POLICIES.into_iter().find(|known| policy == Some(*known)),
    }
}

/// What the node knows of its cluster, without which it serves nothing.
async fn cluster(connection: &mut MultiplexedConnection, said: RedisInfo) -> Result<RedisInfo, RedisError> {
    let Ok(text) = redis::cmd("CLUSTER").arg("INFO").query_async::<String>(connection).await else { return Ok(said) };
    if field(&text, "cluster_state:") == Some("fail") {
        return Err(RedisError::from((ErrorKind::Server(ServerErrorKind::ClusterDown), "its cluster is down")));
    }
    let shards = field(&text, "cluster_size:").and_then(|size| size.parse().ok());
    Ok(RedisInfo { shards, ..said })
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
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
