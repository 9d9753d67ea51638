//! Credentials that are changed by hand, and volumes that are deleted under their pods.

use std::collections::BTreeMap;

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    env::{TestEnv, development},
    gitops::data_of,
};

const DIGEST: &str = "rorun.app/credentials-digest";
const SECRET: &str = "shop-redis-credentials";

/// A stack whose data are all there, however long a busy API server takes for each.
async fn made(env: &TestEnv, namespace: &str) {
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    env.until("its data are there", async || data_of(env, namespace, "shop").await.len() == 6).await;
    env.settled(namespace).await;
}

async fn secret(env: &TestEnv, namespace: &str, name: &str) -> DynamicObject {
    env.objects("Secret", namespace).get(name).await.expect("the Secret")
}

async fn patch(env: &TestEnv, namespace: &str, (kind, name): (&str, &str), patch: Value) {
    let api = env.objects(kind, namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("it is changed");
}

async fn annotate(env: &TestEnv, namespace: &str, value: Value) {
    patch(env, namespace, ("Secret", SECRET), json!({"metadata": {"annotations": {DIGEST: value}}})).await;
}

async fn set_password(env: &TestEnv, namespace: &str, value: &Value) {
    patch(env, namespace, ("Secret", SECRET), json!({"data": {"password": value}})).await;
}

/// The connection Secret of the application, and the generation of every workload.
async fn connection(env: &TestEnv, namespace: &str) -> (Value, BTreeMap<String, Option<i64>>) {
    let connection = secret(env, namespace, "shop-connection").await.data["data"].clone();
    let mut generations = BTreeMap::new();
    for child in env.children(namespace).await {
        let kind = child.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        if ["Deployment", "StatefulSet"].contains(&&*kind) {
            generations.insert(format!("{kind}/{}", child.name_any()), child.metadata.generation);
        }
    }
    (connection, generations)
}

pub async fn credentials_changed_by_hand_change_nothing(env: &TestEnv) {
    let namespace = "by-hand";
    made(env, namespace).await;
    let (before, made) = (connection(env, namespace).await, secret(env, namespace, SECRET).await);
    let mark = env.mark();
    set_password(env, namespace, &json!("Y2hhbmdlZC1ieS1oYW5k")).await;
    let message = env.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
    for words in ["secret/shop-redis-credentials", "put the values back", "secret/shop-connection", "REDIS_PASSWORD"] {
        assert!(message.contains(words), "no {words:?} in {message}");
    }
    assert!(!message.contains("changed-by-hand"), "the message holds a value: {message}");
    assert_eq!(env.condition(namespace, "Stalled").await.1, "CredentialsChanged");
    // Another reconcile, with a spec that changes no object.
    let mut spec = development();
    spec["deletionPolicy"] = json!("Retain");
    env.apply(namespace, spec).await;
    assert_eq!(env.condition(namespace, "RedisReady").await.1, "CredentialsChanged");
    assert_eq!(env.writes(namespace, mark), Vec::<String>::new());
    assert_eq!(connection(env, namespace).await, before);

    // The way out in the message: the connection Secret still holds the value.
    set_password(env, namespace, &before.0["REDIS_PASSWORD"]).await;
    env.until_reason(namespace, "RedisReady", "Progressing").await;
    env.settled(namespace).await;
    assert_eq!(env.condition(namespace, "Stalled").await.0, "");
    // Whoever changed the value and put it back has taken the field. Dumps, which waited, are told the new spec.
    assert_eq!(
        env.writes(namespace, mark),
        [format!("patch secrets/{SECRET}"), "patch secrets/shop-backup".to_owned()]
    );
    assert_eq!(connection(env, namespace).await, before);
    let now = secret(env, namespace, SECRET).await;
    assert_eq!(
        (now.annotations()[DIGEST].clone(), &now.data["data"]),
        (made.annotations()[DIGEST].clone(), &made.data["data"])
    );
}

/// Whatever else is changed with the value.
pub async fn a_changed_value_is_never_believed_by_accident(env: &TestEnv) {
    let namespace = "tricks";
    made(env, namespace).await;
    let (before, made) = (connection(env, namespace).await, secret(env, namespace, SECRET).await);
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
        patch(env, namespace, ("Secret", SECRET), json!({"metadata": metadata, "data": other})).await;
        env.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
        env.settled(namespace).await;
        assert_eq!(connection(env, namespace).await, before, "{metadata}");
        // As it was, but for what the operator puts back itself.
        let was = json!({"metadata": {"labels": made.labels(), "annotations": {DIGEST: made.annotations()[DIGEST]}},
            "data": made.data["data"]});
        patch(env, namespace, ("Secret", SECRET), was).await;
        env.until_reason(namespace, "RedisReady", "Progressing").await;
        env.settled(namespace).await;
        assert_eq!(connection(env, namespace).await, before, "{metadata}");
    }
    // Without its digest, and with the very values that the application was told, it is what it was.
    let mark = env.mark();
    annotate(env, namespace, Value::Null).await;
    env.until("it says again what its values were", async || {
        secret(env, namespace, SECRET).await.annotations().get(DIGEST) == made.annotations().get(DIGEST)
    })
    .await;
    env.settled(namespace).await;
    assert_eq!(env.writes(namespace, mark), [format!("patch secrets/{SECRET}")]);
    // What the application was told is made from the credentials, never the other way round.
    let mark = env.mark();
    let wrong = json!({"data": {"REDIS_PASSWORD": "Y2hhbmdlZC1ieS1oYW5k"}});
    patch(env, namespace, ("Secret", "shop-connection"), wrong).await;
    env.until("the connection is repaired", async || connection(env, namespace).await.0 == before.0).await;
    env.settled(namespace).await;
    assert_eq!(env.writes(namespace, mark), ["patch secrets/shop-connection"]);
}

/// Whoever has changed them in the server as well says so in one word.
pub async fn credentials_are_adopted_when_a_user_says_so(env: &TestEnv) {
    let namespace = "adopted";
    made(env, namespace).await;
    let before = secret(env, namespace, SECRET).await;
    let value = json!("Y2hhbmdlZC1pbi10aGUtc2VydmVyLXRvbw==");
    set_password(env, namespace, &value).await;
    env.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
    annotate(env, namespace, json!("adopt")).await;
    env.until("the application is told", async || connection(env, namespace).await.0["REDIS_PASSWORD"] == value).await;
    env.settled(namespace).await;
    let now = secret(env, namespace, SECRET).await;
    assert_eq!(now.data["data"]["password"], value);
    assert!(now.annotations()[DIGEST] != before.annotations()[DIGEST] && now.annotations()[DIGEST] != "adopt");
    // It was said once, of these values.
    set_password(env, namespace, &json!("b25jZS1tb3Jl")).await;
    env.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
}

/// As 0.1.0 made it, and whatever key a user adds.
pub async fn a_redis_with_a_password_alone_keeps_it(env: &TestEnv) {
    let namespace = "password-alone";
    made(env, namespace).await;
    let user = json!({"metadata": {"annotations": {DIGEST: "adopt"}}, "data": {"username": null}});
    patch(env, namespace, ("Secret", SECRET), user).await;
    let is_told = async || connection(env, namespace).await.0.get("REDIS_USERNAME").is_none();
    env.until("the application is told no user", is_told).await;
    env.settled(namespace).await;
    let (before, made) = (connection(env, namespace).await, secret(env, namespace, SECRET).await);

    patch(env, namespace, ("Secret", SECRET), json!({"data": {"username": "bWluZQ=="}})).await;
    env.settled(namespace).await;
    assert_eq!(connection(env, namespace).await, before, "a key that a user adds is none of the operator's");
    assert_eq!(env.condition(namespace, "RedisReady").await.1, "Progressing");

    let value = made.data["data"]["password"].clone();
    set_password(env, namespace, &json!("Y2hhbmdlZC1ieS1oYW5k")).await;
    let message = env.until_reason(namespace, "RedisReady", "CredentialsChanged").await;
    assert!(message.contains("REDIS_PASSWORD and any REDIS_USERNAME"), "{message}");
    set_password(env, namespace, &value).await;
    env.until_reason(namespace, "RedisReady", "Progressing").await;
    env.settled(namespace).await;
    assert_eq!(connection(env, namespace).await, before);
}

/// As by `kubectl delete secret --all`.
pub async fn of_credentials_that_are_lost_each_is_named(env: &TestEnv) {
    let namespace = "all-lost";
    made(env, namespace).await;
    let names = ["database", "redis", "bucket"].map(|component| format!("shop-{component}-credentials"));
    for name in &names {
        env.delete("Secret", namespace, name).await;
    }
    env.until("the root cause names each", async || {
        let (_, reason, message) = env.condition(namespace, "Ready").await;
        reason == "CredentialsLost" && names.iter().all(|name| message.contains(&format!("secret/{name}")))
    })
    .await;
    env.settled(namespace).await;
    for name in &names {
        assert!(
            env.objects("Secret", namespace).get_opt(name).await.expect("an answer").is_none(),
            "{name} was made up"
        );
    }
}

pub async fn a_volume_that_is_deleted_under_its_pod_is_told_and_its_pod_left(env: &TestEnv) {
    let namespace = "going";
    made(env, namespace).await;
    // What protects a claim that a pod uses: taken off when the pod stops, by a controller that does not run here.
    let claims = env.objects("PersistentVolumeClaim", namespace);
    let claim = claims.get("shop-redis").await.expect("the claim");
    assert!(claim.finalizers().contains(&"kubernetes.io/pvc-protection".to_owned()), "{:?}", claim.finalizers());
    let server = env.objects("StatefulSet", namespace).get("shop-redis").await.expect("the server");
    claims.delete("shop-redis", &DeleteParams::default()).await.expect("it is deleted");
    let message = env.until_reason(namespace, "RedisReady", "VolumeTerminating").await;
    for words in ["persistentvolumeclaim/shop-redis", "its data are gone when its pod stops", "copy the data"] {
        assert!(message.contains(words), "no {words:?} in {message}");
    }
    assert_eq!(env.condition(namespace, "Stalled").await.1, "VolumeTerminating");

    // A new image would end the pod, and the data with it.
    let mut spec = development();
    spec["redis"] = json!({"embedded": {"image": "valkey/valkey:8.1.1"}});
    spec["admin"]["image"] = json!("rorun-admin:2");
    let mark = env.mark();
    env.apply(namespace, spec).await;
    env.until_reason(namespace, "RedisReady", "VolumeTerminating").await;
    let now = env.objects("StatefulSet", namespace).get("shop-redis").await.expect("the server");
    assert_eq!(now.resource_version(), server.resource_version(), "the pod on the volume would be replaced");
    assert_eq!(env.edited(namespace, mark), ["patch deployments/shop-admin"], "the rest of the stack goes on");

    // With the Secret gone as well, nothing is made up as long as the data are there.
    env.delete("Secret", namespace, SECRET).await;
    env.until("the Secret is named", async || {
        let (_, reason, message) = env.condition(namespace, "RedisReady").await;
        reason == "VolumeTerminating" && message.contains("secret/shop-redis-credentials is gone")
    })
    .await;
    assert!(env.objects("Secret", namespace).get_opt(SECRET).await.expect("an answer").is_none(), "it was made up");

    // The pod stops: the claim is gone, and all is made again.
    let unprotected = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    claims.patch("shop-redis", &PatchParams::default(), &unprotected).await.expect("it is unprotected");
    env.until("volume, credentials and server are made again", async || {
        let again = claims.get_opt("shop-redis").await.expect("an answer");
        let server = env.objects("StatefulSet", namespace).get("shop-redis").await.expect("the server");
        let image = server.data.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
        again.is_some_and(|again| again.uid() != claim.uid()) && image == Some("valkey/valkey:8.1.1")
    })
    .await;
    env.until_reason(namespace, "RedisReady", "Progressing").await;
}
