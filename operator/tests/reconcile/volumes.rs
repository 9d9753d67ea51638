//! What a spec asks of volumes that exist, and what the API server takes.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::env::{TestEnv, development};

/// The pods of Redis serve, as their controller would write it.
async fn serve(env: &TestEnv, namespace: &str) {
    let sets = env.objects("StatefulSet", namespace);
    let set = sets.get("shop-redis").await.expect("the StatefulSet");
    let status = json!({"observedGeneration": set.metadata.generation, "replicas": 1, "readyReplicas": 1});
    let patch = Patch::Merge(json!({"status": status}));
    sets.patch_status("shop-redis", &PatchParams::default(), &patch).await.expect("its status is written");
}

async fn until_told(env: &TestEnv, namespace: &str, words: &str) {
    env.until(&format!("RedisReady is True and says {words:?}"), async || {
        let (status, _, message) = env.condition(namespace, "RedisReady").await;
        status == "True" && (message.contains(words) && (message.is_empty() == words.is_empty()))
    })
    .await;
}

/// A wish that a volume cannot grant is told beside a condition that stays true, and is not sent to the API server.
pub async fn what_a_volume_cannot_do_is_told_and_not_sent(env: &TestEnv) {
    let namespace = "volumes";
    env.namespace(namespace).await;
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": "rigid"}, "provisioner": "example.com/none", "allowVolumeExpansion": false,
    }))
    .expect("a class");
    let classes: Api<StorageClass> = Api::all(env.client.clone());
    classes.create(&PostParams::default(), &class).await.expect("the class is made");
    let spec = |size: &str, class: Option<&str>| {
        let mut spec = development();
        let mut storage = json!({"size": size});
        if let Some(class) = class {
            storage["storageClassName"] = json!(class);
        }
        spec["redis"] = json!({"embedded": {"storage": storage}});
        spec
    };
    env.apply(namespace, spec("2Gi", Some("rigid"))).await;
    let claims = env.objects("PersistentVolumeClaim", namespace);
    let claim = claims.get("shop-redis").await.expect("the volume");
    // As the controller of volumes does: only what is bound can be asked to grow.
    let bound = Patch::Merge(json!({"status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}}));
    claims.patch_status("shop-redis", &PatchParams::default(), &bound).await.expect("it is bound");
    serve(env, namespace).await;
    until_told(env, namespace, "").await;
    for (size, class, words) in [
        (
            "1Gi",
            Some("rigid"),
            "spec.redis.embedded.storage.size is 1Gi, and the volume keeps its 2Gi: a volume cannot shrink",
        ),
        ("2Gi", Some("other"), "storageClassName is other, and the volume keeps its class rigid"),
        ("3Gi", Some("rigid"), "its class rigid cannot expand volumes"),
        ("2Gi", None, ""),
    ] {
        env.apply(namespace, spec(size, class)).await;
        until_told(env, namespace, words).await;
        let now = claims.get("shop-redis").await.expect("the volume");
        assert_eq!(now.uid(), claim.uid());
        assert_eq!(now.data["spec"], claim.data["spec"], "{size} {class:?}");
        let mark = env.mark();
        env.settled(namespace).await;
        assert_eq!(env.writes(namespace, mark), Vec::<String>::new(), "{size} {class:?} is at rest");
    }
    assert_ne!(claim.data.pointer("/spec/storageClassName"), None::<&Value>);
}
