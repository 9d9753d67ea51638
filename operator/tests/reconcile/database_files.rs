//! The files of the embedded database: no other version is started on them, and no empty database beside them.

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::room::{Room, development};

const ANNOTATION: &str = "rorun.app/data-files";

fn with(embedded: &Value) -> Value {
    let mut spec = development();
    spec["database"] = json!({"embedded": embedded});
    spec
}

/// What the volume says, and the template of the server's pods.
async fn files(room: &Room, namespace: &str) -> (Option<String>, Value) {
    let claim = room.objects("PersistentVolumeClaim", namespace).get("shop-database").await.expect("the volume");
    let set = room.objects("StatefulSet", namespace).get_opt("shop-database").await.expect("an answer");
    let template = set.map(|set| set.data["spec"]["template"].clone()).unwrap_or_default();
    (claim.annotations().get(ANNOTATION).cloned(), template)
}

async fn annotate(room: &Room, namespace: &str, value: Option<&str>) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {ANNOTATION: value}}}));
    let claims = room.objects("PersistentVolumeClaim", namespace);
    claims.patch("shop-database", &PatchParams::default(), &patch).await.expect("it is annotated");
}

/// The pod serves, as its controller would write it.
async fn serve(room: &Room, namespace: &str) {
    let sets = room.objects("StatefulSet", namespace);
    let set = sets.get("shop-database").await.expect("the StatefulSet");
    let status = json!({"observedGeneration": set.metadata.generation, "replicas": 1, "readyReplicas": 1});
    let patch = Patch::Merge(json!({"status": status}));
    sets.patch_status("shop-database", &PatchParams::default(), &patch).await.expect("its status is written");
}

async fn delete_stack(room: &Room, namespace: &str) {
    room.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    room.until("the stack is gone", async || {
        room.stacks(namespace).get_opt("shop").await.expect("an answer").is_none()
    })
    .await;
    // No garbage collector runs here: what the stack owned is collected by hand.
    for child in room.children(namespace).await.iter().filter(|child| !child.owner_references().is_empty()) {
        let kind = child.types.as_ref().expect("types").kind.clone();
        room.delete(&kind, namespace, &child.name_any()).await;
    }
}

pub async fn another_version_is_refused_and_the_server_goes_on(room: &Room) {
    let namespace = "versions";
    room.namespace(namespace).await;
    room.apply(namespace, with(&json!({"image": "postgres:17.6"}))).await;
    let before = files(room, namespace).await;
    assert_eq!(before.0.as_deref(), Some("version=17,user=999,layout=data"));
    // The API server lets an image change.
    room.submit(namespace, with(&json!({"image": "postgres:18.0"}))).await;
    let message = room.until_reason(namespace, "DatabaseReady", "VersionMismatch").await;
    assert!(message.contains("persistentvolumeclaim/shop-database holds files of PostgreSQL 17"), "{message}");
    assert_eq!(room.condition(namespace, "Stalled").await.0, "True");
    room.settled(namespace).await;
    assert_eq!(files(room, namespace).await, before);
    // A stack that is made again on the volume, with and without what the volume says.
    delete_stack(room, namespace).await;
    for annotation in [before.0.as_deref(), None, Some("version=17,user=0,layout=versioned")] {
        annotate(room, namespace, annotation).await;
        room.submit(namespace, with(&json!({"version": "18"}))).await;
        room.until_reason(namespace, "DatabaseReady", "VersionMismatch").await;
        room.settled(namespace).await;
        assert_eq!(files(room, namespace).await, (annotation.map(str::to_owned), Value::Null), "nothing is started");
        delete_stack(room, namespace).await;
    }
    annotate(room, namespace, before.0.as_deref()).await;
    room.apply(namespace, with(&json!({"image": "postgres:17.7-alpine"}))).await;
    let after = files(room, namespace).await;
    assert_eq!(after.0, before.0);
    assert_eq!(after.1["spec"]["securityContext"]["runAsUser"], json!(999), "the files are of this user");
}

pub async fn an_annotation_that_is_taken_away_moves_no_files(room: &Room) {
    let namespace = "files";
    room.namespace(namespace).await;
    room.apply(namespace, with(&json!({"version": "18", "image": "postgres:18.0-alpine"}))).await;
    let before = files(room, namespace).await;
    assert_eq!(before.0.as_deref(), Some("version=18,user=70,layout=versioned"));
    assert_eq!(before.1["spec"]["securityContext"]["runAsUser"], json!(70));
    let environment = before.1["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
    assert!(
        environment.contains(&json!({"name": "PGDATA", "value": "/var/lib/postgresql/18/docker"})),
        "{environment:?}"
    );
    annotate(room, namespace, None).await;
    room.settled(namespace).await;
    assert_eq!(files(room, namespace).await.1, before.1, "while it does not serve nothing is written down");
    serve(room, namespace).await;
    room.until("the volume says it again", async || files(room, namespace).await == before).await;
}

/// As an operator of 0.1.0 left it: a volume that says nothing, and a server that serves.
pub async fn files_of_0_1_0_stay_where_they_are(room: &Room) {
    let namespace = "old-files";
    room.namespace(namespace).await;
    room.apply(namespace, with(&json!({"image": "postgres:17-alpine"}))).await;
    delete_stack(room, namespace).await;
    annotate(room, namespace, None).await;
    room.apply(namespace, with(&json!({"image": "postgres:17-alpine"}))).await;
    let (annotation, template) = files(room, namespace).await;
    assert_eq!((annotation, &template["spec"]["securityContext"]["runAsUser"]), (None, &json!(999)));
    serve(room, namespace).await;
    let told = Some("version=17,user=999,layout=data".to_owned());
    room.until("the volume says what it holds", async || files(room, namespace).await.0 == told).await;
    assert_eq!(files(room, namespace).await.1, template);
}
