//! Connections over TLS to a host whose certificate a public authority signed, and that may be at another address than its name says.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::tls::{self, Verify};

/// Begins TLS on a connection. The certificate must be one for `host`. `authorities` (PEM) replace the public ones.
pub async fn secure(
    stream: TcpStream,
    host: &str,
    authorities: Option<&str>,
) -> Result<TlsStream<TcpStream>, io::Error> {
    let config = tls::client(Verify::ChainAndName, authorities).map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
