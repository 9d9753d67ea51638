//! What a spec asks of volumes that exist, and what the API server takes.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::room::{Room, development};

/// The pods of Redis serve, as their controller would write it.
async fn serve(room: &Room, namespace: &str) {
    let sets = room.objects("StatefulSet", namespace);
    let set = sets.get("shop-redis").await.expect("the StatefulSet");
    let status = json!({"observedGeneration": set.metadata.generation, "replicas": 1, "readyReplicas": 1});
    let patch = Patch::Merge(json!({"status": status}));
    sets.patch_status("shop-redis", &PatchParams::default(), &patch).await.expect("its status is written");
}

async fn until_told(room: &Room, namespace: &str, words: &str) {
    room.until(&format!("RedisReady is True and says {words:?}"), async || {
        let (status, _, message) = room.condition(namespace, "RedisReady").await;
        status == "True" && (message.contains(words) && (message.is_empty() == words.is_empty()))
    })
    .await;
}

/// A wish that a volume cannot grant is told beside a condition that stays true, and is not sent to the API server.
pub async fn what_a_volume_cannot_do_is_told_and_not_sent(room: &Room) {
    let namespace = "volumes";
    room.namespace(namespace).await;
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": "rigid"}, "provisioner": "example.com/none", "allowVolumeExpansion": false,
    }))
    .expect("a class");
    let classes: Api<StorageClass> = Api::all(room.client.clone());
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
    room.apply(namespace, spec("2Gi", Some("rigid"))).await;
    let claims = room.objects("PersistentVolumeClaim", namespace);
    let claim = claims.get("shop-redis").await.expect("the volume");
    // As the controller of volumes does: only what is bound can be asked to grow.
    let bound = Patch::Merge(json!({"status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}}));
    claims.patch_status("shop-redis", &PatchParams::default(), &bound).await.expect("it is bound");
    serve(room, namespace).await;
    until_told(room, namespace, "").await;
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
        room.apply(namespace, spec(size, class)).await;
        until_told(room, namespace, words).await;
        let now = claims.get("shop-redis").await.expect("the volume");
        assert_eq!(now.uid(), claim.uid());
        assert_eq!(now.data["spec"], claim.data["spec"], "{size} {class:?}");
        let mark = room.mark();
        room.settled(namespace).await;
        assert_eq!(room.writes(namespace, mark), Vec::<String>::new(), "{size} {class:?} is at rest");
    }
    assert_ne!(claim.data.pointer("/spec/storageClassName"), None::<&Value>);
}
