//! The API server may say when it wants to be asked again (`Retry-After`), as it does with 429 when it has too much to do.
//! It is obeyed by all that the process asks for, not by the one request alone: the load is everybody's.
//!
//! What enters: every answer to the client of the work. What leaves: how long passes and writes have to wait. Reads wait here;
//! a write that is under way is not held, since the right to write may end meanwhile.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header::RETRY_AFTER};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use crate::apply::Turns;

/// The longest that is waited, whatever the answer says.
const LONGEST: Duration = Duration::from_secs(30);

/// Tells the turns what the API server says. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Patience(Turns);

impl Patience {
    /// Patience until `stop` is cancelled: then what waits is sent or given up.
    pub fn new(stop: CancellationToken) -> Self {
        Self(Turns::new(stop))
    }

    /// The turns that it tells.
    pub(super) fn turns(&self) -> Turns {
        self.0.clone()
    }

    /// How long to wait yet.
    pub(super) fn left(&self) -> Option<Duration> {
        self.0.left()
    }

    fn told<B>(&self, answer: &Response<B>) {
        if !matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = seconds {
            self.0.told(Duration::from_secs(seconds).min(LONGEST));
        }
    }
}

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Patient { inner, patience: self.clone() }
    }
}

/// The service that [`Patience`] makes.
#[derive(Clone, Debug)]
pub struct Patient<S> {
    inner: S,
    patience: Patience,
}

impl<S, Req, Res> Service<Request<Req>> for Patient<S>
where
    S: Service<Request<Req>, Response = Response<Res>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Req>) -> Self::Future {
        let (reads, patience) = (*request.method() == Method::GET, self.patience.clone());
        // Nothing is sent before this is polled.
        let answer = self.inner.call(request);
        async move {
            if reads {
                patience.0.patience().await;
            }
            let answer = answer.await?;
            patience.told(&answer);
            Ok(answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn after(status: u16, header: Option<&str>) -> Option<Duration> {
        let mut answer = Response::builder().status(status);
        if let Some(seconds) = header {
            answer = answer.header(RETRY_AFTER, seconds);
        }
        let patience = Patience::default();
        patience.told(&answer.body(()).expect("an answer"));
        patience.left()
    }

    #[rstest]
    #[case::too_much_to_do(429, Some("5"), 5)]
    #[case::not_there(503, Some("1"), 1)]
    #[case::forever(429, Some("86400"), 30)]
    fn it_waits_as_long_as_it_is_told(#[case] status: u16, #[case] header: Option<&str>, #[case] seconds: u64) {
        let left = after(status, header).expect("it waits");
        assert!(left <= Duration::from_secs(seconds) && left > Duration::from_secs(seconds - 1), "{left:?}");
    }

    #[rstest]
    #[case::other_answers(409, Some("5"))]
    #[case::nothing_is_said(429, None)]
    #[case::a_date(503, Some("Wed, 25 Nov 2026 00:00:00 GMT"))]
    #[case::now(429, Some("0"))]
    fn it_does_not_wait_for_nothing(#[case] status: u16, #[case] header: Option<&str>) {
        assert_eq!(after(status, header), None);
    }

    #[test]
    fn the_longest_wait_counts() {
        let patience = Patience::default();
        for seconds in ["9", "1"] {
            patience.told(&Response::builder().status(429).header(RETRY_AFTER, seconds).body(()).expect("an answer"));
        }
        assert!(patience.left().expect("it waits") > Duration::from_secs(8));
    }

    #[tokio::test]
    async fn reads_wait_and_writes_do_not() {
        let stop = CancellationToken::new();
        let patience = Patience::new(stop.clone());
        let server = tower::service_fn(|_: Request<()>| async { Ok::<_, std::convert::Infallible>(Response::new(())) });
        let mut client = patience.layer(server);
        patience.told(&Response::builder().status(429).header(RETRY_AFTER, "20").body(()).expect("an answer"));
        let request = |method: Method| Request::builder().method(method).body(()).expect("a request");
        let write = client.call(request(Method::PATCH)).now_or_never().expect("it is sent at once");
        write.expect("it is answered");
        assert!(client.call(request(Method::GET)).now_or_never().is_none(), "it waits");
        stop.cancel();
        assert!(client.call(request(Method::GET)).now_or_never().is_some(), "a process that ends does not wait");
    }
}
