//! Requests to an S3 server that somebody named: each over a connection of its own, to an address that is allowed, and of its
//! answer no more than is needed is read. Redirects are answers like others.

use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http::{HeaderValue, Uri, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::services::network::{Network, READ_MAX};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug)]
struct Connector {
    network: Network,
    tls: Option<Arc<ClientConfig>>,
}

/// A client of the network, with TLS for `https`.
pub(super) fn client(network: Network, tls: Option<ClientConfig>) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector { network, tls: tls.map(Arc::new) });
    http_client_fn(move |_, _| connector.clone())
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move { connector.send(request).await.map_err(ConnectorError::io) })
    }
}

impl Connector {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, BoxError> {
        let mut request = request.try_into_http1x()?;
        let uri = request.uri().clone();
        let host = uri.host().ok_or("the request names no host")?;
        let encrypted = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        // As it was signed: the port only where it is not the usual one.
        let named = match uri.port_u16() {
            Some(port) if port != if encrypted { 443 } else { 80 } => format!("{host}:{port}"),
            _ => host.to_owned(),
        };
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(&named)?);
        *request.uri_mut() = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
        let stream = self.network.connect(host, port).await?;
        if !encrypted {
            return exchange(stream, request).await;
        }
        let tls = self.tls.clone().ok_or("no certificate authority is trusted")?;
        let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())?;
        exchange(TlsConnector::from(tls).connect(name, stream).await?, request).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<SdkBody>,
) -> Result<HttpResponse, BoxError> {
    let most = usize::try_from(READ_MAX)?;
    let (mut sender, connection) = http1::Builder::new().max_buf_size(most).handshake(TokioIo::new(stream)).await?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(http::Response::from_parts(parts, SdkBody::from(body)).try_into()?)
}
