//! The objects of every namespace, by watches: the suite sends no requests to learn when a namespace has come to rest.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::environment::STACK;
use crate::snapshot::{KINDS, Leaves, spread, unnamed};
use crate::sync::lock;

/// Longer than a reconcile takes to begin, and a watch to deliver.
const QUIET: Duration = Duration::from_millis(350);
/// Nothing stays under way for so long while nothing changes: the operator waits much shorter for a service that does not answer.
const STUCK: Duration = Duration::from_secs(20);
const RESTS_WITHIN: Duration = Duration::from_secs(40);
const TICK: Duration = Duration::from_millis(20);
/// How often the quiet has to be polled: on a machine that stands still nothing changes either.
const POLLS: usize = 10;

/// The objects of all namespaces.
pub(super) struct WatchedNamespaces {
    namespaces: Arc<Mutex<HashMap<String, WatchedNamespace>>>,
    _watching: JoinSet<()>,
}

#[derive(Default)]
struct WatchedNamespace {
    objects: BTreeMap<String, Value>,
    touched: Option<Instant>,
    /// Which child was changed, other than in its status, at which version.
    changes: Vec<(u64, String)>,
    /// The version at which the status first said of this generation that all is well.
    ready: Option<(i64, u64)>,
}

/// A namespace at rest.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    pub(super) leaves: Leaves,
    /// Component conditions that are not as they should be: type, reason.
    pub(super) trouble: BTreeMap<String, String>,
    pub(super) problems: Vec<String>,
}

impl WatchedNamespaces {
    /// Begins to watch.
    pub(super) fn watch(client: &Client) -> WatchedNamespaces {
        let namespaces = Arc::new(Mutex::new(HashMap::new()));
        let mut watching = JoinSet::new();
        for (group, version, kind, plural) in KINDS {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
            let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
            let namespaces = Arc::clone(&namespaces);
            watching.spawn(async move {
                let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
                while let Some(event) = events.next().await {
                    match event {
                        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                            note(&namespaces, kind, object, true);
                        }
                        Ok(watcher::Event::Delete(object)) => note(&namespaces, kind, object, false),
                        _ => {}
                    }
                }
            });
        }
        WatchedNamespaces { namespaces, _watching: watching }
    }

    /// Waits until the status speaks of this generation and nothing changes any more; returns the objects.
    pub(super) async fn rest(&self, namespace: &str, generation: i64) -> Observed {
        let deadline = Instant::now() + RESTS_WITHIN;
        let (mut before, mut polls) = (None, 0);
        loop {
            let touched = lock(&self.namespaces).get(namespace).and_then(|watched| watched.touched);
            polls = if touched == before { polls + 1 } else { 0 };
            before = touched;
            let late = Instant::now() > deadline;
            let observed = if late || polls >= POLLS { self.at_rest(namespace, generation, late) } else { None };
            if let Some(mut observed) = observed {
                if late {
                    observed.problems.push(format!("O3 no rest within {} s", RESTS_WITHIN.as_secs()));
                }
                return observed;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn at_rest(&self, namespace: &str, generation: i64, late: bool) -> Option<Observed> {
        let namespaces = lock(&self.namespaces);
        let watched = namespaces.get(namespace)?;
        let stack = watched.objects.get(&format!("RorunStack/{STACK}"))?;
        let quiet = watched.touched.map(|touched| touched.elapsed()).unwrap_or_default();
        let current =
            stack["metadata"]["generation"] == generation && stack["status"]["observedGeneration"] == generation;
        // The operator tries again a request that the API server did not answer in time.
        let under_way = conditions(stack).any(|condition| ["Progressing", "ApplyFailed"].contains(&reason(condition)));
        let at_rest = current && quiet > if under_way { STUCK } else { QUIET };
        if !late && !at_rest {
            return None;
        }
        let mut leaves = Leaves::new();
        for (key, object) in &watched.objects {
            spread(key, object.clone(), &mut leaves);
        }
        leaves.retain(|path, _| !is_scaled(path, &watched.objects));
        let mut problems = watched.too_early(generation);
        if under_way && !late {
            problems.push(format!("O3 under way, and for {} s nothing changes", STUCK.as_secs()));
        }
        Some(Observed { leaves, trouble: trouble(stack), problems })
    }

    /// Forgets a namespace.
    pub(super) fn forget(&self, namespace: &str) {
        lock(&self.namespaces).remove(namespace);
    }
}

impl WatchedNamespace {
    /// Children that were changed after the status had said that all is as this generation wants it.
    fn too_early(&self, generation: i64) -> Vec<String> {
        let Some((of, at)) = self.ready.filter(|(of, _)| *of == generation) else { return Vec::new() };
        let later = self.changes.iter().filter(|(version, _)| *version > at);
        later.map(|(_, key)| format!("O4 {key} was changed after generation {of} was called ready")).collect()
    }
}

fn note(namespaces: &Mutex<HashMap<String, WatchedNamespace>>, kind: &str, mut object: DynamicObject, there: bool) {
    object.metadata.managed_fields = None;
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let key = format!("{kind}/{}", object.metadata.name.clone().unwrap_or_default());
    let version = object.metadata.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0);
    let Ok(mut value) = unnamed(kind, &object, &namespace) else { return };
    let mut namespaces = lock(namespaces);
    let watched = namespaces.entry(namespace).or_default();
    watched.touched = Some(Instant::now());
    if kind == "RorunStack" {
        watched.judge_status(&value, version);
    } else {
        // The status of workloads is not compared: no controller runs them.
        value["status"].take();
        let before = watched.objects.get(&key);
        if !there || before.is_none_or(|before| essence(before) != essence(&value)) {
            watched.changes.push((version, key.clone()));
        }
    }
    if there {
        watched.objects.insert(key, value);
    } else {
        watched.objects.remove(&key);
    }
}

impl WatchedNamespace {
    fn judge_status(&mut self, stack: &Value, version: u64) {
        let Some(generation) = stack["metadata"]["generation"].as_i64() else { return };
        let ready = conditions(stack).any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let current = stack["status"]["observedGeneration"] == generation;
        if ready && current && self.ready.is_none_or(|(of, _)| of != generation) {
            self.ready = Some((generation, version));
        }
    }
}

/// Numbers of pods are not compared where an autoscaler sets them: none runs, and the number stays as it was.
fn is_scaled(path: &str, objects: &BTreeMap<String, Value>) -> bool {
    let scaled = |name: &str| objects.contains_key(&format!("HorizontalPodAutoscaler/{name}"));
    let deployment = path.strip_prefix("Deployment/").and_then(|rest| rest.strip_suffix("/spec/replicas"));
    let counted = path.starts_with("RorunStack/shop/status/components/")
        && ["/pods", "/replicas", "/readyReplicas"].iter().any(|end| path.ends_with(end));
    deployment.is_some_and(scaled) || counted
}

/// An object without the fields that every change changes.
fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|name, _| name != "resourceVersion" && name != "generation");
    }
    object
}

fn conditions(stack: &Value) -> impl Iterator<Item = &Value> {
    stack["status"]["conditions"].as_array().into_iter().flatten()
}

fn reason(condition: &Value) -> &str {
    condition["reason"].as_str().unwrap_or_default()
}

fn trouble(stack: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // No pods where the spec asks for none are no trouble either.
    let well = ["Ready", "NoBackupYet", "ScaledToZero"];
    let bad = conditions(stack).filter(|condition| !well.contains(&reason(condition)));
    bad.map(|condition| (text(&condition["type"]), text(&condition["reason"]))).collect()
}
