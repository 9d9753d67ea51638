//! What must never be lost, and what tries to trick the operator into losing it.

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::env::{TestEnv, development};

const CREDENTIALS: &str = "shop-database-credentials";

async fn secret(env: &TestEnv, namespace: &str) -> Option<DynamicObject> {
    env.objects("Secret", namespace).get_opt(CREDENTIALS).await.expect("an answer")
}

fn password(secret: &DynamicObject) -> Value {
    secret.data["data"]["password"].clone()
}

/// What a user puts back from a copy.
async fn put_back(env: &TestEnv, namespace: &str, copy: &DynamicObject) {
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS, "labels": copy.labels(), "annotations": copy.annotations()}, "data": copy.data["data"]});
    let body: DynamicObject = serde_json::from_value(body).expect("a secret");
    env.objects("Secret", namespace).create(&PostParams::default(), &body).await.expect("it is put back");
}

pub async fn lost_credentials_are_never_made_again(env: &TestEnv) {
    let namespace = "lost";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    let copy = secret(env, namespace).await.expect("credentials");
    env.delete("Secret", namespace, CREDENTIALS).await;
    let message = env.until_reason(namespace, "DatabaseReady", "CredentialsLost").await;
    assert!(
        message.contains("persistentvolumeclaim/shop-database") && message.contains("put the Secret back"),
        "{message}"
    );
    assert_eq!(env.condition(namespace, "Stalled").await.0, "True");
    env.settled(namespace).await;
    assert!(secret(env, namespace).await.is_none(), "credentials were made up for a volume that holds data");
    put_back(env, namespace, &copy).await;
    env.until_reason(namespace, "DatabaseReady", "Progressing").await;
    assert_eq!(password(&secret(env, namespace).await.expect("credentials")), password(&copy));

    // As by hand, out of the connection Secret: its one annotation says whose it is, and no label.
    env.delete("Secret", namespace, CREDENTIALS).await;
    env.until_reason(namespace, "DatabaseReady", "CredentialsLost").await;
    env.settled(namespace).await;
    let mut bare = copy.clone();
    bare.metadata.labels = None;
    bare.annotations_mut().retain(|key, _| key == "rorun.app/stack-uid");
    assert_eq!(bare.annotations().len(), 1);
    put_back(env, namespace, &bare).await;
    env.until_reason(namespace, "DatabaseReady", "Progressing").await;
    env.settled(namespace).await;
    assert_eq!(secret(env, namespace).await.expect("credentials").labels(), copy.labels());
}

pub async fn a_volume_of_somebody_else_keeps_credentials_from_being_made(env: &TestEnv) {
    let namespace = "unlabelled";
    env.namespace(namespace).await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shop-database"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let claim: DynamicObject = serde_json::from_value(claim).expect("a claim");
    env.objects("PersistentVolumeClaim", namespace).create(&PostParams::default(), &claim).await.expect("it is made");
    env.submit(namespace, development()).await;
    let message = env.until_reason(namespace, "DatabaseReady", "NameTaken").await;
    assert!(message.contains("persistentvolumeclaim/shop-database") && message.contains("left alone"), "{message}");
    assert!(secret(env, namespace).await.is_none());
    // Its owner takes it away: no watch shows it, and it is noticed all the same. What protects claims in use does not run.
    let claims = env.objects("PersistentVolumeClaim", namespace);
    let unprotected = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    claims.patch("shop-database", &PatchParams::default(), &unprotected).await.expect("it is unprotected");
    env.delete("PersistentVolumeClaim", namespace, "shop-database").await;
    env.until_reason(namespace, "DatabaseReady", "Progressing").await;
    assert!(secret(env, namespace).await.is_some(), "no credentials were made for a volume of the stack's own");
}

pub async fn a_stack_made_again_adopts_its_data(env: &TestEnv) {
    let namespace = "adopt";
    env.namespace(namespace).await;
    env.apply(namespace, development()).await;
    let before = secret(env, namespace).await.expect("credentials");
    let claims = env.objects("PersistentVolumeClaim", namespace);
    let claim = claims.get("shop-database").await.expect("the claim");
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
    // No garbage collector runs here: what the stack owned is collected by hand.
    for child in env.children(namespace).await.iter().filter(|child| !child.owner_references().is_empty()) {
        let kind = child.types.as_ref().expect("types").kind.clone();
        env.delete(&kind, namespace, &child.name_any()).await;
    }
    env.apply(namespace, development()).await;
    let after = secret(env, namespace).await.expect("credentials");
    let uid = env.stacks(namespace).get("shop").await.expect("the stack").uid();
    assert_eq!(password(&after), password(&before));
    assert_eq!(claims.get("shop-database").await.expect("the claim").uid(), claim.uid());
    assert_eq!(after.annotations().get("rorun.app/stack-uid").cloned(), uid, "it says whose it is now");
}

pub async fn data_go_only_when_the_spec_says_so(env: &TestEnv) {
    let namespace = "delete";
    env.namespace(namespace).await;
    let mut spec = development();
    spec["deletionPolicy"] = json!("Delete");
    env.apply(namespace, spec).await;
    // A volume of another stack that lives beside it, and one whose label was forged.
    let forged = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "other", "labels": {
        "app.kubernetes.io/managed-by": "rorun-operator", "app.kubernetes.io/instance": "shop", "rorun.app/retained": "true"},
        "annotations": {"rorun.app/stack-uid": "another"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let forged: DynamicObject = serde_json::from_value(forged).expect("a claim");
    env.objects("PersistentVolumeClaim", namespace).create(&PostParams::default(), &forged).await.expect("it is made");
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
    assert!(secret(env, namespace).await.is_none(), "the credentials are left");
    let claims = env.objects("PersistentVolumeClaim", namespace);
    // The finalizer that protects a claim in use is taken off by a controller that does not run here.
    let deleting = claims.get_opt("shop-database").await.expect("an answer");
    assert!(deleting.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()), "the volume is left");
    // The dumps are in the bucket, and the spec says nothing of them.
    assert!(
        claims.get("shop-bucket").await.expect("it is there").metadata.deletion_timestamp.is_none(),
        "the volume with the backups was deleted"
    );
    let keys = env.objects("Secret", namespace).get_opt("shop-bucket-credentials").await.expect("an answer");
    assert!(keys.is_some(), "the keys to the backups are gone");
    assert!(
        claims.get("other").await.expect("it is there").metadata.deletion_timestamp.is_none(),
        "another's volume was deleted"
    );
}

/// What is left of a status is put there as a user with the right could: the operator reads it like its own.
async fn told_of_a_dump_in(env: &TestEnv, namespace: &str, bucket: &str) {
    let location = format!("s3://{bucket}/backups/{namespace}/shop/20260101T000000Z-bbbbb/manifest.json");
    let last =
        json!({"id": "20260101T000000Z-bbbbb", "at": "2026-01-01T00:00:00Z", "sizeBytes": 7, "location": location});
    let status = Patch::Merge(json!({"status": {"backup": {"lastSuccessful": last}}}));
    env.stacks(namespace).patch_status("shop", &PatchParams::default(), &status).await.expect("it is told");
}

fn deleted_with_dumps_elsewhere() -> Value {
    let mut spec = development();
    spec["deletionPolicy"] = json!("Delete");
    let elsewhere =
        json!({"name": "dumps", "endpoint": "http://127.0.0.1:1", "credentialsSecretRef": {"name": "dump-keys"}});
    spec["backup"] = json!({"destination": {"external": elsewhere}});
    spec
}

async fn is_kept(env: &TestEnv, namespace: &str, volume: &str) -> bool {
    let claim = env.objects("PersistentVolumeClaim", namespace).get_opt(volume).await.expect("an answer");
    claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_none())
}

pub async fn a_bucket_that_had_backups_stays_whatever_was_added_later(env: &TestEnv) {
    let namespace = "dumped";
    env.namespace(namespace).await;
    let mut spec = development();
    spec["deletionPolicy"] = json!("Delete");
    env.apply(namespace, spec).await;
    told_of_a_dump_in(env, namespace, "shop-bucket").await;
    env.settled(namespace).await;
    env.apply(namespace, deleted_with_dumps_elsewhere()).await;
    // The newest dump is elsewhere: nothing tells of the old ones but what was remembered.
    told_of_a_dump_in(env, namespace, "dumps").await;
    env.settled(namespace).await;
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
    assert!(is_kept(env, namespace, "shop-bucket").await, "the volume with the backups was deleted");
    let keys = env.objects("Secret", namespace).get_opt("shop-bucket-credentials").await.expect("an answer");
    assert!(keys.is_some(), "the keys to the backups are gone");
    assert!(!is_kept(env, namespace, "shop-database").await, "the volume of the database is left");
}

pub async fn nothing_is_deleted_while_nobody_knows_whether_there_are_backups(env: &TestEnv) {
    let namespace = "doubt";
    env.namespace(namespace).await;
    env.apply(namespace, deleted_with_dumps_elsewhere()).await;
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    // No pod runs here, so the bucket cannot be asked.
    let message = env.until_reason(namespace, "Stalled", "BackupsUnknown").await;
    assert!(message.contains("persistentvolumeclaim/shop-bucket") && message.contains("Retain"), "{message}");
    for volume in ["shop-bucket", "shop-database", "shop-redis"] {
        assert!(is_kept(env, namespace, volume).await, "{volume} was deleted");
    }
    let retain = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &retain).await.expect("it is changed");
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
    assert!(is_kept(env, namespace, "shop-bucket").await && is_kept(env, namespace, "shop-database").await);
}

pub async fn production_needs_a_confirmation(env: &TestEnv) {
    let namespace = "confirm";
    env.namespace(namespace).await;
    let bucket = json!({"external": {"name": "files", "endpoint": "http://127.0.0.1:1", "credentialsSecretRef": {"name": "s3"}}});
    let spec = json!({
        "environment": "Production", "deletionPolicy": "Delete",
        "api": {"image": "rorun-api:1"}, "backup": {},
        "database": {"external": {"secretRef": {"name": "db"}}},
        "redis": {"external": {"secretRef": {"name": "redis"}}},
        "bucket": bucket,
    });
    env.apply(namespace, spec).await;
    env.stacks(namespace).delete("shop", &DeleteParams::background()).await.expect("it is asked for");
    let message = env.until_reason(namespace, "Stalled", "ConfirmationRequired").await;
    assert!(message.contains("rorun.app/confirm-delete=shop"), "{message}");
    let confirm = Patch::Merge(json!({"metadata": {"annotations": {"rorun.app/confirm-delete": "shop"}}}));
    env.stacks(namespace).patch("shop", &PatchParams::default(), &confirm).await.expect("it is confirmed");
    env.until("the stack is gone", async || env.stacks(namespace).get_opt("shop").await.expect("an answer").is_none())
        .await;
}
