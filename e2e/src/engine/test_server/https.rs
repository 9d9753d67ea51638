//! A minimal HTTPS client: a GET with a client certificate. It blocks, so that tests can start a test server with or without an
//! asynchronous runtime.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A server on loopback, and who we are to it.
#[derive(Debug)]
pub(super) struct Endpoint {
    port: u16,
    config: Arc<ClientConfig>,
}

impl Endpoint {
    /// Uses the authority, certificate and key in the folder `pki`, those of the client `name`.
    pub(super) fn new(port: u16, pki: &Path, name: &str) -> Result<Endpoint> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.join("ca.crt"))?)?;
        let certificate = CertificateDer::from_pem_file(pki.join(format!("{name}.crt")))?;
        let key = PrivateKeyDer::from_pem_file(pki.join(format!("{name}.key")))?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok(Endpoint { port, config: Arc::new(config) })
    }

    /// The status that a GET of the path is answered with; none when nobody answers yet.
    pub(super) fn status(&self, path: &str, user_agent: &str) -> Result<Option<u16>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let Ok(tcp) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return Ok(None) };
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        let session = ClientConnection::new(Arc::clone(&self.config), ServerName::try_from("localhost")?)?;
        let mut stream = StreamOwned::new(session, tcp);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {user_agent}\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        if stream.write_all(request.as_bytes()).is_err() {
            return Ok(None);
        }
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            // Closed without the farewell that TLS asks for: what matters has been read.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(_) => return Ok(None),
        }
        if answer.is_empty() {
            return Ok(None);
        }
        parse_status(&answer).map(Some)
    }
}

fn parse_status(answer: &[u8]) -> Result<u16> {
    let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line)?;
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("no HTTP status: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_status() {
        assert_eq!(parse_status(b"HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\n").expect("a status"), 403);
        parse_status(b"SSH-2.0\r\n").expect_err("no HTTP");
    }
}
