//! The way in from outside: requests to the Ingress controller's ports on 127.0.0.1, for any host.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A receipt goes through four services; a proxy that never answers must not hold a scenario.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The Ingress controller, from outside.
#[derive(Clone, Debug)]
pub struct Ingress {
    http: u16,
    https: u16,
    authority: Option<String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON, if the status is 2xx.
    pub fn json(&self) -> Result<Value> {
        if !(200..300).contains(&self.code) {
            bail!("answered {}: {}", self.code, self.body);
        }
        serde_json::from_str(&self.body).with_context(|| format!("the answer is no JSON: {}", self.body))
    }
}

impl Ingress {
    pub(super) fn new(http: u16, https: u16) -> Ingress {
        Ingress { http, https, authority: None }
    }

    /// The same by HTTPS, accepting only a certificate for the host by that authority (PEM).
    #[must_use]
    pub fn over_https(&self, authority: &str) -> Ingress {
        Ingress { authority: Some(authority.to_owned()), ..self.clone() }
    }

    /// Asks for a path of a host.
    pub async fn get(&self, host: &str, path: &str) -> Result<Answer> {
        self.send(Method::GET, host, path, Vec::new()).await
    }

    /// Sends a body to a path of a host.
    pub async fn post(&self, host: &str, path: &str, body: impl Into<Vec<u8>>) -> Result<Answer> {
        self.send(Method::POST, host, path, body.into()).await
    }

    async fn send(&self, method: Method, host: &str, path: &str, body: Vec<u8>) -> Result<Answer> {
        let request = Request::builder().method(method).uri(path).header("host", host);
        let request = request.body(Full::new(Bytes::from(body)))?;
        let exchanged = async {
            match &self.authority {
                None => exchange(connect(self.http).await?, request).await,
                Some(authority) => exchange(connect_tls(self.https, host, authority).await?, request).await,
            }
        };
        let answered = timeout(TIMEOUT, exchanged).await;
        answered.with_context(|| format!("{host}{path} did not answer in {} s", TIMEOUT.as_secs()))?
    }
}

async fn connect_tls(port: u16, host: &str, authority: &str) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (name, tcp) = (ServerName::try_from(host.to_owned())?, connect(port).await?);
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.with_context(|| format!("no TLS with {host}"))
}

async fn connect(port: u16) -> Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.with_context(|| format!("nothing listens on port {port}"))
}

/// One request on a connection of its own: so the request follows the route as it is now, not as it was when a pool was filled.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok(Answer { code, body: String::from_utf8_lossy(&body).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_no_success_is_no_json() {
        let error = Answer { code: 503, body: "{}".to_owned() }.json().expect_err("not a success");
        assert!(error.to_string().contains("503"));
        assert!(Answer { code: 201, body: "{}".to_owned() }.json().is_ok());
    }
}
