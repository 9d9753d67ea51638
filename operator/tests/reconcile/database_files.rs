//! The files of the embedded database: no other version is started on them, and no empty database beside them.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::env::{TestEnv, development};

const ANNOTATION: &str = "rorun.app/data-files";

fn with(embedded: &Value) -> Value {
    let mut spec = development();
    spec["database"] = json!({"embedded": embedded});
    spec
}

/// What the volume says, and the template of the server's pods.
async fn files(env: &TestEnv, namespace: &str) -> (Option<String>, Value) {
    let claim = env.objects("PersistentVolumeClaim", namespace).get("shop-database").await.expect("the volume");
    let set = env.objects("StatefulSet", namespace).get_opt("shop-database").await.expect("an answer");
    let template = set.map(|set| set.data["spec"]["template"].clone()).unwrap_or_default();
    (claim.annotations().get(ANNOTATION).cloned(), template)
}

async fn annotate(env: &TestEnv, namespace: &str, value: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {ANNOTATION: value}}}));
    let claims = env.objects("PersistentVolumeClaim", namespace);
    claims.patch("shop-database", &PatchParams::default(), &patch).await.expect("it is annotated");
}

/// The pod serves, as its controller would write it.
async fn serve(env: &TestEnv, namespace: &str) {
    let sets = env.objects("StatefulSet", namespace);
    let set = sets.get("shop-database").await.expect("the StatefulSet");
    let status = json!({"observedGeneration": set.metadata.generation, "replicas": 1, "readyReplicas": 1});
    let patch = Patch::Merge(json!({"status": status}));
    sets.patch_status("shop-database", &PatchParams::default(), &patch).await.expect("its status is written");
}

async fn delete_stack(env: &TestEnv, namespace: &str) {
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
    // No garbage collector runs here: what the stack owned is collected by hand.
    for child in env.children(namespace).await.iter().filter(|child| !child.owner_references().is_empty()) {
        let kind = child.types.as_ref().expect("types").kind.clone();
        env.delete(&kind, namespace, &child.name_any()).await;
    }
}

pub async fn another_version_is_refused_and_the_server_goes_on(env: &TestEnv) {
    let namespace = "versions";
    env.namespace(namespace).await;
    env.apply(namespace, with(&json!({"image": "postgres:17.6"}))).await;
    let before = files(env, namespace).await;
    assert_eq!(before.0.as_deref(), Some("version=17,user=999,layout=data"));
    // The API server lets an image change.
    env.submit(namespace, with(&json!({"image": "postgres:18.0"}))).await;
    let message = env.until_reason(namespace, "DatabaseReady", "VersionMismatch").await;
    assert!(message.contains("persistentvolumeclaim/shop-database holds files of PostgreSQL 17"), "{message}");
    assert_eq!(env.condition(namespace, "Stalled").await.0, "True");
    env.settled(namespace).await;
    assert_eq!(files(env, namespace).await, before);
    // A stack that is made again on the volume, with and without what the volume says.
    delete_stack(env, namespace).await;
    for annotation in [before.0.as_deref(), None, Some("version=17,user=0,layout=versioned")] {
        annotate(env, namespace, annotation).await;
        env.submit(namespace, with(&json!({"version": "18"}))).await;
        env.until_reason(namespace, "DatabaseReady", "VersionMismatch").await;
        env.settled(namespace).await;
        assert_eq!(files(env, namespace).await, (annotation.map(str::to_owned), Value::Null), "nothing is started");
        delete_stack(env, namespace).await;
    }
    annotate(env, namespace, before.0.as_deref()).await;
    env.apply(namespace, with(&json!({"image": "postgres:17.7-alpine"}))).await;
    let after = files(env, namespace).await;
    assert_eq!(after.0, before.0);
    assert_eq!(after.1["spec"]["securityContext"]["runAsUser"], json!(999), "the files are of this user");
}

pub async fn an_annotation_that_is_taken_away_moves_no_files(env: &TestEnv) {
    let namespace = "files";
    env.namespace(namespace).await;
    env.apply(namespace, with(&json!({"version": "18", "image": "postgres:18.0-alpine"}))).await;
    let before = files(env, namespace).await;
    assert_eq!(before.0.as_deref(), Some("version=18,user=70,layout=versioned"));
    assert_eq!(before.1["spec"]["securityContext"]["runAsUser"], json!(70));
    let environment = before.1["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
    assert!(
        environment.contains(&json!({"name": "PGDATA", "value": "/var/lib/postgresql/18/docker"})),
        "{environment:?}"
    );
    annotate(env, namespace, None).await;
    env.settled(namespace).await;
    assert_eq!(files(env, namespace).await.1, before.1, "while it does not serve nothing is written down");
    serve(env, namespace).await;
    env.until("the volume says it again", async || files(env, namespace).await == before).await;
}

/// As an operator of 0.1.0 left it: a volume that says nothing, and a server that serves.
pub async fn files_of_0_1_0_stay_where_they_are(env: &TestEnv) {
    let namespace = "old-files";
    env.namespace(namespace).await;
    env.apply(namespace, with(&json!({"image": "postgres:17-alpine"}))).await;
    delete_stack(env, namespace).await;
    annotate(env, namespace, None).await;
    env.apply(namespace, with(&json!({"image": "postgres:17-alpine"}))).await;
    let (annotation, template) = files(env, namespace).await;
    assert_eq!((annotation, &template["spec"]["securityContext"]["runAsUser"]), (None, &json!(999)));
    serve(env, namespace).await;
    let told = Some("version=17,user=999,layout=data".to_owned());
    env.until("the volume says what it holds", async || files(env, namespace).await.0 == told).await;
    assert_eq!(files(env, namespace).await.1, template);
}
