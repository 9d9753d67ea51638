//! An API server in memory: as much of it as the operator uses, plain enough to be read, and checked against the real one
//! by `tests/conformance`.
//!
//! There are no defaults, no admission and no validation: what is sent is what is stored.

mod fields;
mod managers;
mod merge;
mod request;
mod schema;
mod store;
mod verbs;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::{FutureExt, Stream, future::BoxFuture, stream};
use http::{Request, Response};
use kube::Client;
pub use request::{Asked, Verb};
use serde_json::{Value, json};
use store::selected;
pub use store::{Change, Place, Store};
use tokio::sync::watch;
use verbs::Refusal;
pub use verbs::Target;

/// What open watches hear of.
#[derive(Clone, Copy, Debug, Default)]
struct Signal {
    revision: u64,
    cuts: u64,
    held: bool,
}

/// The server. Clones are the same one.
#[derive(Clone)]
pub struct ApiServer {
    store: Arc<Mutex<Store>>,
    signal: watch::Sender<Signal>,
}

impl ApiServer {
    /// One with these objects.
    pub fn new(store: Store) -> Self {
        let signal = watch::Sender::new(Signal { revision: store.revision, ..Signal::default() });
        Self { store: Arc::new(Mutex::new(store)), signal }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// Its objects.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nobody panicked")
    }

    /// Ends every open watch.
    pub fn cut(&self) {
        self.signal.send_modify(|signal| signal.cuts += 1);
    }

    /// Keeps watches from telling of changes, or lets them go on.
    pub fn hold(&self, held: bool) {
        self.signal.send_modify(|signal| signal.held = held);
    }

    /// Tells watches of what was done to the store.
    pub fn tell(&self) {
        let revision = self.store().revision;
        self.signal.send_modify(|signal| signal.revision = revision);
    }

    /// Answers a request.
    pub fn answer(&self, asked: &Asked) -> Response<Body> {
        if asked.verb == Verb::Watch {
            return self.watch(asked);
        }
        let mut store = self.store();
        let done = match asked.verb {
            Verb::Get => store
                .objects
                .get(&asked.target.place)
                .map(|object| (200, object.clone()))
                .ok_or_else(|| Refusal(404, "NotFound", format!("\"{}\" not found", asked.target.place.name))),
            Verb::List | Verb::Watch => Ok((200, list(&store, asked))),
            Verb::Create => store.create(&asked.target, &asked.body),
            Verb::Apply { force } => store.apply(&asked.target, &asked.body, force),
            Verb::Merge => store.merge(&asked.target, &asked.body),
            Verb::Delete => store.delete(&asked.target.place, &asked.body),
        };
        drop(store);
        self.tell();
        match done {
            Ok((code, object)) if asked.verb == Verb::List => json_response(code, &object),
            Ok((code, object)) => json_response(code, &asked.shown(object)),
            Err(Refusal(code, reason, message)) => refusal(code, reason, &message),
        }
    }

    fn watch(&self, asked: &Asked) -> Response<Body> {
        let mut hears = self.signal.subscribe();
        let cuts = hears.borrow_and_update().cuts;
        let ends = tokio::time::Instant::now() + Duration::from_secs(asked.timeout);
        let state = Watching {
            lists_first: asked.lists_first,
            server: self.clone(),
            asked: asked.clone(),
            seen: asked.revision,
            hears,
            cuts,
            ends,
        };
        Response::new(Body::from_stream(state.lines()))
    }
}

struct Watching {
    lists_first: bool,
    server: ApiServer,
    asked: Asked,
    seen: u64,
    hears: watch::Receiver<Signal>,
    cuts: u64,
    ends: tokio::time::Instant,
}

impl Watching {
    fn lines(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(Some(self), |state| async {
            let mut state = state?;
            loop {
                let signal = *state.hears.borrow_and_update();
                if signal.cuts != state.cuts {
                    return None;
                }
                let seen = state.seen;
                let told = if signal.held && !state.lists_first { Ok(String::new()) } else { state.news() };
                match told {
                    Ok(lines) if lines.is_empty() => {}
                    Ok(lines) => return Some((Ok(Bytes::from(lines)), Some(state))),
                    Err(line) => return Some((Ok(Bytes::from(line)), None)),
                }
                if seen != state.seen {
                    continue;
                }
                tokio::select! {
                    _ = state.hears.changed() => {}
                    () = tokio::time::sleep_until(state.ends) => return None,
                }
            }
        })
    }

    /// What happened since. An error: it is not known any more.
    fn news(&mut self) -> Result<String, String> {
        let store = self.server.store();
        if std::mem::take(&mut self.lists_first) {
            self.seen = store.revision;
            return Ok(streamed_list(&store, &self.asked));
        }
        if self.seen < store.compacted {
            let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "reason": "Expired", "message": "too old resource version", "code": 410});
            return Err(format!("{}\n", json!({"type": "ERROR", "object": gone})));
        }
        let first = store.history.partition_point(|change| change.revision <= self.seen);
        let lines = store.history[first..].iter().filter_map(|change| event(&self.asked, change));
        let lines = lines.fold(String::new(), |lines, line| lines + &line.to_string() + "\n");
        self.seen = store.revision;
        Ok(lines)
    }
}

/// What there is, object by object, and a bookmark that says where it ends.
fn streamed_list(store: &Store, asked: &Asked) -> String {
    let found = store.objects.iter().filter(|(place, object)| asked.covers(place) && selected(object, &asked.selector));
    let added = found.map(|(_, object)| json!({"type": "ADDED", "object": asked.shown(object.clone())}));
    let end = json!({"metadata": {
        "resourceVersion": store.revision.to_string(),
        "annotations": {"k8s.io/initial-events-end": "true"},
    }});
    let bookmark = json!({"type": "BOOKMARK", "object": asked.shown(end)});
    added.chain([bookmark]).fold(String::new(), |lines, line| lines + &line.to_string() + "\n")
}

/// What a change is to a watch: an object that is selected no longer is gone for it.
fn event(asked: &Asked, change: &Change) -> Option<Value> {
    if !asked.covers(&change.place) {
        return None;
    }
    let fits = |object: &Option<Value>| object.as_ref().is_some_and(|object| selected(object, &asked.selector));
    let (kind, object) = match (fits(&change.before), fits(&change.after)) {
        (_, true) if change.before.is_none() || !fits(&change.before) => ("ADDED", change.after.clone()?),
        (_, true) => ("MODIFIED", change.after.clone()?),
        (true, false) => {
            let mut last = change.before.clone()?;
            last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
            ("DELETED", last)
        }
        (false, false) => return None,
    };
    Some(json!({"type": kind, "object": asked.shown(object)}))
}

fn list(store: &Store, asked: &Asked) -> Value {
    let found = store.objects.iter().filter(|(place, object)| asked.covers(place) && selected(object, &asked.selector));
    let items: Vec<Value> = found.map(|(_, object)| asked.shown(object.clone())).collect();
    let (api_version, kind) = asked.list_type();
    let metadata = json!({"resourceVersion": store.revision.to_string()});
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items})
}

/// An answer.
pub fn json_response(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a code");
    response
}

/// A refusal, as the API server words it.
pub fn refusal(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
        "message": message, "code": code});
    json_response(code, &status)
}

impl tower::Service<Request<kube::client::Body>> for ApiServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let server = self.clone();
        async move { Ok(server.answer(&Asked::read(request).await)) }.boxed()
    }
}
