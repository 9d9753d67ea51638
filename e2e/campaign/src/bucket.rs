//! A bucket that answers: the services of a stack that no pod runs for have to be there all the same, or nothing that waits
//! for them is ever made. It holds nothing, and records attempts to change it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use http::{Method, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::sync::lock;

/// It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Where it is, as an URL.
    pub(super) endpoint: String,
    changes: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Bucket {
    /// From now on it says that any bucket is there.
    pub(super) async fn start() -> Result<Bucket> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to open a port for the bucket")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let changes = Arc::new(Mutex::new(Vec::new()));
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&changes)));
        Ok(Bucket { endpoint, changes, _serving: serving })
    }

    /// The attempts to change it.
    pub(super) fn changes(&self) -> Vec<String> {
        lock(&self.changes).clone()
    }
}

/// The listing of a bucket without objects.
pub(super) const EMPTY_LIST: &[u8] = br#"<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"#;

async fn accept(listener: TcpListener, changes: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let changes = Arc::clone(&changes);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            if !matches!(*request.method(), Method::GET | Method::HEAD) {
                lock(&changes).push(format!("{} {}", request.method(), request.uri()));
            }
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(answer(&request)))))
        });
        connections.spawn(async move {
            // It ends with an error when an operator is killed.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn answer(request: &http::Request<hyper::body::Incoming>) -> Bytes {
    if is_list(request.uri()) { Bytes::from_static(EMPTY_LIST) } else { Bytes::new() }
}

/// Whether a listing is asked for.
pub(super) fn is_list(uri: &http::Uri) -> bool {
    uri.query().is_some_and(|query| query.contains("list-type="))
}
