//! Something that answers as a bucket does, so that what waits for one is made. Nothing is stored in it.

use std::convert::Infallible;

use anyhow::{Context, Result};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::bucket::{EMPTY_LIST, is_list};

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
                    let service = service_fn(|request: Request<Incoming>| async move {
                        let answer = if is_list(request.uri()) { EMPTY_LIST } else { VERSIONING };
                        let answer = Bytes::from_static(answer);
                        Ok::<_, Infallible>(Response::new(Full::new(answer)))
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
