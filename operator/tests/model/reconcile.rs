//! One step of the operator's own apply on a state: the real engine runs on what the cache shows, and is stopped before its
//! second write.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll},
};

use axum::body::Body;
use futures::{FutureExt, future, future::BoxFuture};
use http::{Request, Response};
use kube::Client;
use rorun_operator::{
    apply::{Answer, Owner, Settled, Verdict, WriteThrottle, Writer, apply},
    objects::{Digest, LiveObject, LiveSet},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    answers::{self, Asked, Objects, Verb},
    children::{CONFIG, Credentials, NAMESPACE, SECRET, Slot, UID, VOLUME, desired, key, kind},
    core::{Entry, Fault, Flaw},
    interned::Interned,
};

/// What a step starts from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// The generation that the reconcile is about.
    pub generation: u8,
    /// The credentials that it goes by.
    pub credentials: Credentials,
    /// What it saw, by child.
    pub seen: [Slot; 3],
    /// What there is.
    pub there: [Slot; 3],
    /// What was written last.
    pub settled: [Option<Entry>; 3],
    /// What goes wrong with the first write.
    pub fault: Fault,
    /// What the engine is made to leave out.
    pub flaw: Option<Flaw>,
}

/// What a step did.
#[derive(Debug)]
pub struct Stepped {
    /// The child that was written or deleted, as it is now; `None` in it: gone.
    pub written: Option<(usize, Option<Value>)>,
    /// Which children's last write is remembered now, with the hash and the digest of it.
    pub remembered: Vec<(usize, Digest, Digest)>,
    /// Whether the reconcile goes on: there is more to write.
    pub more: bool,
}

static TAKEN: LazyLock<Mutex<HashMap<Step, Arc<Stepped>>>> = LazyLock::new(Mutex::default);

/// How many different steps the engine was asked for.
pub fn taken() -> usize {
    TAKEN.lock().expect("nobody panicked").len()
}

/// Takes a step. Equal steps are taken once: the engine has no other input.
pub fn step(step: &Step) -> Arc<Stepped> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    if let Some(taken) = TAKEN.lock().expect("nobody panicked").get(step) {
        return taken.clone();
    }
    let taken = Arc::new(RUNTIME.with(|runtime| runtime.block_on(run(step))));
    TAKEN.lock().expect("nobody panicked").insert(step.clone(), taken.clone());
    taken
}

async fn run(step: &Step) -> Stepped {
    let plurals = [SECRET, VOLUME, CONFIG].map(|child| kind(child).plural);
    let there = plurals
        .iter()
        .zip(step.there)
        .filter_map(|(plural, slot)| slot.map(|object| ((*plural).to_owned(), (*object.value()).clone())));
    // Versions above all that states use, so that a new one is recognised; the state numbers them itself.
    let objects = Arc::new(Mutex::new(Objects { there: there.collect(), version: 1000, written: None }));
    let gate = Gate {
        objects: objects.clone(),
        writes: Arc::default(),
        stop: Arc::default(),
        fault: step.fault,
        flaw: step.flaw,
    };
    let writer = Writer::new(Client::new(gate.clone(), "default"), WriteThrottle::default(), || true, |_, _| {});
    remember(&writer.settled, step);
    let owner = Owner {
        api_version: "rorun.app/v1alpha1".to_owned(),
        kind: "RorunStack".to_owned(),
        namespace: NAMESPACE.to_owned(),
        name: "s".to_owned(),
        uid: UID.to_owned(),
    };
    let live = live(step);
    let (held, desired) = (BTreeSet::new(), desired(step.generation, &step.credentials));
    let more = tokio::select! {
        biased;
        _ = apply(&writer, &owner, desired, &live, &held) => false,
        () = gate.stop.notified() => true,
    };
    let written = objects.lock().expect("nobody panicked").written.clone().map(|(plural, after)| {
        let child = plurals.iter().position(|other| *other == plural).expect("a child");
        (child, after)
    });
    let remembered = written.iter().filter_map(|(child, slot)| {
        let live = LiveObject::whole(kind(*child), slot.clone()?)?;
        let (hash, ours) = (live.applied_hash?, live.owned?);
        let verdict = writer.settled.verdict(NAMESPACE, &live.key(), Some(&live), hash);
        (verdict == Verdict::Same).then_some((*child, hash, ours))
    });
    Stepped { remembered: remembered.collect(), written: written.clone(), more }
}

/// Fills the operator's memory.
fn remember(settled: &Settled, step: &Step) {
    for (child, entry) in step.settled.iter().enumerate() {
        if let Some(Entry { uid, version, hash, owned }) = entry {
            let answer = Answer { uid, version: &version.to_string(), hash: *hash, owned: *owned, rollout: false };
            settled.remember(NAMESPACE, key(child), &answer);
        }
    }
}

/// What the cache shows: only what is labelled.
fn live(step: &Step) -> LiveSet {
    let objects = step
        .seen
        .iter()
        .enumerate()
        .filter_map(|(child, slot)| LiveObject::whole(kind(child), (*(*slot)?.value()).clone()));
    objects.filter(|live| live.labelled_ours).map(Arc::new).collect()
}

#[derive(Clone)]
struct Gate {
    objects: Arc<Mutex<Objects>>,
    /// How many writes came.
    writes: Arc<Mutex<u32>>,
    stop: Arc<Notify>,
    fault: Fault,
    flaw: Option<Flaw>,
}

impl Gate {
    async fn forward(self, mut asked: Asked) -> io::Result<Response<Body>> {
        let answer = |asked: &Asked| self.objects.lock().expect("nobody panicked").answer(asked);
        if asked.verb == Verb::Get {
            return Ok(answers::response(&answer(&asked)));
        }
        let first = {
            let mut writes = self.writes.lock().expect("nobody panicked");
            *writes += 1;
            *writes == 1
        };
        if self.objects.lock().expect("nobody panicked").written.is_some() {
            self.stop.notify_one();
            return future::pending().await;
        }
        let members: &[&str] = match self.flaw {
            Some(Flaw::Uid) => &["uid"],
            Some(Flaw::Version) => &["resourceVersion"],
            _ => &[],
        };
        for member in members {
            for at in ["/metadata", "/preconditions"] {
                asked.body.pointer_mut(at).and_then(Value::as_object_mut).map(|metadata| metadata.remove(*member));
            }
        }
        if first && self.fault == Fault::Conflict {
            return Ok(answers::response(&answers::conflict()));
        }
        let answered = answer(&asked);
        if first && self.fault == Fault::Lost {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(answers::response(&answered))
    }
}

impl tower::Service<Request<kube::client::Body>> for Gate {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let gate = self.clone();
        async move { gate.forward(Asked::read(request).await).await }.boxed()
    }
}

/// An object with a uid and a version of the state's own numbering.
pub fn numbered(object: &Value, uid: &str, version: u32) -> Interned {
    let mut object = object.clone();
    object["metadata"]["uid"] = json!(uid);
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    Interned::new(&object)
}
