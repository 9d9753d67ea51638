//! The API server may say when it wants to be asked again (`Retry-After`), as it does with 429 when it has too much to do. The
//! whole process obeys, not only the request that was refused: every client adds to the load.
//!
//! What enters: every answer to the client for the work. What leaves: how long reconciles and writes have to wait. Reads wait in
//! this layer; a write does not, because the right to write may end while it waits.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header::RETRY_AFTER};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use crate::apply::WriteThrottle;

/// The longest wait, whatever the answer says.
const LONGEST: Duration = Duration::from_secs(30);

/// A layer that passes `Retry-After` on to the [`WriteThrottle`]. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RetryAfterLayer(WriteThrottle);

impl RetryAfterLayer {
    /// Once `stop` is cancelled, requests that wait are sent or given up.
    pub fn new(stop: CancellationToken) -> Self {
        Self(WriteThrottle::new(stop))
    }

    /// The throttle that it informs.
    pub fn throttle(&self) -> WriteThrottle {
        self.0.clone()
    }

    fn observe<B>(&self, answer: &Response<B>) {
        if !matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = seconds {
            self.0.hold_off(Duration::from_secs(seconds).min(LONGEST));
        }
    }
}

impl<S> Layer<S> for RetryAfterLayer {
    type Service = RetryAfter<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryAfter { inner, layer: self.clone() }
    }
}

/// The service that [`RetryAfterLayer`] makes.
#[derive(Clone, Debug)]
pub struct RetryAfter<S> {
    inner: S,
    layer: RetryAfterLayer,
}

impl<S, Req, Res> Service<Request<Req>> for RetryAfter<S>
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
        let (reads, layer) = (*request.method() == Method::GET, self.layer.clone());
        // Nothing is sent before this is polled.
        let answer = self.inner.call(request);
        async move {
            if reads {
                layer.0.wait_for_server().await;
            }
            let answer = answer.await?;
            layer.observe(&answer);
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
        let layer = RetryAfterLayer::default();
        layer.observe(&answer.body(()).expect("an answer"));
        layer.0.left()
    }

    #[rstest]
    #[case::too_much_to_do(429, Some("5"), 5)]
    #[case::not_there(503, Some("1"), 1)]
    #[case::forever(429, Some("86400"), 30)]
    fn requests_wait_as_long_as_the_server_says(
        #[case] status: u16,
        #[case] header: Option<&str>,
        #[case] seconds: u64,
    ) {
        let left = after(status, header).expect("it waits");
        assert!(left <= Duration::from_secs(seconds) && left > Duration::from_secs(seconds - 1), "{left:?}");
    }

    #[rstest]
    #[case::other_answers(409, Some("5"))]
    #[case::nothing_is_said(429, None)]
    #[case::a_date(503, Some("Wed, 25 Nov 2026 00:00:00 GMT"))]
    #[case::now(429, Some("0"))]
    fn other_answers_make_nobody_wait(#[case] status: u16, #[case] header: Option<&str>) {
        assert_eq!(after(status, header), None);
    }

    #[test]
    fn the_longest_wait_counts() {
        let layer = RetryAfterLayer::default();
        for seconds in ["9", "1"] {
            layer.observe(&Response::builder().status(429).header(RETRY_AFTER, seconds).body(()).expect("an answer"));
        }
        assert!(layer.0.left().expect("it waits") > Duration::from_secs(8));
    }

    #[tokio::test]
    async fn reads_wait_and_writes_do_not() {
        let stop = CancellationToken::new();
        let layer = RetryAfterLayer::new(stop.clone());
        let server = tower::service_fn(|_: Request<()>| async { Ok::<_, std::convert::Infallible>(Response::new(())) });
        let mut client = layer.layer(server);
        layer.observe(&Response::builder().status(429).header(RETRY_AFTER, "20").body(()).expect("an answer"));
        let request = |method: Method| Request::builder().method(method).body(()).expect("a request");
        let write = client.call(request(Method::PATCH)).now_or_never().expect("it is sent at once");
        write.expect("it is answered");
        assert!(client.call(request(Method::GET)).now_or_never().is_none(), "it waits");
        stop.cancel();
        assert!(client.call(request(Method::GET)).now_or_never().is_some(), "a process that ends does not wait");
    }
}
