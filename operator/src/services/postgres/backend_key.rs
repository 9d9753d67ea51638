//! The process that a session was told it has. A pooler answers a login itself, with numbers of its own, and its clients learn
//! by `pg_backend_pid()` which process serves them: the two differ. The library shows the number in requests to cancel alone.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// The length of a request to cancel (PostgreSQL documentation, section 54.7, `CancelRequest`), and where the process is in it.
const REQUEST: usize = 16;
const PROCESS: std::ops::Range<usize> = 8..12;

/// The number of the process. `None`: the server gave none. Nothing is sent anywhere.
pub(super) async fn process(client: &Client) -> Option<i32> {
    let (near, mut far) = tokio::io::duplex(64);
    // The answer to the question whether it speaks TLS, which comes first where the URL wants it.
    far.write_all(b"S").await.ok()?;
    client.cancel_token().cancel_query_raw(near, Unencrypted).await.ok()?;
    let mut written = Vec::new();
    far.read_to_end(&mut written).await.ok()?;
    let request = written.get(written.len().checked_sub(REQUEST)?..)?;
    let process = i32::from_be_bytes(request.get(PROCESS)?.try_into().ok()?);
    (process != 0).then_some(process)
}

/// Between two ends in memory there is nothing to encrypt.
struct Unencrypted;

struct Plain(DuplexStream);

impl TlsConnect<DuplexStream> for Unencrypted {
    type Stream = Plain;
    type Error = Infallible;
    type Future = Ready<Result<Plain, Infallible>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Plain(stream)))
    }
}

impl TlsStream for Plain {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
