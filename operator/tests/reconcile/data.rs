//! What must never be lost, and what tries to trick the operator into losing it.

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::room::{Room, development};

const CREDENTIALS: &str = "shop-database-credentials";

async fn secret(room: &Room, namespace: &str) -> Option<DynamicObject> {
    room.objects("Secret", namespace).get_opt(CREDENTIALS).await.expect("an answer")
}

fn password(secret: &DynamicObject) -> Value {
    secret.data["data"]["password"].clone()
}

/// What a user puts back from a copy.
async fn put_back(room: &Room, namespace: &str, copy: &DynamicObject) {
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS, "labels": copy.labels(), "annotations": copy.annotations()}, "data": copy.data["data"]});
    let body: DynamicObject = serde_json::from_value(body).expect("a secret");
    room.objects("Secret", namespace).create(&PostParams::default(), &body).await.expect("it is put back");
}

pub async fn lost_credentials_are_never_made_again(room: &Room) {
    let namespace = "lost";
    room.namespace(namespace).await;
    room.apply(namespace, development()).await;
    let copy = secret(room, namespace).await.expect("credentials");
    room.delete("Secret", namespace, CREDENTIALS).await;
    let message = room.until_reason(namespace, "DatabaseReady", "CredentialsLost").await;
    assert!(
        message.contains("persistentvolumeclaim/shop-database") && message.contains("put the Secret back"),
        "{message}"
    );
    assert_eq!(room.condition(namespace, "Stalled").await.0, "True");
    room.settled(namespace).await;
    assert!(secret(room, namespace).await.is_none(), "credentials were made up for a volume that holds data");
    put_back(room, namespace, &copy).await;
    room.until_reason(namespace, "DatabaseReady", "Progressing").await;
    assert_eq!(password(&secret(room, namespace).await.expect("credentials")), password(&copy));
}

pub async fn a_volume_of_somebody_else_keeps_credentials_from_being_made(room: &Room) {
    let namespace = "unlabelled";
    room.namespace(namespace).await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shop-database"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let claim: DynamicObject = serde_json::from_value(claim).expect("a claim");
    room.objects("PersistentVolumeClaim", namespace).create(&PostParams::default(), &claim).await.expect("it is made");
    room.submit(namespace, development()).await;
    let message = room.until_reason(namespace, "DatabaseReady", "NameTaken").await;
    assert!(message.contains("persistentvolumeclaim/shop-database") && message.contains("left alone"), "{message}");
    assert!(secret(room, namespace).await.is_none());
    // Its owner takes it away: no watch shows it, and it is noticed all the same. What protects claims in use does not run.
    let claims = room.objects("PersistentVolumeClaim", namespace);
    let unprotected = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    claims.patch("shop-database", &PatchParams::default(), &unprotected).await.expect("it is unprotected");
    room.delete("PersistentVolumeClaim", namespace, "shop-database").await;
    room.until_reason(namespace, "DatabaseReady", "Progressing").await;
    assert!(secret(room, namespace).await.is_some(), "no credentials were made for a volume of the stack's own");
}

pub async fn a_stack_made_again_adopts_its_data(room: &Room) {
    let namespace = "adopt";
    room.namespace(namespace).await;
    room.apply(namespace, development()).await;
    let before = secret(room, namespace).await.expect("credentials");
    let claims = room.objects("PersistentVolumeClaim", namespace);
    let claim = claims.get("shop-database").await.expect("the claim");
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
    room.apply(namespace, development()).await;
    let after = secret(room, namespace).await.expect("credentials");
    let uid = room.stacks(namespace).get("shop").await.expect("the stack").uid();
    assert_eq!(password(&after), password(&before));
    assert_eq!(claims.get("shop-database").await.expect("the claim").uid(), claim.uid());
    assert_eq!(after.annotations().get("rorun.app/stack-uid").cloned(), uid, "it says whose it is now");
}

pub async fn data_go_only_when_the_spec_says_so(room: &Room) {
    let namespace = "delete";
    room.namespace(namespace).await;
    let mut spec = development();
    spec["deletionPolicy"] = json!("Delete");
    room.apply(namespace, spec).await;
    // A volume of another stack that lives beside it, and one whose label was forged.
    let forged = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "other", "labels": {
        "app.kubernetes.io/managed-by": "rorun-operator", "app.kubernetes.io/instance": "shop", "rorun.app/retained": "true"},
        "annotations": {"rorun.app/stack-uid": "another"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let forged: DynamicObject = serde_json::from_value(forged).expect("a claim");
    room.objects("PersistentVolumeClaim", namespace).create(&PostParams::default(), &forged).await.expect("it is made");
    room.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    room.until("the stack is gone", async || {
        room.stacks(namespace).get_opt("shop").await.expect("an answer").is_none()
    })
    .await;
    assert!(secret(room, namespace).await.is_none(), "the credentials are left");
    let claims = room.objects("PersistentVolumeClaim", namespace);
    // The finalizer that protects a claim in use is taken off by a controller that does not run here.
    let deleting = claims.get_opt("shop-database").await.expect("an answer");
    assert!(deleting.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()), "the volume is left");
    // The dumps are in the bucket, and the spec says nothing of them.
    assert!(
        claims.get("shop-bucket").await.expect("it is there").metadata.deletion_timestamp.is_none(),
        "the volume with the backups was deleted"
    );
    let keys = room.objects("Secret", namespace).get_opt("shop-bucket-credentials").await.expect("an answer");
    assert!(keys.is_some(), "the keys to the backups are gone");
    assert!(
        claims.get("other").await.expect("it is there").metadata.deletion_timestamp.is_none(),
        "another's volume was deleted"
    );
}

/// What is left of a status is put there as a user with the right could: the operator reads it like its own.
async fn told_of_a_dump_in(room: &Room, namespace: &str, bucket: &str) {
    let location = format!("s3://{bucket}/backups/{namespace}/shop/20260101T000000Z-bbbbb/manifest.json");
    let last =
        json!({"id": "20260101T000000Z-bbbbb", "at": "2026-01-01T00:00:00Z", "sizeBytes": 7, "location": location});
    let status = Patch::Merge(json!({"status": {"backup": {"lastSuccessful": last}}}));
    room.stacks(namespace).patch_status("shop", &PatchParams::default(), &status).await.expect("it is told");
}

fn deleted_with_dumps_elsewhere() -> Value {
    let mut spec = development();
    spec["deletionPolicy"] = json!("Delete");
    let elsewhere =
        json!({"name": "dumps", "endpoint": "http://127.0.0.1:1", "credentialsSecretRef": {"name": "dump-keys"}});
    spec["backup"] = json!({"destination": {"external": elsewhere}});
    spec
}

async fn is_kept(room: &Room, namespace: &str, volume: &str) -> bool {
    let claim = room.objects("PersistentVolumeClaim", namespace).get_opt(volume).await.expect("an answer");
    claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_none())
}

pub async fn a_bucket_that_had_backups_stays_whatever_was_added_later(room: &Room) {
    let namespace = "dumped";
    room.namespace(namespace).await;
    let mut spec = development();
    spec["deletionPolicy"] = json!("Delete");
    room.apply(namespace, spec).await;
    told_of_a_dump_in(room, namespace, "shop-bucket").await;
    room.settled(namespace).await;
    room.apply(namespace, deleted_with_dumps_elsewhere()).await;
    // The newest dump is elsewhere: nothing tells of the old ones but what was remembered.
    told_of_a_dump_in(room, namespace, "dumps").await;
    room.settled(namespace).await;
    room.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    room.until("the stack is gone", async || {
        room.stacks(namespace).get_opt("shop").await.expect("an answer").is_none()
    })
    .await;
    assert!(is_kept(room, namespace, "shop-bucket").await, "the volume with the backups was deleted");
    let keys = room.objects("Secret", namespace).get_opt("shop-bucket-credentials").await.expect("an answer");
    assert!(keys.is_some(), "the keys to the backups are gone");
    assert!(!is_kept(room, namespace, "shop-database").await, "the volume of the database is left");
}

pub async fn nothing_is_deleted_while_nobody_knows_whether_there_are_backups(room: &Room) {
    let namespace = "doubt";
    room.namespace(namespace).await;
    room.apply(namespace, deleted_with_dumps_elsewhere()).await;
    room.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    // No pod runs here, so the bucket cannot be asked.
    let message = room.until_reason(namespace, "Stalled", "BackupsUnknown").await;
    assert!(message.contains("persistentvolumeclaim/shop-bucket") && message.contains("Retain"), "{message}");
    for volume in ["shop-bucket", "shop-database", "shop-redis"] {
        assert!(is_kept(room, namespace, volume).await, "{volume} was deleted");
    }
    let retain = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    room.stacks(namespace).patch("shop", &PatchParams::default(), &retain).await.expect("it is changed");
    room.until("the stack is gone", async || {
        room.stacks(namespace).get_opt("shop").await.expect("an answer").is_none()
    })
    .await;
    assert!(is_kept(room, namespace, "shop-bucket").await && is_kept(room, namespace, "shop-database").await);
}

pub async fn production_needs_a_confirmation(room: &Room) {
    let namespace = "confirm";
    room.namespace(namespace).await;
    let bucket = json!({"external": {"name": "files", "endpoint": "http://127.0.0.1:1", "credentialsSecretRef": {"name": "s3"}}});
    let spec = json!({
        "environment": "Production", "deletionPolicy": "Delete",
        "api": {"image": "rorun-api:1"}, "backup": {},
        "database": {"external": {"secretRef": {"name": "db"}}},
        "redis": {"external": {"secretRef": {"name": "redis"}}},
        "bucket": bucket,
    });
    room.apply(namespace, spec).await;
    room.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is asked for");
    let message = room.until_reason(namespace, "Stalled", "ConfirmationRequired").await;
    assert!(message.contains("rorun.app/confirm-delete=shop"), "{message}");
    let confirm = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/confirm-delete": "shop"}}}));
    room.stacks(namespace).patch("shop", &PatchParams::default(), &confirm).await.expect("it is confirmed");
    room.until("the stack is gone", async || {
        room.stacks(namespace).get_opt("shop").await.expect("an answer").is_none()
    })
    .await;
}
