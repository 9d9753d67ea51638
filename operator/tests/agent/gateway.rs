//! A gateway before an S3 server that changes what passes, as servers do that understand a request in their own way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::routing::any;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// In how many pieces a slow answer comes.
const PIECES: usize = 8;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Whether what is written is to be locked.
    pub(crate) locks: bool,
    /// Who asks: the access key id, and the session token of temporary keys.
    pub(crate) by: (String, Option<String>),
    query: String,
}

impl Asked {
    /// Whether the query has the parameter.
    pub(crate) fn asks(&self, name: &str) -> bool {
        self.query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }
}

/// What becomes of a request.
#[derive(Clone, Copy)]
pub(crate) enum Passed {
    /// It passes.
    On,
    /// It passes with another body.
    Changed(fn(&str) -> String),
    /// It passes, and what comes back has another body.
    Translated(fn(&str) -> String),
    /// It passes to another bucket: everything that is in the one is in the other.
    Renamed(&'static str, &'static str),
    /// It passes, and what comes back says what became of the copy of the object.
    Replicated(&'static str),
    /// It passes, and what comes back says nothing of what the object says of itself.
    Unsaid,
    /// The gateway itself says that the server made a copy, in this version.
    Copied(Option<&'static str>),
    /// The gateway itself answers, with a status and a code.
    Answered(u16, &'static str),
    /// It passes, and the connection breaks after half of what comes back.
    Broken,
    /// It passes, and what comes back takes this long, in pieces.
    Slow(Duration),
    /// The gateway itself answers as Amazon does of a bucket in another region.
    Elsewhere(&'static str),
}

/// It runs while it is held.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) endpoint: String,
    running: JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Gateway {
    /// Starts it before a server.
    pub(crate) async fn start(port: u16, decide: impl Fn(&Asked) -> Passed + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let endpoint = format!("http://{}", listener.local_addr().expect("address"));
        let decide = Arc::new(decide);
        let pass = move |request: Request<Body>| {
            let decide = decide.clone();
            async move { pass(port, request, &*decide).await }
        };
        let router = axum::Router::new().fallback(any(pass));
        let running = tokio::spawn(async move { axum::serve(listener, router).await.expect("gateway") });
        Self { endpoint, running }
    }
}

/// What the gateway itself answers.
fn own(decided: Passed) -> Option<Response<Body>> {
    let answer = match decided {
        Passed::Copied(version) => {
            let text = "<CopyObjectResult><ETag>&quot;0&quot;</ETag></CopyObjectResult>";
            let answer =
                version.into_iter().fold(Response::builder(), |answer, id| answer.header("x-amz-version-id", id));
            answer.body(Body::from(text))
        }
        Passed::Elsewhere(region) => {
            let text = "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>";
            let answer = Response::builder().status(301).header("x-amz-bucket-region", region);
            answer.body(Body::from(text))
        }
        Passed::Answered(status, code) => {
            let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
            let status = StatusCode::from_u16(status).expect("a status");
            Response::builder().status(status).body(Body::from(text))
        }
        _ => return None,
    };
    Some(answer.expect("an answer"))
}

async fn pass(port: u16, request: Request<Body>, decide: &(dyn Fn(&Asked) -> Passed + Send + Sync)) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let (mut translate, mut replicated) = (None, None);
    let (path, locks) = (head.uri.path().to_owned(), head.headers.contains_key("x-amz-object-lock-mode"));
    let by = by(&head.headers);
    let decided = decide(&Asked { method: head.method.to_string(), path, locks, by, query });
    if let Some(answer) = own(decided) {
        return answer;
    }
    let body = match decided {
        Passed::Renamed(from, to) => {
            let uri = head.uri.to_string().replacen(&format!("/{from}"), &format!("/{to}"), 1);
            head.uri = uri.parse().expect("a URL");
            translate = Some(versioning as fn(&str) -> String)
                .filter(|_| head.uri.query().is_some_and(|query| query.starts_with("versioning")));
            body
        }
        Passed::Replicated(status) => {
            replicated = Some(status);
            body
        }
        Passed::Changed(change) => {
            let body = change(std::str::from_utf8(&body).expect("a text"));
            head.headers.insert("content-length", body.len().into());
            head.headers.remove("content-md5");
            Bytes::from(body)
        }
        Passed::Translated(change) => {
            translate = Some(change);
            body
        }
        _ => body,
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("server");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("server");
    tokio::spawn(connection);
    let request = Request::from_parts(head, Full::new(body));
    let answer = sender.send_request(request).await.expect("an answer");
    let (mut head, body) = answer.into_parts();
    let mut body = body.collect().await.expect("a body").to_bytes();
    if let Some(change) = translate {
        body = Bytes::from(change(std::str::from_utf8(&body).expect("a text")));
        head.headers.insert("content-length", body.len().into());
    }
    if let Some(body) = in_pieces(decided, &body) {
        return Response::from_parts(head, body);
    }
    if matches!(decided, Passed::Unsaid) {
        let said = head.headers.keys().filter(|name| name.as_str().starts_with("x-amz-meta-")).cloned();
        said.collect::<Vec<_>>().iter().for_each(|name| drop(head.headers.remove(name)));
    }
    if let Some(status) = replicated {
        head.headers.insert("x-amz-replication-status", status.parse().expect("a header"));
    }
    Response::from_parts(head, Body::from(body))
}

/// Who signed a request.
fn by(headers: &HeaderMap) -> (String, Option<String>) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let signature = text("authorization").unwrap_or_default();
    let id = signature.split("Credential=").nth(1).and_then(|rest| rest.split('/').next());
    (id.unwrap_or_default().to_owned(), text("x-amz-security-token"))
}

/// An answer that breaks off, or that takes its time. `None`: it comes as it is.
fn in_pieces(decided: Passed, body: &Bytes) -> Option<Body> {
    match decided {
        Passed::Broken => {
            let half = Ok(body.slice(..body.len() / 2));
            let pieces = [half, Err(io::Error::from(io::ErrorKind::ConnectionReset))];
            Some(Body::from_stream(stream::iter(pieces)))
        }
        Passed::Slow(within) => {
            let size = body.len().div_ceil(PIECES).max(1);
            let pieces: Vec<_> = body.chunks(size).map(Bytes::copy_from_slice).collect();
            let pause = within / u32::try_from(PIECES).expect("a few");
            let slowly = stream::iter(pieces).then(move |piece| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, io::Error>(piece)
            });
            Some(Body::from_stream(slowly))
        }
        _ => None,
    }
}

/// Moto gives the answer about versioning another name than Amazon does, which the client does not take for one.
pub(crate) fn versioning(text: &str) -> String {
    text.replace("GetBucketVersioningResponse", "VersioningConfiguration")
}
