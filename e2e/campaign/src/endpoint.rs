//! What an operator says of itself over HTTP.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How the log names the address.
const ADDRESS: &str = "\"address\":\"";

/// The address that the operator which was started last with this log listens at; none while it has not said so.
pub(super) async fn address(log: &Path) -> Option<String> {
    let text = tokio::fs::read_to_string(log).await.ok()?;
    let (_, rest) = text.rsplit_once(ADDRESS)?;
    rest.split('"').next().map(str::to_owned)
}

/// Asks for a path: the status, and what it says.
pub(super) async fn ask(log: &Path, path: &str) -> Result<(u16, String)> {
    let address = address(log).await.context("the operator has not said where it listens")?;
    let mut stream = TcpStream::connect(&address).await.with_context(|| format!("nobody listens at {address}"))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: operator\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no HTTP status")?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or_default();
    Ok((status, body))
}
