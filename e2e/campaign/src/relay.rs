//! The common part of the proxies between an operator and its API server: they forward requests, refuse some in the words of
//! the API server, and write a kubeconfig.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use kube::Client;
use serde_json::json;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;
/// Why it could not.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Writes a kubeconfig that leads to a proxy.
pub(crate) fn write_kubeconfig(proxy: SocketAddr, path: &Path) -> Result<()> {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{proxy}")}}],
        "users": [{"name": "operator", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        "current-context": "proxy",
    });
    std::fs::write(path, kubeconfig.to_string()).with_context(|| format!("failed to write {}", path.display()))
}

/// Forwards a request to the API server of the client.
pub(crate) async fn forward(client: Client, request: Request<Incoming>) -> Result<Response<Body>, Error> {
    send(request, |request| async move { client.send(request).await }).await
}

/// Passes a request on by way of `by`.
pub(super) async fn send<F>(
    request: Request<Incoming>,
    by: impl FnOnce(Request<kube::client::Body>) -> F,
) -> Result<Response<Body>, Error>
where
    F: Future<Output = kube::Result<Response<kube::client::Body>>> + Send + 'static,
{
    let (mut head, body) = request.into_parts();
    // The client knows where to, and who it is.
    head.uri = head.uri.path_and_query().map(|path| path.as_str().parse()).transpose()?.unwrap_or_default();
    head.headers.remove(header::HOST);
    let body = body.collect().await?.to_bytes();
    let request = Request::from_parts(head, kube::client::Body::from(body));
    // In a task of its own: what is on its way when the operator is killed arrives all the same, as it would on a network.
    let answer = tokio::spawn(by(request));
    let (mut head, body) = answer.await??.into_parts();
    head.headers.remove(header::TRANSFER_ENCODING);
    let body = body.into_data_stream().map_ok(Frame::data).map_err(|error| -> Error { error.into() });
    Ok(Response::from_parts(head, StreamBody::new(body).boxed_unsync()))
}

/// An answer as the API server gives it.
pub(crate) fn refusal(code: u16, seconds: Option<u64>) -> Result<Response<Body>, Error> {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "by the plan", "metadata": {},
    });
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut answer = Response::builder().status(StatusCode::from_u16(code)?);
    if let Some(seconds) = seconds {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    Ok(answer.header(header::CONTENT_TYPE, "application/json").body(body)?)
}
