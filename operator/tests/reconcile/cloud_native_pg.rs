//! The database by CloudNativePG, whose part the test plays: against its published definitions, without its webhooks.

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use rorun_e2e::engine::schemas::{CLUSTERS, POOLERS, Schema};
use serde_json::{Value, json};

use super::{
    drift,
    env::{TestEnv, development},
};

pub const NAME: &str = "shop-database";
const POOLER: &str = "shop-database-pooler";
const SWITCHED_ON: [&str; 4] = ["--optional-api", "cloudNativePG", "--discovery-period", "1s"];
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----";

/// Of a stack whose pods are none, so that what CloudNativePG says is all that counts.
pub fn spec(block: &Value) -> Value {
    let mut spec = development();
    for part in ["ocr", "admin", "ingress", "backup"] {
        spec.as_object_mut().expect("a map").remove(part);
    }
    spec["api"]["replicas"] = json!(0);
    spec["redis"] = json!({"external": {"secretRef": {"name": "outside"}}});
    let bucket =
        json!({"name": "outside", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "outside"}});
    spec["bucket"] = json!({"external": bucket});
    // A block without a field goes with its last one, where it is applied by the server.
    spec["database"] = json!({"cloudNativePG": {"instances": 2}});
    for (field, value) in block.as_object().expect("a block") {
        spec["database"]["cloudNativePG"][field] = value.clone();
    }
    spec
}

/// The keys of the services that the operator does not ask while no pod uses them.
pub async fn outside(env: &TestEnv, namespace: &str) {
    let keys = json!({"REDIS_URL": "rediss://:p@redis.example.com:6379", "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "s"});
    secret(env, namespace, "outside", keys).await;
}

async fn definitions() -> String {
    let read = |schema: Schema| tokio::task::spawn_blocking(move || schema.read());
    let (clusters, poolers) = (read(CLUSTERS).await.expect("a thread"), read(POOLERS).await.expect("a thread"));
    format!("{}\n---\n{}", clusters.expect("a definition"), poolers.expect("a definition"))
}

pub async fn cluster(env: &TestEnv, namespace: &str) -> Option<DynamicObject> {
    env.objects("Cluster", namespace).get_opt(NAME).await.expect("an answer")
}

pub async fn says(env: &TestEnv, namespace: &str, kind: &str, name: &str, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    env.objects(kind, namespace).patch_status(name, &PatchParams::default(), &patch).await.expect("a status");
}

/// CloudNativePG says this of the Cluster.
pub async fn phase(env: &TestEnv, namespace: &str, phase: &str) {
    let ready = if phase == "Cluster in healthy state" { "True" } else { "False" };
    let condition = json!({"type": "Ready", "status": ready, "reason": "Said", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"phase": phase, "phaseReason": "as it is", "conditions": [condition],
        "pgDataImageInfo": {"image": "x", "majorVersion": 17}});
    says(env, namespace, "Cluster", NAME, status).await;
}

async fn secret(env: &TestEnv, namespace: &str, name: &str, values: Value) {
    let body = json!({"metadata": {"name": name}, "stringData": values});
    let body: DynamicObject = serde_json::from_value(body).expect("a Secret");
    env.objects("Secret", namespace).create(&PostParams::default(), &body).await.expect("it is made");
}

/// What CloudNativePG makes for a Cluster, with the URL of an old password.
pub async fn secrets(env: &TestEnv, namespace: &str) {
    let login = json!({"username": "rorun", "password": "p@ss/1", "uri": "postgresql://rorun:old@elsewhere/rorun"});
    secret(env, namespace, "shop-database-app", login).await;
    secret(env, namespace, "shop-database-ca", json!({"ca.crt": CERTIFICATE, "ca.key": "a key"})).await;
}

async fn connection(env: &TestEnv, namespace: &str, key: &str) -> String {
    let found = env.objects("Secret", namespace).get_opt("shop-connection").await.expect("an answer");
    let data = found.and_then(|secret| secret.data["data"][key].as_str().map(str::to_owned)).unwrap_or_default();
    let bytes: k8s_openapi::ByteString = serde_json::from_value(json!(data)).expect("base64");
    String::from_utf8(bytes.0).expect("text")
}

pub async fn cloud_native_pg(env: &TestEnv) {
    let definitions = definitions().await;
    env.apply_yaml(&definitions).await;
    env.until("its kinds are served", async || {
        let list = kube::api::ListParams::default();
        env.objects("Cluster", "default").list(&list).await.is_ok()
            && env.objects("Pooler", "default").list(&list).await.is_ok()
    })
    .await;
    let operator = env.operator_with(&SWITCHED_ON).await;
    let namespace = "cnpg";
    env.namespace(namespace).await;
    outside(env, namespace).await;
    it_is_ready_when_cloud_native_pg_says_so(env, namespace).await;
    what_cloud_native_pg_cannot_do_is_held(env, namespace).await;
    a_pooler_goes_when_no_pod_is_replaced(env, namespace).await;
    it_sleeps_with_the_stack(env, namespace).await;
    let before = env.objects("Cluster", namespace).get(NAME).await.expect("the Cluster");
    it_outlives_the_stack(env, namespace, &before).await;
    a_foreign_cluster_is_left_alone(env).await;
    it_goes_only_when_the_spec_says_so(env, namespace).await;
    assert!(!operator.said("panicked") && !operator.said("p@ss/1"));
    drop(operator);
}

async fn it_is_ready_when_cloud_native_pg_says_so(env: &TestEnv, namespace: &str) {
    env.apply(namespace, spec(&json!({}))).await;
    let made = cluster(env, namespace).await.expect("a Cluster");
    assert!(made.owner_references().is_empty() && made.labels()["rorun.app/retained"] == "true");
    assert!(made.annotations()["argocd.argoproj.io/sync-options"].contains("Prune=false"));
    let said = &made.data["spec"]["bootstrap"]["initdb"]["postInitSQL"];
    assert_eq!(*said, json!(["ALTER ROLE \"rorun\" CREATEDB"]), "by its published definition too");
    let message = env.until_reason(namespace, "DatabaseReady", "Progressing").await;
    assert!(message.contains("cluster/shop-database: CloudNativePG has not looked at it yet"), "{message}");
    let message = env.until_reason(namespace, "ConnectionReady", "Progressing").await;
    assert!(message.contains("secret/shop-database-app does not exist yet"), "{message}");
    phase(env, namespace, "Setting up primary").await;
    env.until("the phase is told", async || {
        env.condition(namespace, "DatabaseReady").await.2.contains("Setting up primary: as it is")
    })
    .await;
    secrets(env, namespace).await;
    phase(env, namespace, "Cluster in healthy state").await;
    env.until_reason(namespace, "DatabaseReady", "Ready").await;
    env.until("the application finds it", async || !connection(env, namespace, "DATABASE_URL").await.is_empty()).await;
    let url = |service: &str| {
        format!("postgresql://rorun:p%40ss%2F1@shop-database-{service}.{namespace}.svc:5432/rorun?sslmode=verify-full")
    };
    for (key, service) in [("DATABASE_URL", "rw"), ("DIRECT_URL", "rw"), ("DATABASE_READ_URL", "ro")] {
        assert_eq!(connection(env, namespace, key).await, url(service));
    }
    let authorities = env.objects("ConfigMap", namespace).get("shop-connection-ca").await.expect("authorities");
    assert_eq!(authorities.data["data"]["ca.crt"].as_str().map(str::trim), Some(CERTIFICATE));

    env.settled(namespace).await;
    let mark = env.mark();
    phase(env, namespace, "Failing over").await;
    env.until("the failover is told", async || {
        env.condition(namespace, "DatabaseReady").await.2.contains("Failing over")
    })
    .await;
    phase(env, namespace, "Cluster is unrecoverable and needs manual intervention").await;
    env.until_reason(namespace, "DatabaseReady", "DatabaseStalled").await;
    assert_eq!(env.condition(namespace, "Stalled").await.0, "True");
    phase(env, namespace, "Cluster in healthy state").await;
    env.until_reason(namespace, "DatabaseReady", "Ready").await;
    assert_eq!(env.condition(namespace, "Stalled").await.0, "");
    assert_eq!(env.writes(namespace, mark), Vec::<String>::new(), "what CloudNativePG says is nothing to write for");
    drift::repaired(env, (namespace, "Cluster", NAME), "altered", json!({"spec": {"instances": 9}})).await;
}

async fn what_cloud_native_pg_cannot_do_is_held(env: &TestEnv, namespace: &str) {
    let text = |cluster: &DynamicObject, path: &str| cluster.data.pointer(path).cloned().unwrap_or_default();
    let before = cluster(env, namespace).await.expect("a Cluster");
    env.apply(namespace, spec(&json!({"version": "18"}))).await;
    let message = env.until_reason(namespace, "DatabaseReady", "VersionMismatch").await;
    assert!(message.contains("cluster/shop-database holds files of PostgreSQL 17"), "{message}");
    let now = cluster(env, namespace).await.expect("a Cluster");
    assert_eq!(text(&now, "/spec/imageName"), text(&before, "/spec/imageName"));

    env.apply(namespace, spec(&json!({"storage": {"size": "5Gi"}}))).await;
    env.until("it is told that a volume cannot shrink", async || {
        let (status, _, message) = env.condition(namespace, "DatabaseReady").await;
        status == "True"
            && message.contains("spec.database.cloudNativePG.storage.size is 5Gi")
            && message.contains("10Gi")
    })
    .await;
    assert_eq!(text(&cluster(env, namespace).await.expect("a Cluster"), "/spec/storage/size"), "10Gi");
    env.apply(namespace, spec(&json!({"storage": {"size": "20Gi"}}))).await;
    assert_eq!(text(&cluster(env, namespace).await.expect("a Cluster"), "/spec/storage/size"), "20Gi");
    env.apply(namespace, spec(&json!({}))).await;
    assert_eq!(text(&cluster(env, namespace).await.expect("a Cluster"), "/spec/storage/size"), "20Gi", "nor back");
}

/// The Deployment has no pods, as its controller would write it.
async fn rolled_out(env: &TestEnv, namespace: &str) {
    let deployment = env.objects("Deployment", namespace).get("shop-api").await.expect("the Deployment");
    let status = json!({"observedGeneration": deployment.metadata.generation, "replicas": 0});
    says(env, namespace, "Deployment", "shop-api", status).await;
}

async fn a_pooler_goes_when_no_pod_is_replaced(env: &TestEnv, namespace: &str) {
    rolled_out(env, namespace).await;
    env.apply(namespace, spec(&json!({"pooler": {"mode": "Transaction", "parameters": {"default_pool_size": "9"}}})))
        .await;
    let pooler = env.objects("Pooler", namespace).get(POOLER).await.expect("a Pooler");
    assert_eq!(pooler.data["spec"]["pgbouncer"]["poolMode"], "transaction");
    assert_eq!(pooler.data["spec"]["cluster"]["name"], NAME);
    assert!(pooler.owner_references()[0].kind == "RorunStack");
    assert!(connection(env, namespace, "DATABASE_URL").await.contains("@shop-database-pooler."));
    assert!(connection(env, namespace, "DIRECT_URL").await.contains("@shop-database-rw."));
    env.until_reason(namespace, "DatabaseReady", "Progressing").await;
    says(env, namespace, "Pooler", POOLER, json!({"phase": "active", "instances": 2})).await;
    env.until_reason(namespace, "DatabaseReady", "Ready").await;
    rolled_out(env, namespace).await;
    env.settled(namespace).await;

    env.apply(namespace, spec(&json!({}))).await;
    assert!(connection(env, namespace, "DATABASE_URL").await.contains("@shop-database-rw."));
    assert!(env.objects("Pooler", namespace).get_opt(POOLER).await.expect("an answer").is_some(), "pods use it");
    rolled_out(env, namespace).await;
    env.until("the pooler is gone", async || {
        env.objects("Pooler", namespace).get_opt(POOLER).await.expect("an answer").is_none()
    })
    .await;
}

async fn it_sleeps_with_the_stack(env: &TestEnv, namespace: &str) {
    let annotation = async || {
        let cluster = cluster(env, namespace).await.expect("a Cluster");
        cluster.annotations().get("cnpg.io/hibernation").cloned()
    };
    let mut asleep = spec(&json!({}));
    asleep["hibernate"] = json!(true);
    env.apply(namespace, asleep).await;
    env.until("CloudNativePG is told to stop it", async || annotation().await.as_deref() == Some("on")).await;
    env.until_reason(namespace, "DatabaseReady", "Progressing").await;
    let conditions = json!([
        {"type": "Ready", "status": "True", "reason": "Said", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "cnpg.io/hibernation", "status": "True", "reason": "Hibernated", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]);
    says(env, namespace, "Cluster", NAME, json!({"conditions": conditions})).await;
    env.until("it is as the spec asks for", async || env.condition(namespace, "DatabaseReady").await.0 == "True").await;
    env.apply(namespace, spec(&json!({}))).await;
    env.until("CloudNativePG is told to start it", async || annotation().await.is_none()).await;
    env.until_reason(namespace, "DatabaseReady", "Progressing").await;
    phase(env, namespace, "Cluster in healthy state").await;
    env.until_reason(namespace, "DatabaseReady", "Ready").await;
}

async fn it_outlives_the_stack(env: &TestEnv, namespace: &str, before: &DynamicObject) {
    let stacks = env.stacks(namespace);
    stacks.delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || stacks.get_opt("shop").await.expect("an answer").is_none()).await;
    // No garbage collector runs here: what the stack owned is collected by hand.
    for child in env.children(namespace).await.iter().filter(|child| !child.owner_references().is_empty()) {
        let kind = child.types.as_ref().expect("types").kind.clone();
        env.delete(&kind, namespace, &child.name_any()).await;
    }
    assert_eq!(cluster(env, namespace).await.and_then(|cluster| cluster.uid()), before.uid());
    env.apply(namespace, spec(&json!({}))).await;
    env.until_reason(namespace, "DatabaseReady", "Ready").await;
    let now = cluster(env, namespace).await.expect("the Cluster");
    let stack = stacks.get("shop").await.expect("the stack");
    assert_eq!(now.uid(), before.uid());
    assert_eq!(now.annotations().get("rorun.app/stack-uid"), stack.uid().as_ref(), "it says whose it is now");
    assert!(connection(env, namespace, "DATABASE_URL").await.contains("p%40ss%2F1@"));
}

async fn a_foreign_cluster_is_left_alone(env: &TestEnv) {
    let namespace = "cnpg-foreign";
    env.namespace(namespace).await;
    outside(env, namespace).await;
    let foreign = json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": NAME},
        "spec": {"instances": 1, "storage": {"size": "1Gi"}}});
    let foreign: DynamicObject = serde_json::from_value(foreign).expect("a Cluster");
    let made = env.objects("Cluster", namespace).create(&PostParams::default(), &foreign).await.expect("it is made");
    env.submit(namespace, spec(&json!({}))).await;
    let message = env.until_reason(namespace, "DatabaseReady", "NameTaken").await;
    assert!(
        message.contains("cluster.postgresql.cnpg.io/shop-database") && message.contains("left alone"),
        "{message}"
    );
    let mut delete = spec(&json!({}));
    delete["deletionPolicy"] = json!("Delete");
    env.submit(namespace, delete).await;
    env.until("the finalizer is there", async || {
        !env.stacks(namespace).get("shop").await.expect("the stack").finalizers().is_empty()
    })
    .await;
    let stacks = env.stacks(namespace);
    stacks.delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || stacks.get_opt("shop").await.expect("an answer").is_none()).await;
    let now = cluster(env, namespace).await.expect("it is there");
    assert_eq!(now.resource_version(), made.resource_version());
}

async fn it_goes_only_when_the_spec_says_so(env: &TestEnv, namespace: &str) {
    let mut delete = spec(&json!({}));
    delete["deletionPolicy"] = json!("Delete");
    env.apply(namespace, delete).await;
    let (stacks, mark) = (env.stacks(namespace), env.mark());
    env.until("the finalizer is there", async || !stacks.get("shop").await.expect("the stack").finalizers().is_empty())
        .await;
    stacks.delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || stacks.get_opt("shop").await.expect("an answer").is_none()).await;
    assert!(cluster(env, namespace).await.is_none());
    let deleted = env.writes(namespace, mark);
    assert!(deleted.contains(&format!("delete clusters/{NAME}")), "{deleted:?}");
}
