//! `podTemplate` before a real API server: what is refused, or names what does not exist, writes nothing; what is mounted is
//! noticed when it comes and when it goes, and its content replaces no pod.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::env::{TestEnv, development};

const NAMESPACE: &str = "pod-templates";
const NOTHING: [&str; 0] = [];

/// A stack whose Redis has this patch.
fn patched(pod: &Value) -> Value {
    let mut spec = development();
    spec["redis"] = json!({"embedded": {"podTemplate": {"spec": pod}}});
    spec
}

pub async fn a_patch_writes_nothing_until_it_can_be(env: &TestEnv) {
    env.namespace(NAMESPACE).await;
    env.apply(NAMESPACE, development()).await;
    let mark = env.mark();
    env.submit(NAMESPACE, patched(&json!({"hostNetwork": true}))).await;
    let message = env.until_reason(NAMESPACE, "RedisReady", "PodTemplateRefused").await;
    assert!(message.starts_with("redis.embedded.podTemplate.spec.hostNetwork is refused"), "{message}");
    env.settled(NAMESPACE).await;
    assert_eq!(env.edited(NAMESPACE, mark), NOTHING, "for a patch that is refused");
    let (status, reason, _) = env.condition(NAMESPACE, "Stalled").await;
    assert_eq!((&*status, &*reason), ("True", "PodTemplateRefused"));

    // All others are changed as ever.
    let mark = env.mark();
    let mut other = patched(&json!({"hostNetwork": true}));
    other["database"] = json!({"embedded": {"podTemplate": {"spec": {"terminationGracePeriodSeconds": 90}}}});
    env.apply(NAMESPACE, other).await;
    assert_eq!(env.edited(NAMESPACE, mark), ["patch statefulsets/shop-database"]);

    let mounted = patched(&json!({"volumes": [{"name": "extra", "configMap": {"name": "extra"}}]}));
    let mark = env.mark();
    env.submit(NAMESPACE, mounted).await;
    let message = env.until_reason(NAMESPACE, "RedisReady", "ReferenceMissing").await;
    assert!(
        message.contains("configmap/extra, named by redis.embedded.podTemplate.spec.volumes[extra], does not exist"),
        "{message}"
    );
    env.settled(NAMESPACE).await;
    assert_eq!(env.edited(NAMESPACE, mark), ["patch statefulsets/shop-database"], "the database's patch was taken out");

    what_is_mounted_is_watched(env).await;
}

async fn what_is_mounted_is_watched(env: &TestEnv) {
    let maps: Api<ConfigMap> = Api::namespaced(env.client.clone(), NAMESPACE);
    let map = json!({"metadata": {"name": "extra"}, "data": {"logo": "a"}});
    let mark = env.mark();
    let map: ConfigMap = serde_json::from_value(map).expect("a ConfigMap");
    maps.create(&PostParams::default(), &map).await.expect("the ConfigMap is made");
    env.until("the StatefulSet mounts it", async || {
        let set = env.objects("StatefulSet", NAMESPACE).get("shop-redis").await.expect("the StatefulSet");
        let volumes = set.data.pointer("/spec/template/spec/volumes").and_then(Value::as_array).cloned();
        volumes.unwrap_or_default().iter().any(|volume| volume["name"] == "extra")
    })
    .await;
    env.settled(NAMESPACE).await;
    assert_eq!(env.writes(NAMESPACE, mark), ["patch statefulsets/shop-redis"]);

    let mark = env.mark();
    let change = Patch::Merge(json!({"data": {"logo": "b"}}));
    maps.patch("extra", &PatchParams::default(), &change).await.expect("it is changed");
    env.until("it is read again", async || {
        env.calls(NAMESPACE, mark).iter().any(|call| call.resource == "configmaps" && call.name == "extra")
    })
    .await;
    env.settled(NAMESPACE).await;
    assert_eq!(env.writes(NAMESPACE, mark), NOTHING, "the kubelet brings the new content into the pod");

    let mark = env.mark();
    maps.delete("extra", &DeleteParams::default()).await.expect("it is deleted");
    env.until_reason(NAMESPACE, "RedisReady", "ReferenceMissing").await;
    env.settled(NAMESPACE).await;
    assert_eq!(env.writes(NAMESPACE, mark), NOTHING);
}
