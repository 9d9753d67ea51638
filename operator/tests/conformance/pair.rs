//! Both API servers, and one request to both.

use futures::{AsyncBufReadExt, StreamExt};
use http::{Request, header};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use rorun_e2e::engine::TestServer;
use serde_json::{Value, json};

use crate::api::{ApiServer, Store};

/// The namespace of everything.
pub const NAMESPACE: &str = "conformance";

/// One request, before what differs between the servers is filled in.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GET`, `POST`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// `Content-Type`.
    pub content: &'static str,
    /// The body. The texts `$uid` and `$version` stand for those of the object.
    pub body: Value,
    /// The path of the object whose uid and version are meant.
    pub object: String,
}

/// What a server answered.
pub type Answer = (u16, Value);

/// The real server and the model.
pub struct Pair {
    real: Client,
    model: Client,
    _bed: TestServer,
}

impl Pair {
    /// Starts both.
    pub async fn open() -> Self {
        let bed = tokio::task::spawn_blocking(TestServer::start).await.expect("a thread").expect("a bed");
        let kubeconfig = Kubeconfig::read_from(&bed.kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
        let real = Client::try_from(config).expect("a client");
        let pair = Self { real, model: ApiServer::new(Store::default()).client(), _bed: bed };
        let crd: Value = serde_saphyr::from_str(&rorun_operator::cli::crd::yaml().unwrap()).unwrap();
        for (path, body) in [
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd),
            ("/api/v1/namespaces", json!({"metadata": {"name": NAMESPACE}})),
        ] {
            let (code, answer) = send(&pair.real, "POST", path, "application/json", &body).await;
            assert_eq!(code, 201, "{answer}");
        }
        let stacks = format!("/apis/rorun.app/v1alpha1/namespaces/{NAMESPACE}/rorunstacks");
        let started = std::time::Instant::now();
        while send(&pair.real, "GET", &stacks, "", &Value::Null).await.0 != 200 {
            assert!(started.elapsed().as_secs() < 30, "stacks are not served");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        pair
    }

    /// Sends a call to both: the answers of the real one and of the model.
    pub async fn call(&self, call: &Call) -> (Answer, Answer) {
        (one(&self.real, call).await, one(&self.model, call).await)
    }

    /// The version of a list of each of `paths`, by both.
    pub async fn revisions(&self) -> Vec<(String, String, String)> {
        let mut revisions = Vec::new();
        for path in [
            format!("/api/v1/namespaces/{NAMESPACE}/configmaps"),
            format!("/apis/rorun.app/v1alpha1/namespaces/{NAMESPACE}/rorunstacks"),
        ] {
            let version = async |client: &Client| {
                let (_, list) = send(client, "GET", &path, "", &Value::Null).await;
                list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
            };
            revisions.push((path.clone(), version(&self.real).await, version(&self.model).await));
        }
        revisions
    }

    /// The text of an answer of both, which may be many lines.
    pub async fn texts(&self, (real, model): (&str, &str), accept: &str) -> (String, String) {
        (text(&self.real, real, accept).await, text(&self.model, model, accept).await)
    }

    /// The lines of an answer of both, to the first with that text: a watch has no end of its own.
    pub async fn lines(&self, (real, model): (&str, &str), accept: &str, last: &str) -> (String, String) {
        (lines(&self.real, real, accept, last).await, lines(&self.model, model, accept, last).await)
    }
}

async fn lines(client: &Client, path: &str, accept: &str, last: &str) -> String {
    let request = Request::get(path).header(header::ACCEPT, accept).body(Vec::new()).unwrap();
    let body = client.request_stream(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    let (mut lines, mut read) = (body.lines(), String::new());
    while let Some(line) = lines.next().await {
        let line = line.unwrap();
        read += &line;
        read.push('\n');
        if line.contains(last) {
            break;
        }
    }
    read
}

async fn text(client: &Client, path: &str, accept: &str) -> String {
    let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
    let response = client.send(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8(response.into_body().collect_bytes().await.unwrap().to_vec()).unwrap()
}

async fn one(client: &Client, call: &Call) -> Answer {
    let mut body = call.body.to_string();
    if body.contains("$uid") || body.contains("$version") {
        let (_, there) = send(client, "GET", &call.object, "", &Value::Null).await;
        for (mark, member) in [("$uid", "uid"), ("$version", "resourceVersion")] {
            let value = there["metadata"][member].as_str().unwrap_or("00000000-0000-4000-8000-000000000000");
            body = body.replace(mark, if member == "uid" || value.len() < 30 { value } else { "1" });
        }
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    send(client, call.method, &call.path, call.content, &body).await
}

async fn send(client: &Client, method: &str, path: &str, content: &str, body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    let request = if content.is_empty() { request } else { request.header(header::CONTENT_TYPE, content) };
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.body(Body::from(bytes)).unwrap();
    let response = client.send(request).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}
