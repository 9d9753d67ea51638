//! What goes wrong between the operator and the API server, request by request.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use futures::{FutureExt, future, future::BoxFuture};
use http::{Request, Response};
use kube::Client;
use tokio::{sync::Notify, time::sleep};

use crate::api::{ApiServer, Asked, Verb, refusal};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// It is refused with this code.
    Refuse(u16),
    /// It is done, and the answer is 504.
    DoneButRefused,
    /// The connection ends before it arrives.
    LostBefore,
    /// The connection ends after it was done.
    LostAfter,
    /// It arrives late, by milliseconds.
    Late(u32),
    /// The answer is late, by milliseconds.
    AnsweredLate(u32),
    /// The operator is killed before it arrives.
    KillBefore,
    /// The operator is killed after it was done.
    KillAfter,
}

/// The way to the API server, with faults on it.
#[derive(Clone)]
pub struct Way {
    server: ApiServer,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    /// Told when the operator is to be killed.
    pub kill: Arc<Notify>,
}

impl Way {
    /// A way on which requests meet these faults, one each, until there are no more.
    pub fn new(server: ApiServer, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { server, faults: Arc::new(Mutex::new(faults.into_iter().collect())), kill: Arc::default() }
    }

    /// A client that goes this way.
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.faults.lock().expect("nobody panicked").clear();
    }

    async fn pass(self, asked: Asked) -> io::Result<Response<Body>> {
        // A watch is cut by other means, but for one that begins as a list.
        let mut fault = Fault::Pass;
        if asked.verb != Verb::Watch || asked.lists_first {
            fault = self.faults.lock().expect("nobody panicked").pop_front().unwrap_or(Fault::Pass);
        }
        match fault {
            Fault::Refuse(code) => return Ok(refusal(code, "Injected", "a fault")),
            Fault::LostBefore => return Err(io::ErrorKind::ConnectionReset.into()),
            Fault::Late(milliseconds) => sleep(Duration::from_millis(milliseconds.into())).await,
            Fault::KillBefore => return self.killed().await,
            _ => {}
        }
        let answer = self.server.answer(&asked);
        match fault {
            Fault::DoneButRefused => Ok(refusal(504, "Timeout", "a fault")),
            Fault::LostAfter => Err(io::ErrorKind::ConnectionReset.into()),
            Fault::AnsweredLate(milliseconds) => {
                sleep(Duration::from_millis(milliseconds.into())).await;
                Ok(answer)
            }
            Fault::KillAfter => self.killed().await,
            _ => Ok(answer),
        }
    }

    async fn killed(&self) -> io::Result<Response<Body>> {
        self.kill.notify_one();
        future::pending().await
    }
}

impl tower::Service<Request<kube::client::Body>> for Way {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let way = self.clone();
        async move { way.pass(Asked::read(request).await).await }.boxed()
    }
}
