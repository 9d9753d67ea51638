//! What is told of pods that never come, of a class that does not exist, and of a workload that somebody switched off.

use k8s_openapi::api::{core::v1::Event, networking::v1::IngressClass};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::env::{TestEnv, development};

/// A stack with a migration, whose release comes to its end where workloads are played: nobody probes a bucket outside whose Secret
/// is not meant for that.
pub async fn released(env: &TestEnv, namespace: &str, image: &str) -> Value {
    let keys = json!({"metadata": {"name": "keys"}, "stringData": {"id": "none", "key": "none"}});
    let keys = serde_json::from_value(keys).expect("a Secret");
    env.objects("Secret", namespace).create(&PostParams::default(), &keys).await.expect("the Secret is made");
    let mut spec = development();
    spec["api"] = json!({"image": image, "migrations": {"command": ["migrate"]}});
    spec["bucket"] = json!({"external": {"name": "shop", "endpoint": "http://s3.example.com",
        "credentialsSecretRef": {"name": "keys", "accessKeyIdKey": "id", "secretAccessKeyKey": "key"}}});
    spec
}

/// Deployments and `StatefulSets` that are not rolled out are, as their controllers tell. Gives whether one was.
pub async fn roll_out(env: &TestEnv, namespace: &str) -> bool {
    let mut any = false;
    for kind in ["Deployment", "StatefulSet"] {
        for there in env.objects(kind, namespace).list(&ListParams::default()).await.expect("a list") {
            let observed = there.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
            if observed == there.metadata.generation {
                continue;
            }
            let count = &there.data["spec"]["replicas"];
            let status = json!({"observedGeneration": there.metadata.generation, "replicas": count,
                "updatedReplicas": count, "readyReplicas": count, "availableReplicas": count});
            set_status(env, (kind, namespace, &there.name_any()), status).await;
            any = true;
        }
    }
    any
}

/// Writes a status, as the object's controller or the kubelet would.
pub async fn set_status(env: &TestEnv, (kind, namespace, name): (&str, &str, &str), status: Value) -> DynamicObject {
    let api = env.objects(kind, namespace);
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch).await.expect("its status is written")
}

#[expect(clippy::disallowed_methods, reason = "an Event is of the time at which it is written")]
fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// The controller of a StatefulSet tells in Events alone that their pods are refused.
pub async fn refused_pods_of_a_stateful_set_are_told_in_the_words_of_the_server(env: &TestEnv) {
    let namespace = "refused";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    let of = ("StatefulSet", namespace, "shop-redis");
    let set = env.objects("StatefulSet", namespace).get("shop-redis").await.expect("the StatefulSet");
    let said = "create Pod shop-redis-0 in StatefulSet shop-redis failed error: pods \"shop-redis-0\" is forbidden: \
                exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1";
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": "shop-redis.refused"},
        "involvedObject": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop-redis", "namespace": namespace, "uid": set.uid()},
        "reason": "FailedCreate", "type": "Warning", "message": said, "count": 3,
        "lastTimestamp": now(),
    }))
    .expect("an Event");
    let events: Api<Event> = Api::namespaced(env.client.clone(), namespace);
    events.create(&PostParams::default(), &event).await.expect("the Event is written");
    let mark = env.mark();
    set_status(env, of, json!({"observedGeneration": set.metadata.generation, "replicas": 0})).await;
    let message = env.until_reason(namespace, "RedisReady", "PodsRefused").await;
    assert_eq!(
        message,
        "the pods of statefulset/shop-redis are refused: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1"
    );
    let stalled = env.condition(namespace, "Stalled").await;
    assert_eq!((&*stalled.0, &*stalled.1), ("True", "PodsRefused"));
    assert!(stalled.2.contains("raise the ResourceQuota"), "{}", stalled.2);
    let asked = env.calls(namespace, mark).iter().filter(|call| call.verb == "list").count();
    assert!((1..=2).contains(&asked), "its Events were read {asked} times");
    // The quota was raised.
    let served = json!({"observedGeneration": set.metadata.generation, "replicas": 1, "readyReplicas": 1});
    set_status(env, of, served).await;
    env.until_reason(namespace, "RedisReady", "Ready").await;
    assert_eq!(env.condition(namespace, "Stalled").await.0, "");
    let mark = env.mark();
    env.settled(namespace).await;
    assert!(env.calls(namespace, mark).is_empty(), "nothing is asked any more");
}

pub async fn a_class_that_does_not_exist_is_told_until_it_does(env: &TestEnv) {
    let namespace = "class";
    env.namespace(namespace).await;
    let mut spec = development();
    spec["ingress"]["className"] = json!("nowhere");
    env.submit(namespace, spec).await;
    let message = env.until_reason(namespace, "IngressReady", "IngressClassMissing").await;
    assert!(message.contains("ingressclass/nowhere") && message.contains("ingress.className"), "{message}");
    let made = env.objects("Ingress", namespace).get_opt("shop-ingress").await.expect("an answer");
    assert!(made.is_some(), "the Ingress is made all the same");
    let class: IngressClass = serde_json::from_value(json!({
        "metadata": {"name": "nowhere"}, "spec": {"controller": "example.com/ingress"},
    }))
    .expect("a class");
    let classes: Api<IngressClass> = Api::all(env.client.clone());
    classes.create(&PostParams::default(), &class).await.expect("the class is made");
    env.until_reason(namespace, "IngressReady", "Ready").await;
}

/// An autoscaler leaves a workload without pods alone for ever.
pub async fn an_autoscaler_begins_at_its_fewest_pods(env: &TestEnv) {
    let namespace = "from-zero";
    env.namespace(namespace).await;
    let replicas = async || {
        let deployment = env.objects("Deployment", namespace).get("shop-admin").await.expect("the deployment");
        deployment.data.pointer("/spec/replicas").and_then(Value::as_i64)
    };
    let mut spec = development();
    spec["admin"]["replicas"] = json!(0);
    env.apply(namespace, spec.clone()).await;
    assert_eq!(replicas().await, Some(0));
    spec["admin"] = json!({"image": "rorun-admin:1", "autoscaling": {"minReplicas": 3, "maxReplicas": 9}});
    env.apply(namespace, spec.clone()).await;
    assert_eq!(replicas().await, Some(3));
    // Whoever scales it to 0 by hand switches the autoscaler off, and is told.
    let scaled = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let params = PatchParams { field_manager: Some("kubectl".to_owned()), ..PatchParams::default() };
    env.objects("Deployment", namespace).patch("shop-admin", &params, &scaled).await.expect("it is scaled");
    let message = env.until_reason(namespace, "AdminReady", "ScaledToZero").await;
    assert!(message.contains("kubectl scale deployment/shop-admin --replicas=3"), "{message}");
    env.settled(namespace).await;
    assert_eq!(replicas().await, Some(0), "the number is not the operator's");
}

/// As a new version of the operator does that sets a field which the last one left to the server.
pub async fn a_field_beside_the_template_turns_no_condition(env: &TestEnv) {
    let namespace = "beside";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    let deployment = env.objects("Deployment", namespace).get("shop-admin").await.expect("the deployment");
    let served = json!({"observedGeneration": deployment.metadata.generation, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1});
    set_status(env, ("Deployment", namespace, "shop-admin"), served).await;
    env.until_reason(namespace, "AdminReady", "Ready").await;
    let mark = env.mark();
    let mut spec = development();
    spec["admin"]["progressDeadlineSeconds"] = json!(700);
    env.apply(namespace, spec).await;
    assert_eq!(env.edited(namespace, mark), ["patch deployments/shop-admin"]);
    let written = env.objects("Deployment", namespace).get("shop-admin").await.expect("the deployment");
    assert!(written.metadata.generation > deployment.metadata.generation, "its controller has yet to look at it");
    assert_eq!(env.condition(namespace, "AdminReady").await.1, "Ready");
}
