//! Services that mean harm to whoever asks them: each is given up within the time of one question, is read no further than an
//! answer needs, and says nothing in the status.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    super::{PostgresQuestion, Purpose, RedisQuestion},
    Answer, Question, Service,
};
use crate::{
    contract::ClusterMode,
    names::reason,
    services::{
        Network, Resolve,
        bucket::{AccessKeys, BucketTarget},
        postgres::PostgresTarget,
        redis::RedisTarget,
    },
};

/// In whatever a hostile service says.
const WORDS: &str = "Words-of-the-service";
/// One question, and what a busy machine takes to notice its end.
const AT_MOST: Duration = Duration::from_secs(10 + 2);
/// What the kernels of both sides take before the asking side has read its part.
const SENT_AT_MOST: usize = 16 * 1024 * 1024;

/// A service on a port of its own.
struct Hostile {
    address: SocketAddr,
    sent: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Hostile {
    /// Reads a request, says the beginning, and then the rest again and again with pauses between.
    async fn start(beginning: Vec<u8>, rest: &'static [u8], pause: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hostile =
            Self { address: listener.local_addr().unwrap(), sent: Arc::default(), connections: Arc::default() };
        let (sent, connections) = (hostile.sent.clone(), hostile.connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(say(stream, beginning.clone(), (rest, pause), sent.clone()));
            }
        });
        hostile
    }

    async fn saying(text: &str) -> Self {
        Self::start(text.as_bytes().to_vec(), b"", None).await
    }
}

async fn say(
    mut stream: TcpStream,
    beginning: Vec<u8>,
    (rest, pause): (&'static [u8], Option<Duration>),
    sent: Arc<AtomicUsize>,
) -> io::Result<()> {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await?;
    stream.write_all(&beginning).await?;
    sent.fetch_add(beginning.len(), Ordering::SeqCst);
    while !rest.is_empty() {
        sent.fetch_add(stream.write(rest).await?, Ordering::SeqCst);
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    stream.shutdown().await?;
    // What is still said to it is taken, or the other side would hear of a broken pipe before it has read the answer.
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}

fn bucket(endpoint: String) -> Question {
    let target = BucketTarget {
        endpoint,
        region: "us-east-1".to_owned(),
        bucket: "files".to_owned(),
        force_path_style: true,
        keys: Some(AccessKeys { id: "AKIATEST".to_owned(), secret: "secret".to_owned(), session_token: None }),
        ca: None,
    };
    Question {
        service: Service::Bucket { target, prefix: None, create: false, versioning: true },
        origin: None,
        interval: None,
        provider: None,
    }
}

fn postgres(url: String) -> Service {
    Service::Postgres(PostgresQuestion {
        target: PostgresTarget { url, ca: None, client: None },
        purpose: Purpose::Serve,
    })
}

fn question(kind: &str, address: SocketAddr) -> Question {
    let service = match kind {
        "bucket" => return bucket(format!("http://{address}")),
        "postgres" => postgres(format!("postgresql://u:p@{address}/d?sslmode=disable")),
        "postgres-tls" => postgres(format!("postgresql://u:p@{address}/d?sslmode=require")),
        "redis-tls" => Service::Redis(RedisQuestion {
            target: RedisTarget { url: format!("rediss://:p@{address}"), ca: None },
            cluster_mode: ClusterMode::default(),
        }),
        _ => Service::Redis(RedisQuestion {
            target: RedisTarget { url: format!("redis://:p@{address}"), ca: None },
            cluster_mode: ClusterMode::default(),
        }),
    };
    Question { service, origin: None, interval: None, provider: None }
}

/// To the services of these tests, which are at loopback addresses.
fn beside() -> Network {
    Network::guarded(Vec::new(), true)
}

fn failed(answer: Answer) -> (reason::Reason, String) {
    let Answer::Failed(waiting) = answer else { panic!("{answer:?}") };
    assert!(!waiting.message.contains(WORDS), "{}", waiting.message);
    assert!(!waiting.message.contains("secret"), "{}", waiting.message);
    assert!(waiting.message.len() < 500 && !waiting.message.chars().any(char::is_control), "{}", waiting.message);
    (waiting.reason, waiting.message)
}

const MUCH: &[u8] = &[b'A'; 65536];

#[rstest]
#[case::endless_body("bucket", "HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n<ListBucketResult>")]
#[case::endless_error("bucket", "HTTP/1.1 403 Forbidden\r\ncontent-length: 9999999999\r\n\r\n<Error>")]
#[case::huge_header("bucket", "HTTP/1.1 200 OK\r\nx-huge: ")]
#[case::no_http_at_all("bucket", "")]
#[case::huge_message("postgres", "E\x7f\x7f\x7f\x7fSERROR\0")]
#[case::banner("postgres", "")]
#[case::banner_for_tls("postgres-tls", "")]
#[case::huge_text("redis", "$1999999999\r\n")]
#[case::endless_line("redis", "+")]
#[case::endless_list("redis", "*1999999999\r\n$1\r\nA\r\n")]
#[case::banner("redis", "")]
#[case::banner_for_tls("redis-tls", "")]
#[tokio::test]
async fn an_answer_without_an_end_is_cut_off(#[case] kind: &str, #[case] beginning: &str) {
    let hostile = Hostile::start(beginning.as_bytes().to_vec(), MUCH, None).await;
    let begun = Instant::now();
    let answer = question(kind, hostile.address).ask(&beside(), || 0).await.answer;
    assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
    let sent = hostile.sent.load(Ordering::SeqCst);
    assert!(sent < SENT_AT_MOST, "{sent} bytes were taken");
    failed(answer);
}

/// In the time of the test, which goes on when all wait.
#[rstest]
#[case::body("bucket", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")]
#[case::head("bucket", "HTTP/1.1 200 OK\r\nx-slow: ")]
#[case::message("postgres", "E\0\0\x10\0")]
#[case::text("redis", "$1000\r\n")]
#[case::silence("redis-tls", "")]
#[tokio::test(start_paused = true)]
async fn a_slow_drip_is_given_up(#[case] kind: &str, #[case] beginning: &str) {
    let drip = if beginning.is_empty() { &b""[..] } else { &b"a"[..] };
    let hostile = Hostile::start(beginning.as_bytes().to_vec(), drip, Some(Duration::from_secs(1))).await;
    let begun = tokio::time::Instant::now();
    let (reason, _) = failed(question(kind, hostile.address).ask(&beside(), || 0).await.answer);
    assert!(begun.elapsed() <= Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(reason, reason::UNREACHABLE);
}

#[rstest]
#[case::moved("301 Moved Permanently")]
#[case::found("302 Found")]
#[case::temporary("307 Temporary Redirect")]
#[case::permanent("308 Permanent Redirect")]
#[tokio::test]
async fn a_redirect_is_not_followed(#[case] status: &str) {
    let elsewhere = Hostile::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let to = format!("http://{}/{WORDS}", elsewhere.address);
    let hostile = Hostile::saying(&format!("HTTP/1.1 {status}\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")).await;
    let (_, message) = failed(question("bucket", hostile.address).ask(&beside(), || 0).await.answer);
    assert!(message.contains("redirect"), "{message}");
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[rstest]
#[case::a_page("200 OK", "<html><body>Words-of-the-service</body></html>", "as an S3 server")]
#[case::nothing("200 OK", "", "as an S3 server")]
#[case::another_document("200 OK", "<Words-of-the-service/>", "as an S3 server")]
#[case::a_page_of_a_proxy("403 Forbidden", "<html>Words-of-the-service</html>", "as an S3 server")]
#[case::an_error(
    "403 Forbidden",
    "<Error><Code>AccessDenied</Code><Message>Words-of-the-service</Message></Error>",
    "AccessDenied"
)]
#[case::an_unknown_error("400 Bad", "<Error><Code>Words-of-the-service</Code></Error>", "HTTP status 400")]
#[tokio::test]
async fn only_what_s3_says_is_an_answer(#[case] status: &str, #[case] body: &str, #[case] expected: &str) {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let hostile = Hostile::saying(&answer).await;
    let (_, message) = failed(question("bucket", hostile.address).ask(&beside(), || 0).await.answer);
    assert!(message.contains(expected), "{message}");
}

#[tokio::test]
async fn a_list_is_an_answer() {
    const LIST: &str = "<ListBucketResult><Name>files</Name><KeyCount>0</KeyCount></ListBucketResult>";
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{LIST}", LIST.len());
    let server = Hostile::saying(&answer).await;
    let mut question = question("bucket", server.address);
    if let Service::Bucket { versioning, .. } = &mut question.service {
        *versioning = false;
    }
    let answer = question.ask(&beside(), || 0).await.answer;
    assert!(matches!(answer, Answer::Answers { note: None, slow: false, facts: Some(_) }), "{answer:?}");
}

#[rstest]
#[case("redis", "-ERR Words-of-the-service\r\n", "")]
#[case("redis", "-WRONGPASS Words-of-the-service\r\n", "refuses the user or the password")]
#[case("redis", "Words-of-the-service\r\n", "")]
#[case("postgres", "E\0\0\0\x29SFATAL\0C28P01\0MWords-of-the-service\0\0", "SQLSTATE 28P01")]
#[case(
    "postgres",
    "E\0\0\0\x29SFATAL\0C53100\0MWords-of-the-service\0\0",
    "its disk is full (SQLSTATE 53100); enlarge its volume, or take off it what nobody needs"
)]
#[case("postgres", "E\0\0\0\x29SFATAL\0C99999\0MWords-of-the-service\0\0", "an error")]
#[case("postgres", "Words-of-the-service", "")]
#[tokio::test]
async fn nothing_that_a_service_says_is_repeated(#[case] kind: &str, #[case] answer: &str, #[case] expected: &str) {
    // Redis is asked several things at once.
    let hostile = Hostile::saying(&answer.repeat(if kind == "redis" { 8 } else { 1 })).await;
    let (_, message) = failed(question(kind, hostile.address).ask(&beside(), || 0).await.answer);
    assert!(message.contains(expected), "{message}");
}

/// Gives a harmless address the first time that it is asked for, and loopback from then on.
struct Rebinding(AtomicUsize);

impl Resolve for Rebinding {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
        // The first is of a network for documentation (RFC 5737), where nobody is.
        let address = if first { [192, 0, 2, 1] } else { [127, 0, 0, 1] };
        Box::pin(std::future::ready(Ok(vec![IpAddr::from(address)])))
    }
}

#[rstest]
#[case("bucket")]
#[case("postgres")]
#[case("redis")]
#[tokio::test(start_paused = true)]
async fn a_name_that_leads_to_loopback_the_second_time_is_never_connected_to(#[case] kind: &str) {
    let victim = Hostile::saying("").await;
    let port = victim.address.port();
    let network = Network::guarded_by(Rebinding(AtomicUsize::new(0)), Vec::new(), false);
    let service = match kind {
        "bucket" => rebinding_bucket(port),
        "postgres" => postgres(format!("postgresql://u:p@rebinds.example:{port}/d")),
        _ => Service::Redis(RedisQuestion {
            target: RedisTarget { url: format!("redis://:p@rebinds.example:{port}"), ca: None },
            cluster_mode: ClusterMode::default(),
        }),
    };
    let question = Question { service, origin: None, interval: None, provider: None };
    failed(question.ask(&network, || 0).await.answer);
    for _ in 0..2 {
        let (reason, message) = failed(question.ask(&network, || 0).await.answer);
        assert_eq!(reason, reason::ADDRESS_REFUSED, "{message}");
        assert!(message.contains("a loopback address"), "{message}");
    }
    assert_eq!(victim.connections.load(Ordering::SeqCst), 0);
}

fn rebinding_bucket(port: u16) -> Service {
    bucket(format!("http://rebinds.example:{port}")).service
}
