//! A way to the real PostgreSQL that ends, and with it the client, at a chosen message of the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Passes everything on until so many messages of clients came. Ends with the test.
pub(crate) struct Cut {
    pub(crate) port: u16,
    reached: watch::Receiver<bool>,
    serving: AbortHandle,
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What is common to all connections.
#[derive(Clone)]
struct Limit {
    seen: Arc<AtomicU32>,
    at: u32,
    /// Whether the last message still reaches the server.
    passes: bool,
    reached: watch::Sender<bool>,
}

impl Cut {
    pub(crate) async fn new(server_port: u16, at: u32, passes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (reached, watched) = watch::channel(false);
        let limit = Limit { seen: Arc::default(), at, passes, reached };
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await else { continue };
                let limit = limit.clone();
                tokio::spawn(async move {
                    let (from_client, mut to_client) = client.into_split();
                    let (mut from_server, to_server) = server.into_split();
                    let over = limit.reached.subscribe();
                    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                    pass(from_client, to_server, limit).await;
                    // Once it is cut nothing moves any more, until the test has killed the client.
                    if *over.borrow() {
                        back.abort();
                    } else {
                        let _ = back.await;
                    }
                });
            }
        });
        Self { port, reached: watched, serving: serving.abort_handle() }
    }

    pub(crate) fn is_reached(&self) -> bool {
        *self.reached.borrow()
    }

    /// Waits until the message came.
    pub(crate) async fn reached(&self) {
        let mut reached = self.reached.clone();
        if reached.wait_for(|reached| *reached).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a client sends in one piece is a message, or several that belong together.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, limit: Limit) {
    let mut piece = vec![0; 64 * 1024];
    let mut over = limit.reached.subscribe();
    loop {
        let read = tokio::select! {
            read = from.read(&mut piece) => read.unwrap_or(0),
            _ = over.wait_for(|over| *over) => return,
        };
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        let last = limit.seen.fetch_add(1, Ordering::SeqCst) + 1 == limit.at;
        if (!last || limit.passes) && to.write_all(&piece[..read]).await.is_err() {
            return;
        }
        if last {
            limit.reached.send_replace(true);
            return;
        }
    }
}
