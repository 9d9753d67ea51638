//! A layer for the client of the API server that counts every request, with the names of client-go.
//!
//! The retries of kube's default client lie below the layers that are added to it: a request that was retried counts once, with
//! its last answer. A request that is given up, as after a time-out, is not counted.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, Response, StatusCode};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use tower::{Layer, Service};

/// The buckets of client-go.
const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// The code of a request without an answer, as client-go writes it.
const NO_ANSWER: &str = "<error>";

/// The families of the requests; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    total: IntCounterVec,
    seconds: HistogramVec,
}

impl Requests {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let total = Opts::new("rest_client_requests_total", "Requests to the API server.");
        let seconds = HistogramOpts::new("rest_client_request_duration_seconds", "Time until the head of the answer.");
        let requests = Self {
            total: IntCounterVec::new(total, &["code", "method", "host"])?,
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["verb", "host"])?,
        };
        registry.register(Box::new(requests.total.clone()))?;
        registry.register(Box::new(requests.seconds.clone()))?;
        Ok(requests)
    }

    fn answered(&self, method: &str, host: &str, code: &str, since: Instant) {
        self.total.with_label_values(&[code, method, host]).inc();
        self.seconds.with_label_values(&[method, host]).observe(since.elapsed().as_secs_f64());
    }
}

/// Counts the requests of a client. Made by [`super::Metrics::request_layer`], given to `ClientBuilder::with_layer`.
#[derive(Clone, Debug)]
pub struct RequestMetricsLayer {
    requests: Requests,
    host: Arc<str>,
}

impl RequestMetricsLayer {
    /// `host` is the API server's: the requests that pass here carry no more than a path.
    pub(super) fn new(requests: Requests, host: &str) -> Self {
        Self { requests, host: host.into() }
    }
}

impl<S> Layer<S> for RequestMetricsLayer {
    type Service = CountedRequests<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedRequests { inner, layer: self.clone() }
    }
}

/// The service that [`RequestMetricsLayer`] makes.
#[derive(Clone, Debug)]
pub struct CountedRequests<S> {
    inner: S,
    layer: RequestMetricsLayer,
}

impl<S, Req, Res> Service<Request<Req>> for CountedRequests<S>
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
        let method = method_label(request.method());
        let RequestMetricsLayer { requests, host } = self.layer.clone();
        let sent = Instant::now();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            let status = answer.as_ref().map(Response::status);
            requests.answered(method, &host, status.as_ref().map_or(NO_ANSWER, StatusCode::as_str), sent);
            answer
        }
        .boxed()
    }
}

/// The label has as many values as the API has methods.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use tower::{ServiceExt as _, service_fn};

    use crate::telemetry::Metrics;

    use super::*;

    fn request(method: Method) -> Request<()> {
        Request::builder().method(method).uri("/api/v1/pods").body(()).unwrap()
    }

    #[tokio::test]
    async fn requests_are_counted_by_code_method_and_host() {
        let metrics = Metrics::new().unwrap();
        let server = service_fn(|request: Request<()>| async move {
            let code = if request.method() == Method::PUT { 409 } else { 200 };
            Ok::<_, Infallible>(Response::builder().status(code).body(()).unwrap())
        });
        let mut client = metrics.request_layer("10.0.0.1:443").layer(server);
        for method in [Method::GET, Method::GET, Method::PUT] {
            client.ready().await.unwrap().call(request(method)).await.unwrap();
        }
        let text = metrics.render().unwrap();
        for line in [
            "rest_client_requests_total{code=\"200\",host=\"10.0.0.1:443\",method=\"GET\"} 2\n",
            "rest_client_requests_total{code=\"409\",host=\"10.0.0.1:443\",method=\"PUT\"} 1\n",
            "rest_client_request_duration_seconds_count{host=\"10.0.0.1:443\",verb=\"GET\"} 2\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
    }

    #[tokio::test]
    async fn a_request_without_an_answer_is_counted_as_an_error() {
        let metrics = Metrics::new().unwrap();
        let dead = service_fn(|_: Request<()>| async { Err::<Response<()>, _>(io::Error::other("refused")) });
        metrics.request_layer("h").layer(dead).oneshot(request(Method::PATCH)).await.unwrap_err();
        let text = metrics.render().unwrap();
        assert!(
            text.contains("rest_client_requests_total{code=\"<error>\",host=\"h\",method=\"PATCH\"} 1\n"),
            "{text}"
        );
    }

    /// What matters is that the types fit kube's builder.
    #[tokio::test]
    async fn the_layer_fits_the_client_of_kube() {
        let metrics = Metrics::new().unwrap();
        let server = service_fn(|_: Request<kube::client::Body>| async {
            Ok::<_, Infallible>(Response::builder().status(404).body(kube::client::Body::empty()).unwrap())
        });
        let client =
            kube::client::ClientBuilder::new(server, "default").with_layer(&metrics.request_layer("h")).build();
        client.apiserver_version().await.unwrap_err();
        assert!(
            metrics
                .render()
                .unwrap()
                .contains("rest_client_requests_total{code=\"404\",host=\"h\",method=\"GET\"} 1\n")
        );
    }
}
