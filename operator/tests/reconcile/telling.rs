//! What is told of pods that never come, of a class that does not exist, and of a workload that somebody switched off.

use k8s_openapi::api::{core::v1::Event, networking::v1::IngressClass};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::room::{Room, development};

/// What a controller of workloads would write.
async fn set_status(room: &Room, (kind, namespace, name): (&str, &str, &str), status: Value) -> DynamicObject {
    let api = room.objects(kind, namespace);
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch).await.expect("its status is written")
}

#[expect(clippy::disallowed_methods, reason = "an Event is of the time at which it is written")]
fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// The controller of a StatefulSet tells in Events alone that their pods are refused.
pub async fn refused_pods_of_a_stateful_set_are_told_in_the_words_of_the_server(room: &Room) {
    let namespace = "refused";
    room.namespace(namespace).await;
    room.apply(namespace, development()).await;
    let of = ("StatefulSet", namespace, "shop-redis");
    let set = room.objects("StatefulSet", namespace).get("shop-redis").await.expect("the StatefulSet");
    let said = "create Pod shop-redis-0 in StatefulSet shop-redis failed error: pods \"shop-redis-0\" is forbidden: \
                exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1";
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": "shop-redis.refused"},
        "involvedObject": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop-redis", "namespace": namespace, "uid": set.uid()},
        "reason": "FailedCreate", "type": "Warning", "message": said, "count": 3,
        "lastTimestamp": now(),
    }))
    .expect("an Event");
    let events: Api<Event> = Api::namespaced(room.client.clone(), namespace);
    events.create(&PostParams::default(), &event).await.expect("the Event is written");
    let mark = room.mark();
    set_status(room, of, json!({"observedGeneration": set.metadata.generation, "replicas": 0})).await;
    let message = room.until_reason(namespace, "RedisReady", "PodsRefused").await;
    assert_eq!(
        message,
        "the pods of statefulset/shop-redis are refused: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1"
    );
    let stalled = room.condition(namespace, "Stalled").await;
    assert_eq!((&*stalled.0, &*stalled.1), ("True", "PodsRefused"));
    assert!(stalled.2.contains("raise the ResourceQuota"), "{}", stalled.2);
    let asked = room.calls(namespace, mark).iter().filter(|call| call.verb == "list").count();
    assert!((1..=2).contains(&asked), "its Events were read {asked} times");
    // The quota was raised.
    let served = json!({"observedGeneration": set.metadata.generation, "replicas": 1, "readyReplicas": 1});
    set_status(room, of, served).await;
    room.until_reason(namespace, "RedisReady", "Ready").await;
    assert_eq!(room.condition(namespace, "Stalled").await.0, "");
    let mark = room.mark();
    room.settled(namespace).await;
    assert!(room.calls(namespace, mark).is_empty(), "nothing is asked any more");
}

pub async fn a_class_that_does_not_exist_is_told_until_it_does(room: &Room) {
    let namespace = "class";
    room.namespace(namespace).await;
    let mut spec = development();
    spec["ingress"]["className"] = json!("nowhere");
    room.submit(namespace, spec).await;
    let message = room.until_reason(namespace, "IngressReady", "IngressClassMissing").await;
    assert!(message.contains("ingressclass/nowhere") && message.contains("ingress.className"), "{message}");
    let made = room.objects("Ingress", namespace).get_opt("shop-ingress").await.expect("an answer");
    assert!(made.is_some(), "the Ingress is made all the same");
    let class: IngressClass = serde_json::from_value(json!({
        "metadata": {"name": "nowhere"}, "spec": {"controller": "example.com/ingress"},
    }))
    .expect("a class");
    let classes: Api<IngressClass> = Api::all(room.client.clone());
    classes.create(&PostParams::default(), &class).await.expect("the class is made");
    room.until_reason(namespace, "IngressReady", "Ready").await;
}

/// An autoscaler leaves a workload without pods alone for ever.
pub async fn an_autoscaler_begins_at_its_fewest_pods(room: &Room) {
    let namespace = "from-zero";
    room.namespace(namespace).await;
    let replicas = async || {
        let deployment = room.objects("Deployment", namespace).get("shop-admin").await.expect("the deployment");
        deployment.data.pointer("/spec/replicas").and_then(Value::as_i64)
    };
    let mut spec = development();
    spec["admin"]["replicas"] = json!(0);
    room.apply(namespace, spec.clone()).await;
    assert_eq!(replicas().await, Some(0));
    spec["admin"] = json!({"image": "rorun-admin:1", "autoscaling": {"minReplicas": 3, "maxReplicas": 9}});
    room.apply(namespace, spec.clone()).await;
    assert_eq!(replicas().await, Some(3));
    // Whoever scales it to 0 by hand switches the autoscaler off, and is told.
    let scaled = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let params = PatchParams { field_manager: Some("kubectl".to_owned()), ..PatchParams::default() };
    room.objects("Deployment", namespace).patch("shop-admin", &params, &scaled).await.expect("it is scaled");
    let message = room.until_reason(namespace, "AdminReady", "ScaledToZero").await;
    assert!(message.contains("kubectl scale deployment/shop-admin --replicas=3"), "{message}");
    room.settled(namespace).await;
    assert_eq!(replicas().await, Some(0), "the number is not the operator's");
}

/// As a new version of the operator does that sets a field which the last one left to the server.
pub async fn a_field_beside_the_template_turns_no_condition(room: &Room) {
    let namespace = "beside";
    room.namespace(namespace).await;
    room.apply(namespace, development()).await;
    let deployment = room.objects("Deployment", namespace).get("shop-admin").await.expect("the deployment");
    let served = json!({"observedGeneration": deployment.metadata.generation, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1});
    set_status(room, ("Deployment", namespace, "shop-admin"), served).await;
    room.until_reason(namespace, "AdminReady", "Ready").await;
    let mark = room.mark();
    let mut spec = development();
    spec["admin"]["progressDeadlineSeconds"] = json!(700);
    room.apply(namespace, spec).await;
    assert_eq!(room.writes(namespace, mark), ["patch deployments/shop-admin"]);
    let written = room.objects("Deployment", namespace).get("shop-admin").await.expect("the deployment");
    assert!(written.metadata.generation > deployment.metadata.generation, "its controller has yet to look at it");
    assert_eq!(room.condition(namespace, "AdminReady").await.1, "Ready");
}
