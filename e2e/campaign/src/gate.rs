//! A network that can be cut: a relay on loopback that passes bytes on, or keeps them.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// The way of one client to a server. It ends when it is dropped.
pub(super) struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    _serving: JoinSet<()>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Gate {
    /// An open way to the port on loopback.
    pub(super) async fn start(port: u16) -> Result<Gate> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to open a port for the gate")?;
        let address = listener.local_addr()?;
        let (open, opened) = watch::channel(true);
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, port, opened));
        Ok(Gate { address, open, _serving: serving })
    }

    /// Where it is entered.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the network or mends it. What was sent meanwhile is not lost: it arrives when it is mended, as TCP has it.
    pub(super) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

async fn accept(listener: TcpListener, port: u16, mut opened: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        if opened.wait_for(|open| *open).await.is_err() {
            return;
        }
        let Ok((client, _)) = listener.accept().await else { return };
        let opened = opened.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::join!(forward(from_client, to_server, opened.clone()), forward(from_server, to_client, opened));
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Passes on until one side ends; ends the other then.
async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut opened: watch::Receiver<bool>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if opened.wait_for(|open| *open).await.is_err() || to.write_all(&chunk[..length]).await.is_err() {
            break;
        }
    }
    // An end is told as late as everything else.
    let _ = opened.wait_for(|open| *open).await;
    let _ = to.shutdown().await;
}
