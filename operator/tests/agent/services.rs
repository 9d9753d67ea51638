//! What the controller asks services, and what it hears when something is wrong.

use std::time::Duration;

use rorun_e2e::engine::redis_cluster::RedisCluster;
use rorun_operator::services::bucket::{BucketClient, BucketTarget, Created, Timeouts, Versioning};
use rorun_operator::services::postgres::{self, PostgresTarget};
use rorun_operator::services::redis::{self, RedisTarget};
use rorun_operator::services::{Network, ServiceError};

use crate::scenario::Scenario;
use crate::servers::{PASSWORD, Servers, by_keys};

const TIMEOUT: Duration = Duration::from_secs(5);

fn variant<T>(result: Result<T, ServiceError>) -> &'static str {
    let Err(error) = result else { return "Ok" };
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error}");
    match error {
        ServiceError::Unreachable { .. } => "Unreachable",
        ServiceError::Refused { .. } => "Refused",
        ServiceError::TlsFailed { .. } => "TlsFailed",
        ServiceError::AuthenticationFailed { .. } => "AuthenticationFailed",
        ServiceError::RoleRefused { .. } => "RoleRefused",
        ServiceError::Missing { .. } => "Missing",
        ServiceError::AccessDenied { .. } => "AccessDenied",
        ServiceError::Unsupported { .. } => "Unsupported",
        ServiceError::Other { .. } => "Other",
    }
}

#[tokio::test]
async fn postgres_is_checked() {
    let scenario = Scenario::new("checked").await;
    let create = "CREATE ROLE outsider LOGIN PASSWORD 'outsider'; REVOKE CONNECT ON DATABASE checked FROM PUBLIC";
    scenario.sql(create).await;
    let port = scenario.servers.postgres_port;
    let ca = std::fs::read_to_string(&scenario.servers.database_ca_file).expect("authority");
    let version = scenario.sql("SHOW server_version").await;
    let target = PostgresTarget { url: scenario.servers.database_url("checked"), ca: None, client: None };
    let info = postgres::check(&target, TIMEOUT).await.expect("info");
    assert!(version.starts_with(&info.version) && !info.version.is_empty(), "{info:?}");
    let address = format!("postgres:{PASSWORD}@localhost:{port}");
    let other_name = format!("postgres:{PASSWORD}@other.invalid:{port}");
    for (authority, query, ca, expected) in [
        (address.as_str(), "", None, "Ok"),
        (&address, "sslmode=require", None, "Ok"),
        (&address, "sslmode=require", Some(&ca), "Ok"),
        (&address, "sslmode=verify-full", Some(&ca), "Ok"),
        (&address, "sslmode=verify-full", None, "TlsFailed"),
        (&other_name, "hostaddr=127.0.0.1&sslmode=verify-full", Some(&ca), "TlsFailed"),
        (&other_name, "hostaddr=127.0.0.1&sslmode=verify-ca", Some(&ca), "Ok"),
        (&other_name, "hostaddr=127.0.0.1&sslmode=verify-ca", None, "TlsFailed"),
        (&address, "sslmode=verify-full&sslmode=disable", None, "Ok"),
        (&address, "sslmode=disable&sslmode=verify-full", None, "TlsFailed"),
        (&address, "sslmode=disable&application_name=a+b&schema=public", None, "Ok"),
        (&format!("postgres:{PASSWORD}@127.0.0.1:1,localhost:{port}"), "target_session_attrs=read-write", None, "Ok"),
        (&format!("postgres:wrong@localhost:{port}"), "", None, "AuthenticationFailed"),
        (&format!("postgres@localhost:{port}"), "", None, "AuthenticationFailed"),
        (&format!("outsider:outsider@localhost:{port}"), "", None, "AccessDenied"),
    ] {
        let url = format!("postgres://{authority}/checked?{query}");
        let answer = postgres::check(&PostgresTarget { url, ca: ca.cloned(), client: None }, TIMEOUT).await;
        assert_eq!(variant(answer.clone()), expected, "{authority} {query} {answer:?}");
    }
    let missing = PostgresTarget { url: scenario.servers.database_url("nowhere"), ca: None, client: None };
    assert_eq!(variant(postgres::check(&missing, TIMEOUT).await), "Missing");
}

#[tokio::test]
async fn redis_is_checked() {
    let servers = Servers::shared().await;
    let ca = std::fs::read_to_string(&servers.ca_file).expect("authority");
    let (port, tls_port) = (servers.redis_port, servers.redis_tls_port);
    for (url, ca, expected) in [
        (format!("redis://:{PASSWORD}@127.0.0.1:{port}"), None, "Ok"),
        (format!("redis://narrow:narrow-password@127.0.0.1:{port}"), None, "Ok"),
        (format!("rediss://:{PASSWORD}@localhost:{tls_port}/1"), Some(&ca), "Ok"),
        (format!("rediss://:{PASSWORD}@localhost:{tls_port}"), None, "TlsFailed"),
        (format!("redis://:wrong@127.0.0.1:{port}"), None, "AuthenticationFailed"),
        (format!("redis://127.0.0.1:{port}"), None, "AuthenticationFailed"),
        (format!("redis://:{PASSWORD}@127.0.0.1:1"), None, "Unreachable"),
    ] {
        let answer = redis::check(&RedisTarget { url: url.clone(), ca: ca.cloned() }, TIMEOUT).await;
        assert_eq!(variant(answer.clone()), expected, "{url} {answer:?}");
        if let Ok(info) = answer {
            assert_eq!(info.version.is_none(), url.contains("narrow"), "{url} {info:?}");
        }
    }
}

#[tokio::test]
async fn redis_without_encryption_at_a_port_that_asks_for_it_is_told_soon() {
    let servers = Servers::shared().await;
    let url = format!("redis://:{PASSWORD}@localhost:{}", servers.redis_tls_port);
    let begun = std::time::Instant::now();
    let answer = redis::check(&RedisTarget { url, ca: None }, Duration::from_secs(10)).await;
    let took = begun.elapsed();
    assert_eq!(variant(answer.clone()), "TlsFailed");
    assert!(
        answer.expect_err("TLS").to_string().contains("write rediss:// instead") && took.as_secs() < 10,
        "{took:?}"
    );
}

#[tokio::test]
async fn redis_says_whether_it_is_a_cluster_and_what_it_does_when_it_is_full() {
    let servers = Servers::shared().await;
    let ask = async |url: String| redis::check(&RedisTarget { url, ca: None }, TIMEOUT).await.expect("an answer");
    let alone = ask(format!("redis://:{PASSWORD}@127.0.0.1:{}", servers.redis_port)).await;
    assert_eq!((alone.cluster, alone.shards, alone.eviction), (Some(false), None, Some("noeviction")));
    let narrow = ask(format!("redis://narrow:narrow-password@127.0.0.1:{}", servers.redis_port)).await;
    assert_eq!((narrow.cluster, narrow.eviction), (None, None), "it will not say");
    let cluster = tokio::task::spawn_blocking(RedisCluster::start).await.expect("a task").expect("a cluster");
    for url in cluster.urls() {
        let node = ask(url).await;
        assert_eq!((node.cluster, node.shards), (Some(true), Some(3)));
    }
}

#[tokio::test]
async fn a_bucket_is_made_and_checked() {
    let servers = Servers::shared().await;
    let client = |target: &BucketTarget| BucketClient::new(target, Timeouts::CHECK).expect("client");
    let target = servers.bucket("made");
    let bucket = client(&target);
    assert_eq!(variant(bucket.check(None).await), "Missing");
    for _ in 0..2 {
        bucket.create().await.expect("create");
    }
    bucket.check(None).await.expect("check");
    assert_eq!(bucket.versioning().await, Ok(Versioning::Off));
    bucket.enable_versioning().await.expect("versioning");
    assert_eq!(bucket.versioning().await, Ok(Versioning::Enabled));
    assert_eq!(bucket.create_object("a/b", vec![1]).await, Ok(Created::Now));
    // The answer to the first attempt may be lost, and the second finds what the first wrote.
    assert_eq!(bucket.create_object("a/b", vec![1]).await, Ok(Created::Now));
    assert_eq!(bucket.create_object("a/b", vec![2]).await, Ok(Created::Refused));
    assert_eq!((bucket.get("a/b").await, bucket.get("a/c").await), (Ok(Some(vec![1])), Ok(None)));
    assert_eq!((bucket.size("a/b").await, bucket.size("a/c").await), (Ok(Some(1)), Ok(None)));
    for _ in 0..2 {
        bucket.delete("a/b").await.expect("delete");
    }
    assert_eq!(bucket.list("a/").await, Ok(Vec::new()));

    let changed = |change: fn(&mut BucketTarget)| {
        let mut target = target.clone();
        change(&mut target);
        client(&target)
    };
    for (bucket, expected) in [
        (changed(|target| target.keys = Some(by_keys("owner", "wrong"))), "AuthenticationFailed"),
        (changed(|target| target.keys = Some(by_keys("nobody", PASSWORD))), "AuthenticationFailed"),
        (changed(|target| target.keys = Some(by_keys("stranger", PASSWORD))), "AccessDenied"),
        (changed(|target| target.endpoint = "http://127.0.0.1:1".to_owned()), "Unreachable"),
    ] {
        let answer = bucket.check(None).await;
        assert_eq!(variant(answer.clone()), expected, "{bucket:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_bucket_behind_a_private_authority_is_trusted_only_with_it() {
    let servers = Servers::shared().await;
    let mut target = servers.bucket("private-authority");
    target.endpoint = format!("https://localhost:{}", servers.s3_tls_port);
    assert_eq!(variant(BucketClient::new(&target, Timeouts::CHECK).expect("client").create().await), "TlsFailed");
    target.ca = Some(std::fs::read_to_string(&servers.ca_file).expect("authority"));
    let bucket = BucketClient::new(&target, Timeouts::CHECK).expect("client");
    bucket.create().await.expect("create");
    bucket.put("key", vec![7; 100_000]).await.expect("put");
    assert_eq!(bucket.get("key").await, Ok(Some(vec![7; 100_000])));
    // As the operator asks, which does not trust the server.
    let network = Network::guarded(Vec::new(), true);
    let asked = BucketClient::through(&network, &target).expect("client");
    assert_eq!(variant(asked.check(None).await), "Ok");
    asked.enable_versioning().await.expect("versioning");
    let untrusted = BucketTarget { ca: None, ..target.clone() };
    assert_eq!(variant(BucketClient::through(&network, &untrusted).expect("client").check(None).await), "TlsFailed");
    let refused = BucketClient::through(&Network::guarded(Vec::new(), false), &target).expect("client");
    assert_eq!(variant(refused.check(None).await), "Refused");
    target.ca = Some("no certificate".to_owned());
    assert_eq!(variant(BucketClient::new(&target, Timeouts::CHECK)), "TlsFailed");
}
