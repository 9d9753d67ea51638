//! Credentials that are changed by hand, and volumes that are deleted under their pods.

use std::collections::BTreeMap;

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    gitops::data_of,
    room::{Room, development},
};

const DIGEST: &str = "rorun.app/credentials-digest";
const SECRET: &str = "shop-redis-credentials";

/// A stack whose data are all there, however long a busy API server takes for each.
async fn made(room: &Room, namespace: &str) {
    room.namespace(namespace).await;
    room.apply(namespace, development()).await;
    room.until("its data are there", async || data_of(room, namespace, "shop").await.len() == 6).await;
    room.settled(namespace).await;
}

async fn secret(room: &Room, namespace: &str, name: &str) -> DynamicObject {
    room.objects("Secret", namespace).get(name).await.expect("the Secret")
}

async fn patch(room: &Room, namespace: &str, (kind, name): (&str, &str), patch: Value) {
    let api = room.objects(kind, namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("it is changed");
}

async fn annotate(room: &Room, namespace: &str, value: Value) {
    patch(room, namespace, ("Secret", SECRET), json!({"metadata": {"annotations": {DIGEST: value}}})).await;
}

async fn set_password(room: &Room, namespace: &str, value: &Value) {
    patch(room, namespace, ("Secret", SECRET), json!({"data": {"password": value}})).await;
}

/// What the application was told, and the generation of everything that has pods.
async fn told(room: &Room, namespace: &str) -> (Value, BTreeMap<String, Option<i64>>) {
    let connection = secret(room, namespace, "shop-connection").await.data["data"].clone();
    let mut generations = BTreeMap::new();
    for child in room.children(namespace).await {
        let kind = child.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        if ["Deployment", "StatefulSet"].contains(&&*kind) {
            generations.insert(format!("{kind}/{}", child.name_any()), child.metadata.generation);
        }
    }
    (connection, generations)
}

pub async fn credentials_changed_by_hand_change_nothing(room: &Room) {
    let namespace = "by-hand";
    made(room, namespace).await;
    let (before, made) = (told(room, namespace).await, secret(room, namespace, SECRET).await);
    let mark = room.mark();
    set_password(room, namespace, &json!("Y2hhbmdlZC1ieS1oYW5k")).await;
    let message = room.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
    for words in ["secret/shop-redis-credentials", "put the values back", "secret/shop-connection", "REDIS_PASSWORD"] {
        assert!(message.contains(words), "no {words:?} in {message}");
    }
    assert!(!message.contains("changed-by-hand"), "a value is told: {message}");
    assert_eq!(room.condition(namespace, "Stalled").await.1, "CredentialsChanged");
    // It is looked at once more, with a spec that changes no object.
    let mut spec = development();
    spec["deletionPolicy"] = json!("Retain");
    room.apply(namespace, spec).await;
    assert_eq!(room.condition(namespace, "RedisReady").await.1, "CredentialsChanged");
    assert_eq!(room.writes(namespace, mark), Vec::<String>::new());
    assert_eq!(told(room, namespace).await, before);

    // The way out that is told: the connection still holds the value.
    set_password(room, namespace, &before.0["REDIS_PASSWORD"]).await;
    room.until_reason(namespace, "RedisReady", "Progressing").await;
    room.settled(namespace).await;
    assert_eq!(room.condition(namespace, "Stalled").await.0, "");
    // Whoever changed the value and put it back has taken the field.
    assert_eq!(room.writes(namespace, mark), [format!("patch secrets/{SECRET}")]);
    assert_eq!(told(room, namespace).await, before);
    let now = secret(room, namespace, SECRET).await;
    assert_eq!(
        (now.annotations()[DIGEST].clone(), &now.data["data"]),
        (made.annotations()[DIGEST].clone(), &made.data["data"])
    );
}

/// Whatever else is changed with the value.
pub async fn a_changed_value_is_never_believed_by_accident(room: &Room) {
    let namespace = "tricks";
    made(room, namespace).await;
    let (before, made) = (told(room, namespace).await, secret(room, namespace, SECRET).await);
    let other = json!({"password": "Y2hhbmdlZC1ieS1oYW5k"});
    let unlabelled = json!({"app.kubernetes.io/managed-by": null, "rorun.app/stack": null, "rorun.app/retained": null});
    for metadata in [
        json!({"annotations": {DIGEST: null}}),
        json!({"annotations": {DIGEST: "0123456789abcdef01234567"}}),
        json!({"annotations": {DIGEST: "true"}}),
        json!({"labels": unlabelled}),
        json!({"labels": unlabelled, "annotations": {DIGEST: null}}),
        json!({"labels": {"app.kubernetes.io/instance": "shop"}, "annotations": {"rorun.app/applied-hash": null}}),
    ] {
        patch(room, namespace, ("Secret", SECRET), json!({"metadata": metadata, "data": other})).await;
        room.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
        room.settled(namespace).await;
        assert_eq!(told(room, namespace).await, before, "{metadata}");
        // As it was, but for what the operator puts back itself.
        let was = json!({"metadata": {"labels": made.labels(), "annotations": {DIGEST: made.annotations()[DIGEST]}},
            "data": made.data["data"]});
        patch(room, namespace, ("Secret", SECRET), was).await;
        room.until_reason(namespace, "RedisReady", "Progressing").await;
        room.settled(namespace).await;
        assert_eq!(told(room, namespace).await, before, "{metadata}");
    }
    // Without its digest, and with the very values that the application was told, it is what it was.
    let mark = room.mark();
    annotate(room, namespace, Value::Null).await;
    room.until("it says again what its values were", async || {
        secret(room, namespace, SECRET).await.annotations().get(DIGEST) == made.annotations().get(DIGEST)
    })
    .await;
    room.settled(namespace).await;
    assert_eq!(room.writes(namespace, mark), [format!("patch secrets/{SECRET}")]);
    // What the application was told is made from the credentials, never the other way round.
    let mark = room.mark();
    let wrong = json!({"data": {"REDIS_PASSWORD": "Y2hhbmdlZC1ieS1oYW5k"}});
    patch(room, namespace, ("Secret", "shop-connection"), wrong).await;
    room.until("the connection is repaired", async || told(room, namespace).await.0 == before.0).await;
    room.settled(namespace).await;
    assert_eq!(room.writes(namespace, mark), ["patch secrets/shop-connection"]);
}

/// Whoever has changed them in the server as well says so in one word.
pub async fn credentials_are_adopted_when_a_user_says_so(room: &Room) {
    let namespace = "adopted";
    made(room, namespace).await;
    let before = secret(room, namespace, SECRET).await;
    let value = json!("Y2hhbmdlZC1pbi10aGUtc2VydmVyLXRvbw==");
    set_password(room, namespace, &value).await;
    room.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
    annotate(room, namespace, json!("adopt")).await;
    room.until("the application is told", async || told(room, namespace).await.0["REDIS_PASSWORD"] == value).await;
    room.settled(namespace).await;
    let now = secret(room, namespace, SECRET).await;
    assert_eq!(now.data["data"]["password"], value);
    assert!(now.annotations()[DIGEST] != before.annotations()[DIGEST] && now.annotations()[DIGEST] != "adopt");
    // It was said once, of these values.
    set_password(room, namespace, &json!("b25jZS1tb3Jl")).await;
    room.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
}

/// As by `kubectl delete secret --all`.
pub async fn of_credentials_that_are_lost_each_is_named(room: &Room) {
    let namespace = "all-lost";
    made(room, namespace).await;
    let names = ["database", "redis", "bucket"].map(|component| format!("shop-{component}-credentials"));
    for name in &names {
        room.delete("Secret", namespace, name).await;
    }
    room.until("the root cause names each", async || {
        let (_, reason, message) = room.condition(namespace, "Ready").await;
        reason == "CredentialsLost" && names.iter().all(|name| message.contains(&format!("secret/{name}")))
    })
    .await;
    room.settled(namespace).await;
    for name in &names {
        assert!(
            room.objects("Secret", namespace).get_opt(name).await.expect("an answer").is_none(),
            "{name} was made up"
        );
    }
}

pub async fn a_volume_that_is_deleted_under_its_pod_is_told_and_its_pod_left(room: &Room) {
    let namespace = "going";
    made(room, namespace).await;
    // What protects a claim that a pod uses: taken off when the pod stops, by a controller that does not run here.
    let claims = room.objects("PersistentVolumeClaim", namespace);
    let claim = claims.get("shop-redis").await.expect("the claim");
    assert!(claim.finalizers().contains(&"kubernetes.io/pvc-protection".to_owned()), "{:?}", claim.finalizers());
    let server = room.objects("StatefulSet", namespace).get("shop-redis").await.expect("the server");
    claims.delete("shop-redis", &DeleteParams::default()).await.expect("it is deleted");
    let message = room.until_reason(namespace, "RedisReady", "VolumeTerminating").await;
    for words in ["persistentvolumeclaim/shop-redis", "its data are gone when its pod stops", "copy the data"] {
        assert!(message.contains(words), "no {words:?} in {message}");
    }
    assert_eq!(room.condition(namespace, "Stalled").await.1, "VolumeTerminating");

    // A new image would end the pod, and the data with it.
    let mut spec = development();
    spec["redis"] = json!({"embedded": {"image": "valkey/valkey:8.1.1"}});
    spec["admin"]["image"] = json!("rorun-admin:2");
    let mark = room.mark();
    room.apply(namespace, spec).await;
    room.until_reason(namespace, "RedisReady", "VolumeTerminating").await;
    let now = room.objects("StatefulSet", namespace).get("shop-redis").await.expect("the server");
    assert_eq!(now.resource_version(), server.resource_version(), "the pod on the volume would be replaced");
    assert_eq!(room.writes(namespace, mark), ["patch deployments/shop-admin"], "the rest of the stack goes on");

    // With the Secret gone as well, nothing is made up as long as the data are there.
    room.delete("Secret", namespace, SECRET).await;
    room.until("the Secret is named", async || {
        let (_, reason, message) = room.condition(namespace, "RedisReady").await;
        reason == "VolumeTerminating" && message.contains("secret/shop-redis-credentials is gone")
    })
    .await;
    assert!(room.objects("Secret", namespace).get_opt(SECRET).await.expect("an answer").is_none(), "it was made up");

    // The pod stops: the claim is gone, and all is made again.
    let unprotected = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    claims.patch("shop-redis", &PatchParams::default(), &unprotected).await.expect("it is unprotected");
    room.until("volume, credentials and server are made again", async || {
        let again = claims.get_opt("shop-redis").await.expect("an answer");
        let server = room.objects("StatefulSet", namespace).get("shop-redis").await.expect("the server");
        let image = server.data.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
        again.is_some_and(|again| again.uid() != claim.uid()) && image == Some("valkey/valkey:8.1.1")
    })
    .await;
    room.until_reason(namespace, "RedisReady", "Progressing").await;
}
