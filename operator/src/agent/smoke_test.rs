//! Asks the candidates of a release, or what serves of it, for a minute at most. Nothing of an answer but its status code is told: it may
//! hold what is not for every reader of a status.

use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::contract::SmokeQuestion;
use crate::services::https;

/// How long the questions are repeated in all.
const LIMIT: Duration = Duration::from_mins(1);
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// How much of an answer is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Why a test did not pass.
#[derive(Debug)]
pub(super) enum NotPassed {
    /// An answer was not as it must be, in a sentence for the user.
    Failed(String),
    /// The pod is being stopped, which says nothing of the release.
    Stopped,
}

/// Asks every question until its answer is as it must be.
pub(super) async fn ask_all(questions: &[SmokeQuestion], stop: &CancellationToken) -> Result<(), NotPassed> {
    ask_within(LIMIT, questions, stop).await
}

async fn ask_within(limit: Duration, questions: &[SmokeQuestion], stop: &CancellationToken) -> Result<(), NotPassed> {
    let end = Instant::now() + limit;
    for question in questions {
        while let Err(problem) = ask(question).await {
            tracing::info!(problem, "the answer is not as it must be");
            if Instant::now() + PAUSE > end {
                return Err(NotPassed::Failed(problem));
            }
            tokio::select! {
                () = stop.cancelled() => return Err(NotPassed::Stopped),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        tracing::info!(path = question.path, "the answer is as it must be");
    }
    Ok(())
}

async fn ask(question: &SmokeQuestion) -> Result<(), String> {
    let SmokeQuestion { path, .. } = question;
    let scheme = if question.tls { "https" } else { "http" };
    let at = question.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
    let what = format!("GET {scheme}://{}{path}{at}", authority(question));
    let answer = tokio::time::timeout(ANSWER_WITHIN, answer(question)).await;
    let answer = answer.map_err(|_| format!("{what} was not answered within {} s", ANSWER_WITHIN.as_secs()))?;
    let judged =
        answer.map_err(|error| format!("failed to reach it: {error}")).and_then(|answer| judge(question, &answer));
    judged.map_err(|problem| format!("{what}: {problem}"))
}

/// What is judged of an answer.
struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

/// The host, and the port if it is not that of the scheme: so every client names it in the header `Host`.
fn authority(SmokeQuestion { host, port, tls, .. }: &SmokeQuestion) -> String {
    if *port == if *tls { 443 } else { 80 } { host.clone() } else { format!("{host}:{port}") }
}

async fn answer(question: &SmokeQuestion) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let SmokeQuestion { host, address, port, .. } = question;
    let stream = TcpStream::connect((address.as_ref().unwrap_or(host).as_str(), *port)).await?;
    if question.tls {
        over(https::secure(stream, host, None).await?, question).await
    } else {
        over(stream, question).await
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    question: &SmokeQuestion,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender, and an error of it is one of the request.
    tokio::spawn(connection);
    let request =
        Request::get(&question.path).header(header::HOST, authority(question)).header(header::CONNECTION, "close");
    let (head, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
    let body = match question.contains {
        // What is longer is cut off, and nothing is wrong with it.
        Some(_) => read(Limited::new(body, LONGEST_ANSWER)).await,
        None => Bytes::new(),
    };
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

/// The start of a body, as far as it comes.
async fn read(mut body: impl BodyExt<Data = Bytes> + Unpin) -> Bytes {
    let mut all = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        all.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    all.into()
}

fn judge(question: &SmokeQuestion, answer: &Answer) -> Result<(), String> {
    if answer.status != question.status {
        let redirects = (300..400).contains(&answer.status);
        let way_out = if redirects { "; a smoke test follows no redirect: ask the path that it leads to" } else { "" };
        return Err(format!("the answer is {}, not {}{way_out}", answer.status, question.status));
    }
    if let Some((name, contains)) = &question.header {
        let mut values = answer.headers.get_all(name).iter().peekable();
        if values.peek().is_none() {
            return Err(format!("the answer has no header {name}"));
        }
        let text = contains.as_deref().unwrap_or_default();
        if !values.any(|value| String::from_utf8_lossy(value.as_bytes()).contains(text)) {
            return Err(format!("the header {name} of the answer does not contain {text:?}"));
        }
    }
    match &question.contains {
        Some(text) if !String::from_utf8_lossy(&answer.body).contains(text) => {
            Err(format!("the answer does not contain {text:?}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use axum::{
        Router,
        http::{HeaderName, StatusCode},
        response::Redirect,
        routing::get,
    };
    use rstest::rstest;

    use super::*;

    /// A server, and how often `/late` was asked.
    async fn serve() -> (u16, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let late = asked.clone();
        let router = Router::new()
            .route("/health", get(|| async { ([(HeaderName::from_static("x-version"), "1.9.0")], "all is well") }))
            .route("/down", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
            .route("/round", get(|| async { Redirect::temporary("/round") }))
            .route("/long", get(|| async { "x".repeat(1 << 20) }))
            .route("/slow", get(std::future::pending::<&str>))
            .route(
                "/late",
                get(move || async move {
                    if late.fetch_add(1, Ordering::Relaxed) == 0 { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (port, asked)
    }

    fn question(port: u16, path: &str) -> SmokeQuestion {
        let host = "127.0.0.1".to_owned();
        let (address, contains, header) = Default::default();
        SmokeQuestion { host, address, tls: false, port, path: path.to_owned(), status: 200, contains, header }
    }

    #[rstest]
    #[case::health("/health", 200, None, None, None)]
    #[case::text("/health", 200, Some("is well"), None, None)]
    #[case::header("/health", 200, None, Some(("X-Version", Some("1.9"))), None)]
    #[case::any_header("/health", 200, None, Some(("x-version", None)), None)]
    #[case::another_status("/down", 503, None, None, None)]
    #[case::down("/down", 200, None, None, Some("the answer is 503, not 200"))]
    #[case::not_there("/nothing", 200, None, None, Some("the answer is 404, not 200"))]
    #[case::redirect("/round", 200, None, None, Some("is 307, not 200; a smoke test follows no redirect"))]
    #[case::other_text("/health", 200, Some("ill"), None, Some("the answer does not contain \"ill\""))]
    #[case::cut_off("/long", 200, Some("y"), None, Some("does not contain \"y\""))]
    #[case::no_header("/health", 200, None, Some(("x-other", None)), Some("has no header x-other"))]
    #[case::other_header("/health", 200, None, Some(("x-version", Some("2"))), Some("does not contain \"2\""))]
    #[tokio::test]
    async fn an_answer_is_judged(
        #[case] path: &str,
        #[case] status: u16,
        #[case] contains: Option<&str>,
        #[case] header: Option<(&str, Option<&str>)>,
        #[case] problem: Option<&str>,
    ) {
        let (port, _) = serve().await;
        let header = header.map(|(name, text)| (name.to_owned(), text.map(str::to_owned)));
        let question = SmokeQuestion { status, contains: contains.map(str::to_owned), header, ..question(port, path) };
        match (ask(&question).await, problem) {
            (Ok(()), None) => {}
            (Err(told), Some(problem)) => assert!(told.contains(problem) && told.contains(path), "{told}"),
            (told, _) => panic!("{told:?}"),
        }
    }

    #[tokio::test]
    async fn a_question_is_repeated_until_the_answer_is_right_or_the_time_is_over() {
        let (port, asked) = serve().await;
        let stop = CancellationToken::new();
        let limit = Duration::from_secs(5);
        ask_within(limit, &[question(port, "/health"), question(port, "/late")], &stop)
            .await
            .expect("the second answer");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let told = ask_within(Duration::ZERO, &[question(port, "/down")], &stop).await;
        assert!(matches!(&told, Err(NotPassed::Failed(why)) if why.contains("the answer is 503")), "{told:?}");
        let nobody = SmokeQuestion { port: 1, ..question(port, "/health") };
        let told = ask_within(Duration::ZERO, &[nobody], &stop).await;
        assert!(matches!(&told, Err(NotPassed::Failed(why)) if why.contains("failed to reach it")), "{told:?}");
        stop.cancel();
        let told = ask_within(limit, &[question(port, "/down")], &stop).await;
        assert!(matches!(told, Err(NotPassed::Stopped)), "a pod that is stopped fails no test: {told:?}");
    }

    #[tokio::test]
    async fn a_host_is_asked_at_the_address_that_is_given_and_over_tls_only_with_its_certificate() {
        let (port, _) = serve().await;
        let at = |tls| SmokeQuestion {
            host: "shop.example.com".to_owned(),
            address: Some("127.0.0.1".to_owned()),
            tls,
            ..question(port, "/health")
        };
        ask(&at(false)).await.expect("an answer");
        let told = ask(&at(true)).await.expect_err("the server knows no TLS");
        assert!(
            told.starts_with(&format!("GET https://shop.example.com:{port}/health at 127.0.0.1: failed")),
            "{told}"
        );
        for (port, tls, expected) in [(80, false, "h"), (443, true, "h"), (443, false, "h:443"), (80, true, "h:80")] {
            let asked = SmokeQuestion { host: "h".to_owned(), port, tls, ..question(port, "/") };
            assert_eq!(authority(&asked), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let (port, _) = serve().await;
        let told = ask(&question(port, "/slow")).await.expect_err("it does not answer");
        assert!(told.contains("was not answered within 10 s"), "{told}");
    }
}
