//! Fake controllers for an API server without a controller-manager: they write into the status of each workload of the operator
//! that it is rolled out and serves, into that of each Job that asks services that it found nothing wrong, and, on request, scale a
//! workload to the fewest pods of its autoscaler. No pod runs, and they touch no other object.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The label selector of the operator's objects.
const OURS: &str = "app.kubernetes.io/managed-by=rorun-operator";
/// The label with the component.
const COMPONENT: &str = "app.kubernetes.io/component";
/// How often a status that the API server does not take is sent, and the pause between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(200);

/// The component of the Jobs that ask services.
const PREFLIGHT: &str = "preflight";

/// Workloads whose pods do not come before they are let go, each by its namespace and its name.
#[derive(Clone, Debug, Default)]
pub struct Held(watch::Sender<BTreeSet<(String, String)>>);

impl Held {
    /// From now on the pods of a workload do not come.
    pub fn hold(&self, namespace: &str, name: &str) {
        let place = (namespace.to_owned(), name.to_owned());
        self.0.send_if_modified(|held| held.insert(place));
    }

    /// They come.
    pub fn let_go(&self, namespace: &str, name: &str) {
        let place = (namespace.to_owned(), name.to_owned());
        self.0.send_if_modified(|held| held.remove(&place));
    }

    async fn until_let_go(&self, object: &DynamicObject) {
        let metadata = &object.metadata;
        let place = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        let mut held = self.0.subscribe();
        // It does not end, since the sender is here.
        let _ = held.wait_for(|held| !held.contains(&place)).await;
    }
}

/// Sets the status of every Deployment, StatefulSet and preflight Job of the operator, until it is dropped.
pub struct FakeControllers {
    task: JoinHandle<()>,
}

impl fmt::Debug for FakeControllers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FakeControllers").finish_non_exhaustive()
    }
}

impl FakeControllers {
    /// From now on, in all namespaces: so long after a workload is made or changed, all its pods are new and ready.
    pub fn start(client: Client, delay: Duration) -> FakeControllers {
        FakeControllers { task: tokio::spawn(act(client, delay, Held::default())) }
    }

    /// As [`FakeControllers::start`] without a delay, but for what is held.
    pub fn start_but(client: Client, held: Held) -> FakeControllers {
        FakeControllers { task: tokio::spawn(act(client, Duration::ZERO, held)) }
    }

    /// As [`FakeControllers::start`], and autoscalers scale to their fewest pods.
    pub fn start_with_autoscalers(client: Client, delay: Duration) -> FakeControllers {
        FakeControllers {
            task: tokio::spawn(async move {
                tokio::join!(act(client.clone(), delay, Held::default()), autoscale(client));
            }),
        }
    }
}

impl Drop for FakeControllers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn act(client: Client, delay: Duration, held: Held) {
    let watched =
        [ApiResource::erase::<Deployment>(&()), ApiResource::erase::<StatefulSet>(&()), ApiResource::erase::<Job>(&())];
    let mut observed = stream::select_all(watched.map(|resource| observed(client.clone(), resource).boxed()));
    let mut acting = JoinSet::new();
    while let Some((resource, object)) = observed.next().await {
        let status = if resource.kind == "Job" { asked(&object) } else { missing(&resource.kind, &object) };
        if let Some(status) = status {
            let (client, held) = (client.clone(), held.clone());
            acting.spawn(async move {
                tokio::time::sleep(delay).await;
                held.until_let_go(&object).await;
                set(client, (resource, object), status).await;
            });
        }
        while acting.try_join_next().is_some() {}
    }
}

/// Scales each Deployment that has fewer pods than its autoscaler wants, when either of the two changes.
async fn autoscale(client: Client) {
    let watched = [ApiResource::erase::<Deployment>(&()), ApiResource::erase::<HorizontalPodAutoscaler>(&())];
    let mut observed = stream::select_all(watched.map(|resource| observed(client.clone(), resource).boxed()));
    while let Some((_, object)) = observed.next().await {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        // A failure is tried again with the next event of either object.
        let _ = scale(&client, namespace, object.metadata.name.as_deref().unwrap_or_default()).await;
    }
}

async fn scale(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error> {
    let autoscalers = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace);
    let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
    let fewest = autoscalers.get(name).await?.spec.and_then(|spec| spec.min_replicas).unwrap_or(1);
    let replicas = deployments.get(name).await?.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    // At 0 an autoscaler is switched off.
    if replicas > 0 && replicas < fewest {
        let patch = Patch::Merge(json!({"spec": {"replicas": fewest}}));
        deployments.patch_scale(name, &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

/// Every object of the resource, and each again when it changes.
fn observed(client: Client, resource: ApiResource) -> impl Stream<Item = (ApiResource, DynamicObject)> {
    let config = watcher::Config::default().labels(OURS);
    let changes = watcher(Api::all_with(client, &resource), config).default_backoff().applied_objects();
    // The watcher reconnects after an error.
    changes.filter_map(move |object| futures::future::ready(object.ok().map(|object| (resource.clone(), object))))
}

async fn set(client: Client, (resource, object): (ApiResource, DynamicObject), status: Value) {
    let api = Api::<DynamicObject>::namespaced_with(
        client,
        object.metadata.namespace.as_deref().unwrap_or_default(),
        &resource,
    );
    let name = object.metadata.name.as_deref().unwrap_or_default();
    // With the uid, since an object of the same name may have replaced this one.
    let patch = Patch::Merge(json!({"metadata": {"uid": object.metadata.uid}, "status": status}));
    for _ in 0..TRIES {
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(answer)) if [404, 409, 422].contains(&answer.code) => return,
            Err(_) => tokio::time::sleep(PAUSE).await,
            Ok(_) => return,
        }
    }
}

/// The status of a Job that asked services, and found nothing wrong; none if it is another Job, or has ended.
fn asked(job: &DynamicObject) -> Option<Value> {
    let component = job.metadata.labels.as_ref()?.get(COMPONENT)?;
    if component != PREFLIGHT || job.data.pointer("/status/completionTime").is_some() {
        return None;
    }
    // The API server takes no completion that is before the start.
    let at = &job.metadata.creation_timestamp;
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "CompletionsReached", "message": "all pods have succeeded",
            "lastTransitionTime": at, "lastProbeTime": at})
    };
    let conditions = [condition("SuccessCriteriaMet"), condition("Complete")];
    Some(json!({"startTime": at, "completionTime": at, "succeeded": 1, "conditions": conditions}))
}

/// The status of a workload whose pods are all new and ready; none if it has that already.
fn missing(kind: &str, object: &DynamicObject) -> Option<Value> {
    let replicas = object.data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let mut status = json!({
        "observedGeneration": object.metadata.generation,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": replicas,
        "availableReplicas": replicas,
    });
    if kind == "StatefulSet" {
        status["currentReplicas"] = json!(replicas);
        for revision in ["currentRevision", "updateRevision"] {
            status[revision] = json!(format!("revision-{}", object.metadata.generation.unwrap_or_default()));
        }
    }
    let there = &object.data["status"];
    // A count of zero is left out by the API server.
    let same = |(field, wanted): (&String, &Value)| there.get(field).unwrap_or(&json!(0)) == wanted;
    let wanted = status.as_object()?;
    (!wanted.iter().all(same)).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(generation: i64, data: &Value) -> DynamicObject {
        let mut object = json!({"metadata": {"name": "api", "generation": generation}});
        object["spec"] = data["spec"].clone();
        object["status"] = data["status"].clone();
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn a_workload_is_ready_once_and_again_when_it_changes() {
        for kind in ["Deployment", "StatefulSet"] {
            let spec = json!({"replicas": 2});
            let status = missing(kind, &workload(1, &json!({"spec": spec}))).expect("it is new");
            assert_eq!((&status["observedGeneration"], &status["readyReplicas"]), (&json!(1), &json!(2)));
            assert_eq!(missing(kind, &workload(1, &json!({"spec": spec, "status": status}))), None);
            assert!(missing(kind, &workload(2, &json!({"spec": spec, "status": status}))).is_some());
        }
    }

    #[test]
    fn a_job_that_asks_services_ends_once_and_no_other_does() {
        let job = |component: &str, status: Value| {
            let metadata =
                json!({"name": "shop", "labels": {COMPONENT: component}, "creationTimestamp": "2026-11-30T05:00:00Z"});
            asked(&serde_json::from_value(json!({"metadata": metadata, "status": status})).expect("an object"))
        };
        let status = job(PREFLIGHT, json!({})).expect("it is new");
        assert_eq!((&status["conditions"][1]["type"], &status["succeeded"]), (&json!("Complete"), &json!(1)));
        assert_eq!((job(PREFLIGHT, status), job("migration", json!({}))), (None, None));
    }

    #[test]
    fn nothing_is_to_be_said_of_counts_of_zero_that_are_left_out() {
        let object = workload(3, &json!({"spec": {"replicas": 0}, "status": {"observedGeneration": 3}}));
        assert_eq!(missing("Deployment", &object), None);
    }
}
