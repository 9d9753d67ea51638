//! What the operator finds out about services before they do harm, and the exact words for what is wrong with them: from a real
//! server by the prober, and on to the finding.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rorun_e2e::engine::ports;
use rorun_operator::api::v1alpha1::RorunStack;
use rorun_operator::contract::{ClusterMode, ConnectionLimit, DatabaseFacts, Lacks, LimitedBy, Provider, Unreadable};
use rorun_operator::names::{Component, Waiting};
use rorun_operator::probe::{Answer, PostgresQuestion, Prober, Purpose, Question, RedisQuestion, Service, Tenant};
use rorun_operator::services::bucket::BucketTarget;
use rorun_operator::services::postgres::PostgresTarget;
use rorun_operator::services::redis::{self, RedisTarget};
use rorun_operator::services::{Network, Resolve};
use rorun_operator::stack::{Observed, Probe, Stack, validate};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::pooler::Pooler;
use crate::process::{Server, until};
use crate::programs;
use crate::scenario::Scenario;
use crate::servers::{PASSWORD, by_keys};

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alone;

impl Tenant for Alone {
    fn namespace(&self) -> &'static str {
        "shop"
    }
}

/// To the servers of these tests, at loopback addresses.
fn beside() -> Network {
    Network::guarded(Vec::new(), true)
}

#[expect(clippy::disallowed_methods, reason = "the prober compares it with that of the server")]
fn clock() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The first answer of the prober.
async fn answer(network: Network, question: Question) -> Answer {
    let (told, heard) = tokio::sync::watch::channel(0);
    let prober = Prober::<_, u8>::new(network, clock, move |_: &Alone| told.send_modify(|count| *count += 1));
    let questions = || BTreeMap::from([(0, question.clone())]);
    prober.answers(&Alone, questions(), |_| None);
    let mut heard = heard;
    tokio::time::timeout(TIMEOUT + TIMEOUT, heard.changed()).await.expect("an answer").expect("the prober");
    prober.answers(&Alone, questions(), |_| None).remove(&0).expect("an answer")
}

fn question(service: Service, origin: Option<&str>) -> Question {
    let url = match &service {
        Service::Postgres(question) => &question.target.url,
        Service::Redis(question) => &question.target.url,
        Service::Bucket { target, .. } => &target.endpoint,
    };
    let provider = Provider::of_url(url);
    Question { service, origin: origin.map(str::to_owned), interval: None, provider }
}

async fn ask_database(url: &str, ca: Option<String>, purpose: Purpose) -> Answer {
    let service = Service::Postgres(PostgresQuestion {
        target: PostgresTarget { url: url.to_owned(), ca, client: None },
        purpose,
    });
    answer(beside(), question(service, Some("DATABASE_URL in secret/database"))).await
}

async fn facts(url: &str, ca: Option<String>) -> DatabaseFacts {
    match ask_database(url, ca, Purpose::Maintain).await {
        Answer::Answers { facts: Some(facts), .. } => facts.database.clone().expect("a database"),
        answer => panic!("{answer:?}"),
    }
}

/// A stack with migrations and backups, whose database has this URL and says this.
fn stack(url: &str, facts: &DatabaseFacts) -> Stack {
    let spec = json!({"environment": "Development", "backup": {}, "database": {"external": {"secretRef": {"name": "database"}}},
        "api": {"image": "api:1", "migrations": {"command": ["migrate"]}}});
    let cr: RorunStack = serde_json::from_value(json!({"metadata": {"name": "shop"}, "spec": spec})).expect("a stack");
    let data = BTreeMap::from([("DATABASE_URL".to_owned(), url.as_bytes().to_vec())]);
    let observed = Observed { secrets: [("database".to_owned(), Some(data))].into(), ..Observed::default() };
    let mut stack = validate(&cr, &observed);
    let facts = rorun_operator::contract::ServiceFacts { version: None, database: Some(facts.clone()) };
    let probe = Probe::Answers { note: None, slow: false, facts: Some(Arc::new(facts)) };
    stack.probes.insert(Component::Database.into(), probe);
    stack
}

/// The findings of a database.
async fn findings(url: &str) -> Vec<(&'static str, String)> {
    let facts = facts(url, None).await;
    let found = stack(url, &facts).findings(Component::Database);
    found.into_iter().map(|finding| (finding.reason, finding.message)).collect()
}

#[tokio::test]
async fn a_database_says_what_it_is() {
    let scenario = Scenario::new("preflight-says").await;
    let ca = std::fs::read_to_string(&scenario.servers.database_ca_file).expect("authority");
    let major: u32 =
        scenario.sql("SELECT current_setting('server_version_num')::int / 10000").await.parse().expect("a number");
    let begun = Instant::now();
    for tls in ["sslmode=disable", "sslmode=prefer", "sslmode=verify-full"] {
        let port = scenario.servers.postgres_port;
        let url = format!("postgres://postgres:{PASSWORD}@localhost:{port}/preflight-says?{tls}");
        let mut found = facts(&url, tls.contains("full").then(|| ca.clone())).await;
        // Those of the tests beside this one.
        assert!(found.others.take().is_some(), "{tls}");
        let expected = DatabaseFacts {
            user: Some("postgres".to_owned()),
            major: Some(major),
            read_only: false,
            pooled: Some(false),
            shared_sessions: None,
            connections: Some(ConnectionLimit { available: 100, by: LimitedBy::Server { max: 100, reserved: 0 } }),
            others: None,
            encoding: Some("UTF8".to_owned()),
            clock_off_by: None,
            schema: Some("public".to_owned()),
            may_create: Some(true),
            unreadable: Some(Vec::new()),
        };
        assert_eq!(found, expected, "{tls}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?} for three", begun.elapsed());
}

#[tokio::test]
async fn what_a_narrow_user_may_not_is_found() {
    let scenario = Scenario::new("preflight-narrow").await;
    scenario
        .sql(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE limited LOGIN PASSWORD 'limited' CONNECTION LIMIT 4; \
             CREATE SCHEMA vault; CREATE TABLE vault.k (n int); CREATE TABLE vault.\"Odd name; DROP\" (n int); \
             CREATE TABLE hidden (n serial); CREATE TABLE mine (n int); GRANT SELECT ON mine TO limited; \
             ALTER TABLE mine ENABLE ROW LEVEL SECURITY; CREATE TABLE open (n int); GRANT SELECT ON open TO limited",
        )
        .await;
    let url = format!("postgres://limited:limited@127.0.0.1:{}/preflight-narrow", scenario.servers.postgres_port);
    let found = facts(&url, None).await;
    assert_eq!(found.connections, Some(ConnectionLimit { available: 4, by: LimitedBy::Role }));
    assert_eq!((found.schema.as_deref(), found.may_create), (Some("public"), Some(false)));
    let lacks = |schema: &str, table: &str, count, lacks| Unreadable {
        schema: schema.to_owned(),
        table: table.to_owned(),
        count,
        lacks,
    };
    let expected = [
        lacks("public", "mine", 1, Lacks::BypassRls),
        lacks("public", "hidden", 2, Lacks::Select),
        lacks("vault", "Odd?name??DROP", 2, Lacks::Usage),
    ];
    assert_eq!(found.unreadable, Some(expected.into()));
    // Prisma's parameter names another schema; one that does not exist is made by a migration, where the user may.
    let may = async |schema: &str| {
        let found = facts(&format!("{url}?schema={schema}"), None).await;
        (found.schema, found.may_create)
    };
    assert_eq!(may("vault").await, (Some("vault".to_owned()), Some(false)));
    assert_eq!(may("nowhere'x").await, (Some("nowhere?x".to_owned()), Some(false)));
    scenario.sql("GRANT CREATE ON DATABASE \"preflight-narrow\" TO limited").await;
    assert_eq!(may("nowhere").await, (Some("nowhere".to_owned()), Some(true)));
    scenario.sql("ALTER DATABASE \"preflight-narrow\" CONNECTION LIMIT 3").await;
    let found = facts(&url, None).await;
    assert_eq!(found.connections, Some(ConnectionLimit { available: 3, by: LimitedBy::Database }));
}

/// A narrow user sees whose sessions there are: its own in this database are the stack's, and all else is of others.
#[tokio::test]
async fn what_others_hold_is_counted_by_what_has_the_limit() {
    let scenario = Scenario::new("preflight-others").await;
    scenario.sql("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 9").await;
    let port = scenario.servers.postgres_port;
    let url = |database: &str| format!("postgres://few:few@127.0.0.1:{port}/{database}");
    let of_server = scenario.servers.database_url("preflight-others");
    let mut sessions = Vec::new();
    for of in [url("preflight-others"), url("postgres"), url("postgres"), of_server] {
        let (client, driver) = tokio_postgres::connect(&of, tokio_postgres::NoTls).await.expect("a session");
        sessions.push((client, tokio::spawn(driver)));
    }
    let found = async |by: LimitedBy| {
        let found = facts(&url("preflight-others"), None).await;
        assert_eq!(found.connections.map(|limit| limit.by), Some(by));
        found.others
    };
    assert_eq!(found(LimitedBy::Role).await, Some(2));
    scenario.sql("ALTER DATABASE \"preflight-others\" CONNECTION LIMIT 8").await;
    assert_eq!(found(LimitedBy::Database).await, Some(1));
}

/// Of each kind of service, and not of one that does not answer.
#[tokio::test]
async fn how_long_an_answer_took_is_told() {
    let scenario = Scenario::new("preflight-took").await;
    let servers = &scenario.servers;
    let target = PostgresTarget { url: servers.database_url("preflight-took"), ca: None, client: None };
    let cache = format!("redis://:{PASSWORD}@127.0.0.1:{}", servers.redis_port);
    let questions = || {
        let database = Service::Postgres(PostgresQuestion { target: target.clone(), purpose: Purpose::Read });
        let away = redis_question("redis://127.0.0.1:1".to_owned(), None);
        let answering = [question(database, None), redis_question(cache.clone(), None)];
        let all = answering.into_iter().chain([bucket_question(servers.bucket("preflight-took")), away]);
        (0_u8..).zip(all).collect::<BTreeMap<_, _>>()
    };
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let prober = Prober::new(beside(), clock, |_: &Alone| {});
    let prober = prober.with_measures(move |_, service: &u8, of| told.send((*service, of.latency)).unwrap_or_default());
    prober.answers(&Alone, questions(), |_| None);
    let mut latencies = BTreeMap::new();
    while latencies.len() < 3 {
        let (service, latency) =
            tokio::time::timeout(TIMEOUT, heard.recv()).await.expect("an answer").expect("the prober");
        latencies.insert(service, latency);
    }
    assert_eq!(latencies.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(latencies.values().all(|latency| !latency.is_zero() && *latency < TIMEOUT), "{latencies:?}");
}

#[tokio::test]
async fn a_pooler_is_found_by_what_it_does() {
    let scenario = Scenario::new("preflight-pooled").await;
    for (mode, shared) in [("transaction", true), ("session", false)] {
        let pooler = Pooler::start(&scenario, &[&format!("pool_mode = {mode}")]).await;
        let found = facts(&pooler.url, None).await;
        assert_eq!((found.pooled, found.shared_sessions), (Some(true), Some(shared)), "{mode}");
        let told = stack(&pooler.url, &found).findings(Component::Database);
        assert_eq!(told.iter().any(|finding| finding.reason == "PooledConnection"), shared, "{told:?}");
    }
}

/// A question that waits is given up, and what is known without it is told.
#[tokio::test]
async fn a_question_that_waits_is_no_fault_of_the_database() {
    let scenario = Scenario::new("preflight-waits").await;
    let url = scenario.servers.database_url("preflight-waits");
    let (holder, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connect");
    tokio::spawn(connection);
    holder.batch_execute("BEGIN; LOCK TABLE pg_depend IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    let begun = Instant::now();
    let found = facts(&url, None).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(found.unreadable, None);
    assert!(found.connections.is_some(), "{found:?}");
    holder.batch_execute("ROLLBACK").await.expect("no lock");
    assert_eq!(facts(&url, None).await.unreadable, Some(Vec::new()));
}

/// A server with the settings of a test.
async fn start_redis(settings: &[&str]) -> (Server, u16, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    let [port] = ports::free().expect("port");
    let mut command = Command::new(programs::redis());
    command.current_dir(folder.path()).args(["--bind", "127.0.0.1", "--save", ""]).args(settings);
    let tls = settings.contains(&"--tls-cert-file");
    let at = if tls { "--tls-port" } else { "--port" };
    command.args([at, &port.to_string()]);
    let mut server = Server::start(&mut command, "TERM", &folder.path().join("redis.log"));
    if tls {
        server.ready(async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await).await;
    } else {
        let target = RedisTarget { url: format!("redis://127.0.0.1:{port}"), ca: None };
        server.ready(async || redis::check(&target, TIMEOUT).await).await;
    }
    (server, port, folder)
}

/// A certificate that has expired, and its key.
fn expired() -> (String, String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let certificate = parameters.signed_by(&key, &issuer).expect("a certificate");
    (ca, certificate.pem(), key.serialize_pem())
}

/// Leads to an address of version 6 for documentation (RFC 3849), where nobody is.
struct OnlySix;

impl Resolve for OnlySix {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::ready(Ok(vec!["2001:db8::1".parse().expect("an address")])))
    }
}

/// Answers as Amazon S3 does for a bucket of another region.
async fn of_another_region() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let body = "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>";
            let head = "HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-central-1\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

fn failed(answer: Answer) -> (&'static str, String) {
    let Answer::Failed(Waiting { reason, message }) = answer else { panic!("{answer:?}") };
    (reason, message)
}

fn noted(answer: Answer) -> (&'static str, String) {
    let Answer::Answers { note: Some(note), .. } = answer else { panic!("{answer:?}") };
    ("Ready", note)
}

/// As the documentation shows it: the hosts and names of these tests are those of the reader.
fn as_documented(message: &str, names: &[(String, &str)]) -> String {
    names.iter().fold(message.to_owned(), |text, (name, shown)| text.replace(name, shown))
}

fn bucket_question(target: BucketTarget) -> Question {
    question(Service::Bucket { target, prefix: None, create: false, versioning: false }, None)
}

fn redis_question(url: String, ca: Option<String>) -> Question {
    question(
        Service::Redis(RedisQuestion { target: RedisTarget { url, ca }, cluster_mode: ClusterMode::default() }),
        None,
    )
}

/// Each row of the table in `docs/services.md`: what is wrong, the reason and the exact message, from a server that has it.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn what_is_wrong_is_told_in_the_words_of_the_documentation() {
    let scenario = Scenario::new("bad-input").await;
    let servers = &scenario.servers;
    let port = servers.postgres_port;
    let other_ca = std::fs::read_to_string(&servers.ca_file).expect("authority");
    let ca = std::fs::read_to_string(&servers.database_ca_file).expect("authority");
    let at = |login: &str, host: &str, query: &str| format!("postgres://{login}@{host}:{port}/bad-input?{query}");
    let owner = format!("postgres:{PASSWORD}");
    let serve = async |url: &str, ca: Option<&String>| failed(ask_database(url, ca.cloned(), Purpose::Serve).await);
    scenario
        .sql(
            "CREATE ROLE reader LOGIN PASSWORD 'reader'; ALTER ROLE reader SET default_transaction_read_only = on; \
             CREATE ROLE rorun LOGIN PASSWORD 'rorun' CONNECTION LIMIT 20; GRANT CREATE ON SCHEMA public TO rorun",
        )
        .await;
    let pooler = Pooler::start(&scenario, &["pool_mode = transaction"]).await;
    let (_evicts, evicts_port, _evicts_folder) =
        start_redis(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let folder = tempfile::tempdir().expect("folder");
    let (expired_ca, certificate, key) = expired();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    let (certificate, key) = (file("expired.crt", &certificate), file("expired.key", &key));
    let tls = ["--port", "0", "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let with_ca = [&tls[..], &["--tls-ca-cert-file", &certificate]].concat();
    let (_old, old_port, _old_folder) = start_redis(&with_ca).await;
    let mut stranger = servers.bucket("bad-input");
    stranger.keys = Some(by_keys("stranger", PASSWORD));
    let elsewhere_port = of_another_region().await;
    let mut elsewhere = servers.bucket("rorun-files");
    elsewhere.endpoint = format!("http://127.0.0.1:{elsewhere_port}");
    let six = Network::guarded_by(OnlySix, Vec::new(), true);
    let six_url = "postgresql://postgres:secret@db.abc.supabase.co:5432/postgres".to_owned();
    let purpose = Purpose::Serve;
    let six_question = Service::Postgres(PostgresQuestion {
        target: PostgresTarget { url: six_url, ca: None, client: None },
        purpose,
    });
    let finding = async |url: &str, reason: &str| {
        let found = findings(url).await;
        found.iter().find(|(of, _)| *of == reason).unwrap_or_else(|| panic!("{reason}: {found:?}")).clone()
    };
    let rows = [
        ("wrong password", serve(&at("postgres:wrong", "localhost", ""), None).await),
        ("wrong CA", serve(&at(&owner, "localhost", "sslmode=verify-full"), Some(&other_ca)).await),
        (
            "host name mismatch",
            serve(&at(&owner, "other.invalid", "hostaddr=127.0.0.1&sslmode=verify-full"), Some(&ca)).await,
        ),
        (
            "expired certificate",
            failed(answer(beside(), redis_question(format!("rediss://localhost:{old_port}"), Some(expired_ca))).await),
        ),
        ("IPv6-only host", failed(answer(six, question(six_question, Some("DATABASE_URL in secret/database"))).await)),
        ("pooler for migrations", finding(&pooler.url, "PooledConnection").await),
        (
            "Redis that evicts",
            noted(answer(beside(), redis_question(format!("redis://127.0.0.1:{evicts_port}"), None)).await),
        ),
        (
            "redis:// to a TLS port",
            failed(
                answer(beside(), redis_question(format!("redis://:x@localhost:{}", servers.redis_tls_port), None))
                    .await,
            ),
        ),
        ("bucket without rights", failed(answer(beside(), bucket_question(stranger)).await)),
        ("wrong region", failed(answer(beside(), bucket_question(elsewhere)).await)),
        ("read-only database", serve(&at("reader:reader", "localhost", ""), None).await),
        ("too few connections", finding(&at("rorun:rorun", "localhost", ""), "TooFewConnections").await),
    ];
    // Nobody can write a file there.
    let (_full, full_port, _full_folder) = start_redis(&["--dir", "/proc"]).await;
    let full = format!("redis://127.0.0.1:{full_port}");
    fail_to_save(&full).await;
    let full = noted(answer(beside(), redis_question(full, None)).await);
    let names = [
        (format!("localhost:{port}"), "db.example.com:5432"),
        (format!("other.invalid:{port}"), "db.example.com:5432"),
        (format!("localhost:{old_port}"), "redis.example.com:6379"),
        (format!("localhost:{}", servers.redis_tls_port), "redis.example.com:6379"),
        (format!("127.0.0.1:{elsewhere_port}"), "s3.example.com"),
        (format!("127.0.0.1:{}", servers.s3_port), "s3.example.com"),
        ("bad-input".to_owned(), "rorun-files"),
        ("http://".to_owned(), "https://"),
    ];
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/services.md");
    let page = std::fs::read_to_string(page).expect("page");
    let mut missing = Vec::new();
    for (what, (reason, message)) in rows.into_iter().chain([("full disk of a Redis", full)]) {
        assert!(!message.contains(PASSWORD), "{message}");
        let row = format!("| {what} | `{reason}` | {} |", as_documented(&message, &names));
        missing.extend((!page.contains(&row)).then_some(row));
    }
    assert!(missing.is_empty(), "docs/services.md lacks these rows:\n{}", missing.join("\n"));
}

/// Lets a server write its data to its disk, and waits until it says that this failed.
async fn fail_to_save(url: &str) {
    let client = ::redis::Client::open(url).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connect");
    ::redis::cmd("BGSAVE").query_async::<::redis::Value>(&mut connection).await.expect("BGSAVE");
    let target = RedisTarget { url: url.to_owned(), ca: None };
    until("a snapshot fails", async || redis::check(&target, TIMEOUT).await.is_ok_and(|info| info.not_saved)).await;
}
