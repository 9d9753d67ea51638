//! Services asked from the place of the pods: real servers, a gateway before them that takes single rights away, and what is left in
//! the bucket.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rorun_operator::contract::{
    self, PreflightFinding, PreflightOutcome, PreflightVerdict, ServiceFacts, preflight_key,
};
use rorun_operator::services::ServiceError;
use rorun_operator::services::bucket::{BucketClient, BucketTarget, Timeouts};
use rstest::rstest;
use serde_json::json;

use crate::gateway::{Gateway, Passed};
use crate::moto::Moto;
use crate::servers::{PASSWORD, Servers, by_keys, log_in};

const UID: &str = "6f1f3a5c-0000-4000-8000-000000000001";

/// How a run ended.
struct Run {
    code: Option<i32>,
    outcome: PreflightOutcome,
    took: Duration,
}

impl Run {
    fn failed(&self, target: &str) -> (&str, &str) {
        match self.outcome.of(target) {
            Some(PreflightVerdict::Failed(PreflightFinding { reason, message })) if self.code == Some(1) => {
                (reason, message)
            }
            verdict => panic!("{:?} {verdict:?}", self.code),
        }
    }

    fn passed(&self, target: &str) -> (&[PreflightFinding], Option<&ServiceFacts>) {
        match self.outcome.of(target) {
            Some(PreflightVerdict::Passed { findings, facts }) => (findings, facts.as_ref()),
            verdict => panic!("{:?} {verdict:?}", self.code),
        }
    }
}

/// `agent preflight` as the pod runs it.
async fn run(bucket: Option<&BucketTarget>, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let result = tempfile::NamedTempFile::new().expect("file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rorun-operator"));
    command.args([contract::AGENT, contract::PREFLIGHT]).args(arguments);
    command.arg("--termination-path").arg(result.path()).env_clear().envs(variables.iter().copied());
    if let Some(target) = bucket {
        command.env(contract::ENV_S3_ENDPOINT, &target.endpoint).env(contract::ENV_S3_REGION, &target.region);
        command.env(contract::ENV_S3_BUCKET, &target.bucket).env(contract::ENV_S3_FORCE_PATH_STYLE, "true");
        log_in(&mut command, target);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output().expect("agent")).await.expect("agent");
    let took = begun.elapsed();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = std::fs::read_to_string(result.path()).expect("result");
    assert!(!said.contains(PASSWORD) && !log.contains(PASSWORD), "{said} {log}");
    let outcome = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said} {log}"));
    Run { code: output.status.code(), outcome, took }
}

/// Asks a bucket.
async fn ask(target: &BucketTarget, prefix: &str, more: &[&str]) -> Run {
    let key = preflight_key(prefix, UID);
    run(Some(target), &[&[contract::ARG_KEY, &key], more].concat(), &[]).await
}

fn client(target: &BucketTarget) -> BucketClient {
    BucketClient::new(target, Timeouts::CHECK).expect("client")
}

async fn keys(bucket: &BucketClient) -> Vec<String> {
    bucket.list("").await.expect("list").into_iter().map(|object| object.key).collect()
}

/// What others have there, under names like those of the probe.
const OTHERS: [&str; 4] = [
    "_preflight/6f1f3a5c-0000-4000-8000-000000000001x",
    "_preflight/6f1f3a5c-0000-4000-8000-000000000001/x",
    "backups/n/shop/_preflight/other",
    "backups/n/shop/owner.json",
];

/// A bucket with them.
async fn bucket_with_others(target: &BucketTarget, versions: bool) -> BucketClient {
    let bucket = client(target);
    bucket.create().await.expect("bucket");
    if versions {
        // Moto answers whether it is on under another name than S3 gives it.
        let _ = bucket.enable_versioning().await;
    }
    for key in OTHERS {
        bucket.put(key, b"theirs".to_vec()).await.expect("put");
    }
    bucket
}

async fn passes(target: BucketTarget, versions: bool) {
    let bucket = bucket_with_others(&target, versions).await;
    let mut theirs = OTHERS.map(str::to_owned);
    theirs.sort();
    let flags: &[&str] = if versions { &[contract::ARG_VERSIONS] } else { &[] };
    for prefix in ["", "backups/n/shop/"] {
        let run = ask(&target, prefix, flags).await;
        assert_eq!((run.code, run.passed("bucket")), (Some(0), (&[][..], None)), "{prefix}");
        assert!(run.took < Duration::from_secs(5), "{:?}", run.took);
    }
    assert_eq!(keys(&bucket).await, theirs, "nothing is left, and theirs stay");
    if versions {
        let mut versions = bucket.versions("").await.expect("versions");
        versions.sort_by(|a, b| a.key.cmp(&b.key));
        let there: Vec<_> = versions.iter().map(|version| (version.key.clone(), version.marker)).collect();
        assert_eq!(there, theirs.map(|key| (key, false)), "not even as an old version");
    }
}

#[tokio::test]
async fn a_bucket_is_asked_and_left_as_it_was() {
    let servers = Servers::shared().await;
    passes(servers.bucket("asked"), false).await;
    passes(servers.bucket("asked-versions"), true).await;
}

#[tokio::test]
async fn so_is_one_that_answers_as_amazon_does() {
    let moto = Moto::shared().await;
    passes(moto.bucket("asked"), false).await;
    passes(moto.bucket("asked-versions"), true).await;
}

/// Keys that are limited to the folder of the backups are asked there.
#[tokio::test]
async fn a_bucket_is_asked_in_the_folder_that_is_used() {
    let servers = Servers::shared().await;
    let target = servers.bucket("limited");
    let _ = client(&target).create().await;
    let limited = BucketTarget { keys: Some(by_keys("limited", PASSWORD)), ..target };
    let run = ask(&limited, "backups/n/shop/", &[]).await;
    assert_eq!(run.passed("bucket"), (&[][..], None));
    let run = ask(&limited, "", &[]).await;
    assert_eq!(run.failed("bucket").0, "AccessDenied");
}

/// The bucket of the backups has keys of its own, and is asked beside that of the application.
#[tokio::test]
async fn the_bucket_of_the_backups_is_asked_by_its_own_keys() {
    let servers = Servers::shared().await;
    let (application, backups) = (servers.bucket("asked-files"), servers.bucket("limited"));
    for target in [&application, &backups] {
        let _ = client(target).create().await;
    }
    let (key, of_backups) = (preflight_key("", UID), preflight_key("backups/n/shop/", UID));
    let ask = async |of_backups: &str, secret: &str| {
        let location = json!({
            "endpoint": backups.endpoint, "region": backups.region, "bucket": backups.bucket, "forcePathStyle": true,
            "accessKeyId": "limited", "secretAccessKey": secret,
        });
        let arguments = [contract::ARG_KEY, &key, contract::ARG_DESTINATION_KEY, of_backups];
        run(Some(&application), &arguments, &[(contract::ENV_ASK_DESTINATION, &location.to_string())]).await
    };
    let good = ask(&of_backups, PASSWORD).await;
    assert_eq!((good.code, good.passed("bucket"), good.passed("backup")), (Some(0), (&[][..], None), (&[][..], None)));
    let elsewhere = ask(&key, PASSWORD).await;
    let (reason, message) = elsewhere.failed("backup");
    assert!(reason == "AccessDenied" && message.starts_with(&format!("writing {key}: ")), "{reason}: {message}");
    assert_eq!(elsewhere.passed("bucket"), (&[][..], None), "the other bucket is none of its business");
    assert_eq!(ask(&of_backups, "another").await.failed("backup").0, "AuthenticationFailed");
    let left = client(&servers.bucket("limited")).list("backups/n/shop/_preflight/").await.expect("list");
    assert!(left.is_empty(), "{left:?}");
}

/// What is wrong, as the status tells it.
#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_told_in_these_words() {
    let servers = Servers::shared().await;
    let target = servers.bucket("asked-wrong");
    client(&target).create().await.expect("bucket");
    let key = preflight_key("", UID);
    let told = async |target: &BucketTarget, reason: &str, expected: &str| {
        let run = ask(target, "", &[]).await;
        let (found, message) = run.failed("bucket");
        assert_eq!(found, reason, "{message}");
        let begins = format!("writing {key}: failed to ");
        assert!(message.starts_with(&begins) && message.contains(expected), "{message}");
        assert!(run.took < Duration::from_secs(20), "{:?}", run.took);
    };
    let stranger = BucketTarget { keys: Some(by_keys("stranger", PASSWORD)), ..target.clone() };
    told(&stranger, "AccessDenied", "it answers AccessDenied (HTTP status 403); grant it to these credentials").await;
    let wrong = BucketTarget { keys: Some(by_keys("owner", "another")), ..target.clone() };
    told(&wrong, "AuthenticationFailed", "check the credentials in its Secret").await;
    let missing = BucketTarget { bucket: "nowhere-to-be-found".to_owned(), ..target.clone() };
    let run = ask(&missing, "", &[]).await;
    let (reason, message) = run.failed("bucket");
    assert_eq!(reason, "NotFound", "{message}");
    assert!(message.ends_with("it does not exist; create it, or correct its name"), "{message}");
    let made = client(&missing).check(None).await;
    assert!(matches!(made, Err(ServiceError::Missing { .. })), "it was made by what was written: {made:?}");
    let tls = BucketTarget { endpoint: target.endpoint.replacen("http:", "https:", 1), ..target.clone() };
    told(&tls, "TLSFailed", "failed to agree on TLS with bucket").await;
    let untrusted = BucketTarget { endpoint: format!("https://localhost:{}", servers.s3_tls_port), ..target.clone() };
    told(&untrusted, "TLSFailed", "its certificate comes from an authority that is not trusted").await;
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let away = BucketTarget { endpoint: format!("http://{nobody}"), ..target.clone() };
    told(&away, "Unreachable", "check that it runs and that network policies allow the connection").await;
    let unknown = BucketTarget { endpoint: "http://s3.invalid".to_owned(), ..target.clone() };
    told(&unknown, "Unreachable", "failed to reach bucket").await;
    assert_eq!(keys(&client(&target)).await, [""; 0]);
}

#[tokio::test]
async fn another_region_is_named() {
    let servers = Servers::shared().await;
    let gateway = Gateway::start(servers.s3_port, |_| Passed::Elsewhere("eu-central-1")).await;
    let target = BucketTarget { endpoint: gateway.endpoint.clone(), ..servers.bucket("asked-region") };
    let run = ask(&target, "", &[]).await;
    let (reason, message) = run.failed("bucket");
    assert_eq!(reason, "Unreachable");
    assert!(message.ends_with("it is in region eu-central-1; correct the region"), "{message}");
}

/// With the authority of the server.
#[tokio::test]
async fn a_bucket_with_an_authority_of_its_own_is_asked() {
    let servers = Servers::shared().await;
    let target = servers.bucket("asked-tls");
    client(&target).create().await.expect("bucket");
    let target = BucketTarget { endpoint: format!("https://localhost:{}", servers.s3_tls_port), ..target };
    let file = servers.ca_file.to_str().expect("a path");
    let run = ask(&target, "", &[contract::ARG_BUCKET_CA_FILE, file]).await;
    assert_eq!(run.passed("bucket"), (&[][..], None));
}

/// One right that is missing: what it is for, which of them stops nothing, and what stays in the bucket.
#[rstest]
#[case::deletion("DELETE", "", Some("RightsMissing"), "stays, since deleting it failed")]
#[case::versions("GET", "versions", Some("RightsMissing"), "versions of objects cannot be listed")]
#[case::reading("GET", "", None, "reading _preflight/")]
#[case::writing("PUT", "", None, "writing _preflight/")]
#[tokio::test]
async fn a_right_that_is_missing_is_told(
    #[case] method: &'static str,
    #[case] query: &'static str,
    #[case] finding: Option<&str>,
    #[case] expected: &str,
) {
    let moto = Moto::shared().await;
    let name = format!("asked-rights-{}-{}", method.to_lowercase(), query.len());
    let target = moto.bucket(&name);
    let bucket = client(&target);
    bucket.create().await.expect("bucket");
    let _ = bucket.enable_versioning().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let gateway = Gateway::start(moto.port, move |asked| {
        log.lock().expect("log").push(asked.method.clone());
        let denied = asked.method == method && asked.asks("versions") == (query == "versions");
        if denied { Passed::Answered(403, "AccessDenied") } else { Passed::On }
    })
    .await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target };
    let run = ask(&through, "", &[contract::ARG_VERSIONS]).await;
    if let Some(reason) = finding {
        let (findings, _) = run.passed("bucket");
        let [found] = findings else { panic!("{findings:?}") };
        assert_eq!((run.code, found.reason.as_str()), (Some(0), reason));
        assert!(found.message.contains(expected) && found.message.contains("AccessDenied"), "{}", found.message);
    } else {
        let (reason, message) = run.failed("bucket");
        assert_eq!(reason, "AccessDenied");
        assert!(message.starts_with(expected), "{message}");
    }
    let left = bucket.versions("").await.expect("versions");
    assert_eq!(left.len(), usize::from(method == "DELETE"), "{left:?}");
    let deletes = seen.lock().expect("log").iter().filter(|method| *method == "DELETE").count();
    assert_eq!(deletes, usize::from(method != "PUT"), "what was written is deleted, and nothing else");
}

/// A server that gives back something else, as a cache between would.
#[tokio::test]
async fn an_object_that_comes_back_otherwise_is_told() {
    let servers = Servers::shared().await;
    let target = servers.bucket("asked-otherwise");
    let bucket = client(&target);
    bucket.create().await.expect("bucket");
    let gateway = Gateway::start(servers.s3_port, |asked| {
        if asked.method == "GET" { Passed::Translated(|_| "older".to_owned()) } else { Passed::On }
    })
    .await;
    let through = BucketTarget { endpoint: gateway.endpoint.clone(), ..target };
    let run = ask(&through, "", &[]).await;
    assert!(run.failed("bucket").1.ends_with("it does not hold what was written just now"));
    assert_eq!(keys(&bucket).await, [""; 0]);
}

/// A database that only pods reach is asked as the prober asks one that it reaches.
#[tokio::test]
async fn a_database_is_asked() {
    let servers = Servers::shared().await;
    let url = servers.database_url("postgres");
    let run_with = async |url: &str| run(None, &[], &[(contract::ENV_ASK_URL, url)]).await;
    let all = [
        (contract::ENV_ASK_URL, url.as_str()),
        (contract::ENV_ASK_DIRECT_URL, &url),
        (contract::ENV_ASK_READ_URL, &url),
    ];
    let run_all = run(None, &[], &all).await;
    assert_eq!((run_all.code, run_all.outcome.answers.len()), (Some(0), 3));
    assert!(run_all.took < Duration::from_secs(5), "{:?}", run_all.took);
    for target in ["database", "database-direct"] {
        let facts = run_all.passed(target).1.expect("facts");
        let database = facts.database.as_ref().expect("a database");
        assert!(facts.version.is_some() && database.connections.is_some(), "{facts:?}");
        assert_eq!((database.user.as_deref(), database.clock_off_by), (Some("postgres"), None));
    }
    assert!(run_all.passed("database-read").1.is_some_and(|facts| facts.version.is_some() && facts.database.is_none()));

    let wrong = run_with(&url.replacen(PASSWORD, "another", 1)).await;
    assert_eq!(wrong.failed("database").0, "AuthenticationFailed");
    let missing = run_with(&servers.database_url("nowhere")).await;
    assert_eq!(missing.failed("database").0, "NotFound");
    let read_only = run_with(&format!("{url}&options=-c%20default_transaction_read_only%3Don")).await;
    assert_eq!(read_only.failed("database").0, "ReadOnly");
    let verified = url.replacen("sslmode=disable", "sslmode=verify-full", 1);
    let untrusted = run_with(&verified).await;
    assert_eq!(untrusted.failed("database").0, "TLSFailed");
    let file = servers.database_ca_file.to_str().expect("a path");
    let arguments = [contract::ARG_DATABASE_CA_FILE, file];
    let trusted = run(None, &arguments, &[(contract::ENV_ASK_URL, &verified)]).await;
    assert!(trusted.passed("database").1.is_some());
}
