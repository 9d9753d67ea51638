//! Something that answers as a bucket does, so that what waits for one is made. Nothing is stored in it.

use std::convert::Infallible;

use anyhow::{Context, Result};
use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const LIST: &[u8] = br#"<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>files</Name><KeyCount>0</KeyCount><MaxKeys>1</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"#;
const VERSIONING: &[u8] = br#"<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>"#;

/// Answers until it is dropped.
pub(super) struct Bucket {
    /// Its address.
    pub(super) endpoint: String,
    _serving: JoinSet<()>,
}

impl Bucket {
    /// Begins to answer.
    pub(super) async fn start() -> Result<Bucket> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to open a port for the bucket")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                        let query = request.uri().query().unwrap_or_default();
                        let answer = if query.contains("versioning") { VERSIONING } else { LIST };
                        std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(answer)))))
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Bucket { endpoint, _serving: serving })
    }
}
