//! A bucket in which one object cannot be deleted, as under a legal hold: in front of the real server.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Passes everything on, but for the deletion of keys that hold a text. Ends with the test.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) endpoint: String,
    serving: AbortHandle,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

const DENIED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code><Message>under legal hold</Message></Error>";

impl Lock {
    pub(crate) async fn new(server_port: u16, locked: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let locked: Arc<str> = locked.into();
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that goes away in between is no failure of the test.
                tokio::spawn(pass(client, server_port, locked.clone()));
            }
        });
        Self { endpoint, serving: serving.abort_handle() }
    }
}

/// One request a connection, since the server is told to close it.
async fn pass(mut client: TcpStream, server_port: u16, locked: Arc<str>) -> std::io::Result<()> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let line = head.lines().next().unwrap_or_default();
    if line.starts_with("DELETE ") && line.contains(&*locked) {
        let length = DENIED.len();
        let answer = format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{DENIED}"
        );
        return client.write_all(answer.as_bytes()).await;
    }
    let mut server = TcpStream::connect(("127.0.0.1", server_port)).await?;
    server.write_all(format!("{head}\r\nConnection: close").as_bytes()).await?;
    server.write_all(&read[end..]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
