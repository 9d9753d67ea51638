//! Recovery to any moment: the log of a Cluster of CloudNativePG goes to an ObjectStore of the barman-cloud plugin. The test plays the
//! part of both projects, against their published definitions.

use std::time::Duration;

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams},
};
use rorun_e2e::engine::schemas::{CLUSTERS, OBJECT_STORES, POOLERS, SCHEDULED_BACKUPS, Schema};
use serde_json::{Value, json};

use super::{
    cloud_native_pg::{NAME, cluster, outside, phase, says, secrets, spec},
    env::TestEnv,
};

const STORE: &str = "shop-backup";
const ARCHIVE_KEYS: &str = "shop-backup-archive";
pub const SWITCHED_ON: [&str; 4] = ["--optional-api", "cloudNativePG,barmanCloud", "--discovery-period", "1s"];
const NAMESPACE: &str = "archive";
/// The operator believes an archive no sooner: CloudNativePG takes so long to notice a changed Cluster.
pub const NOTICED: Duration = Duration::from_secs(30);

pub fn archived(days: i32) -> Value {
    let mut spec = spec(&json!({}));
    spec["backup"] = json!({"schedule": "0 0 1 1 *", "pointInTime": {"days": days}, "objectives": {"rpo": "10m"}});
    spec
}

async fn definition(schema: Schema) -> String {
    tokio::task::spawn_blocking(move || schema.read()).await.expect("a thread").expect("a definition")
}

async fn served(env: &TestEnv, kind: &str) {
    env.until(&format!("{kind} is served"), async || {
        env.objects(kind, "default").list(&ListParams::default()).await.is_ok()
    })
    .await;
}

async fn found(env: &TestEnv, kind: &str, name: &str) -> Option<DynamicObject> {
    env.objects(kind, NAMESPACE).get_opt(name).await.expect("an answer")
}

/// The folder that the Cluster archives to, by its spec.
async fn server_name(env: &TestEnv) -> Option<String> {
    let cluster = cluster(env, NAMESPACE).await?;
    let plugins = cluster.data["spec"]["plugins"].as_array()?;
    assert_eq!(plugins.len(), 1, "{plugins:?}");
    assert_eq!(plugins[0]["name"], "barman-cloud.cloudnative-pg.io");
    assert_eq!((&plugins[0]["isWALArchiver"], &plugins[0]["enabled"]), (&json!(true), &json!(true)));
    assert_eq!(plugins[0]["parameters"]["barmanObjectName"], STORE);
    plugins[0]["parameters"]["serverName"].as_str().map(str::to_owned)
}

/// The base backups, which are those of one archive.
async fn base_backups(env: &TestEnv) -> Option<DynamicObject> {
    let list = env.objects("ScheduledBackup", NAMESPACE).list(&ListParams::default()).await.expect("a list");
    list.items.into_iter().next()
}

/// What CloudNativePG says of a healthy Cluster whose log is archived, or is not.
pub async fn archiving(env: &TestEnv, namespace: &str, name: &str, is: bool) {
    let at = "2026-11-29T10:00:00Z";
    let (status, why) = if is { ("True", "") } else { ("False", "barman-cloud-wal-archive: exit status 4") };
    let conditions = json!([
        {"type": "Ready", "status": "True", "reason": "Said", "message": "", "lastTransitionTime": at},
        {"type": "ContinuousArchiving", "status": status, "reason": "Said", "message": why, "lastTransitionTime": at},
    ]);
    let status =
        json!({"phase": "Cluster in healthy state", "conditions": conditions, "currentPrimary": format!("{name}-1")});
    says(env, namespace, "Cluster", name, status).await;
}

pub async fn base_backup(env: &TestEnv, namespace: &str, server: &str) {
    let window =
        json!({"firstRecoverabilityPoint": "2026-11-29T10:05:00Z", "lastSuccessfulBackupTime": "2026-11-29T10:05:00Z"});
    says(env, namespace, "ObjectStore", STORE, json!({"serverRecoveryWindow": {server: window}})).await;
}

/// Every kind that an archive needs.
pub async fn definitions(env: &TestEnv) {
    for schema in [CLUSTERS, POOLERS, SCHEDULED_BACKUPS, OBJECT_STORES] {
        env.apply_yaml(&definition(schema).await).await;
    }
    for kind in ["Cluster", "Pooler", "ScheduledBackup", "ObjectStore"] {
        served(env, kind).await;
    }
}

pub async fn the_log_is_archived_by_the_plugin(env: &TestEnv) {
    for schema in [CLUSTERS, POOLERS, SCHEDULED_BACKUPS] {
        env.apply_yaml(&definition(schema).await).await;
    }
    for kind in ["Cluster", "Pooler", "ScheduledBackup"] {
        served(env, kind).await;
    }
    let operator = env.operator_with(&SWITCHED_ON).await;
    env.namespace(NAMESPACE).await;
    outside(env, NAMESPACE).await;
    without_the_plugin_the_database_serves(env).await;
    let server = each_cluster_has_an_archive_of_its_own(env).await;
    what_cannot_be_recovered_is_told(env, &server).await;
    another_cluster_gets_another_archive(env, &server).await;
    what_is_archived_stays(env).await;
    assert!(!operator.said("panicked"));
    drop(operator);
}

/// A plugin that is not there would stop the Cluster.
async fn without_the_plugin_the_database_serves(env: &TestEnv) {
    env.submit(NAMESPACE, archived(14)).await;
    let message = env.until_reason(NAMESPACE, "BackupHealthy", "MissingAPI").await;
    assert!(
        message.contains("objectstores.barmancloud.cnpg.io") && message.contains("barman-cloud plugin"),
        "{message}"
    );
    env.until("the Cluster is there", async || cluster(env, NAMESPACE).await.is_some()).await;
    secrets(env, NAMESPACE).await;
    phase(env, NAMESPACE, "Cluster in healthy state").await;
    env.until_reason(NAMESPACE, "DatabaseReady", "Ready").await;
    env.settled(NAMESPACE).await;
    assert_eq!(server_name(env).await, None);
    env.apply_yaml(&definition(OBJECT_STORES).await).await;
    served(env, "ObjectStore").await;
}

async fn each_cluster_has_an_archive_of_its_own(env: &TestEnv) -> String {
    env.until("the Cluster archives", async || server_name(env).await.is_some()).await;
    env.settled(NAMESPACE).await;
    let server = server_name(env).await.expect("an archive");
    assert!(server.starts_with("shop-database-"), "{server}");

    let store = found(env, "ObjectStore", STORE).await.expect("a store");
    assert!(store.owner_references().is_empty() && store.labels()["rorun.app/retained"] == "true");
    let configuration = &store.data["spec"]["configuration"];
    assert_eq!(store.data["spec"]["retentionPolicy"], "14d");
    assert_eq!(configuration["destinationPath"], format!("s3://outside/backups/_point-in-time/{NAMESPACE}/shop"));
    assert_eq!(configuration["endpointURL"], "https://s3.example.com");
    assert!(configuration["serverName"].is_null(), "the plugin refuses it here");
    let key = &configuration["s3Credentials"]["secretAccessKey"];
    assert_eq!((&key["name"], &key["key"]), (&json!(ARCHIVE_KEYS), &json!("AWS_SECRET_ACCESS_KEY")));
    let keys = found(env, "Secret", ARCHIVE_KEYS).await.expect("keys");
    assert!(keys.owner_references().is_empty() && keys.data["data"]["AWS_ACCESS_KEY_ID"].is_string());

    server
}

async fn what_cannot_be_recovered_is_told(env: &TestEnv, server: &str) {
    let message = env.until_reason(NAMESPACE, "BackupHealthy", "Progressing").await;
    assert!(message.contains("has not archived any of its log yet"), "{message}");
    archiving(env, NAMESPACE, NAME, false).await;
    let message = env.until_reason(NAMESPACE, "BackupHealthy", "ArchivingFailed").await;
    for words in
        ["since 2026-11-29T10:00:00Z", "exit status 4", "kubectl logs shop-database-1 --container=plugin-barman-cloud"]
    {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(env.condition(NAMESPACE, "DatabaseReady").await.0, "True", "it serves");
    archiving(env, NAMESPACE, NAME, true).await;
    let message = env.until_reason(NAMESPACE, "BackupHealthy", "NoBackupYet").await;
    assert!(message.contains("the first base backup of cluster.postgresql.cnpg.io/shop-database"), "{message}");
    env.until_after(NOTICED, "base backups are made", async || base_backups(env).await.is_some()).await;
    let base = base_backups(env).await.expect("base backups");
    assert_eq!(base.owner_references()[0].kind, "RorunStack");
    assert_eq!((&base.data["spec"]["method"], &base.data["spec"]["cluster"]["name"]), (&json!("plugin"), &json!(NAME)));
    let schedule = base.data["spec"]["schedule"].as_str().expect("a schedule");
    assert_eq!(schedule.split(' ').count(), 6, "{schedule}");
    base_backup(env, NAMESPACE, server).await;
    // What is left is the dump, which no pod makes here.
    env.until("the archive is told", async || {
        let stack = env.stacks(NAMESPACE).get("shop").await.expect("the stack");
        let backup = serde_json::to_value(stack.status.expect("a status").backup).expect("JSON");
        let told = &backup["pointInTime"];
        told["serverName"] == server
            && told["archives"][0]["serverName"] == server
            && told["archives"][0]["restorableFrom"] == "2026-11-29T10:05:00Z"
    })
    .await;
    let message = env.until_reason(NAMESPACE, "BackupHealthy", "NoBackupYet").await;
    assert!(message.contains("no backup has run yet"), "{message}");
    env.settled(NAMESPACE).await;
    let mark = env.mark();
    archiving(env, NAMESPACE, NAME, false).await;
    env.until_reason(NAMESPACE, "BackupHealthy", "ArchivingFailed").await;
    archiving(env, NAMESPACE, NAME, true).await;
    env.until_reason(NAMESPACE, "BackupHealthy", "NoBackupYet").await;
    assert_eq!(env.writes(NAMESPACE, mark), Vec::<String>::new(), "what is said is nothing to write for");
}

/// One of the same name, whose log is another one.
async fn another_cluster_gets_another_archive(env: &TestEnv, before: &str) {
    let base = base_backups(env).await.map(|base| base.name_any());
    env.delete("Cluster", NAMESPACE, NAME).await;
    env.until("it archives elsewhere", async || server_name(env).await.is_some_and(|server| server != before)).await;
    phase(env, NAMESPACE, "Cluster in healthy state").await;
    env.settled(NAMESPACE).await;
    // A ScheduledBackup makes one at once only when it is made itself.
    let message = env.until_reason(NAMESPACE, "BackupHealthy", "Progressing").await;
    assert!(message.contains("has not archived any of its log yet"), "{message}");
    assert!(base_backups(env).await.is_none(), "it would fail");
    archiving(env, NAMESPACE, NAME, true).await;
    let other = async || base_backups(env).await.is_some_and(|other| Some(other.name_any()) != base);
    env.until_after(NOTICED, "base backups of it are made", other).await;
}

async fn what_is_archived_stays(env: &TestEnv) {
    let store = found(env, "ObjectStore", STORE).await.expect("a store").uid();
    let mut without = archived(14);
    without["backup"].as_object_mut().expect("a block").remove("pointInTime");
    env.apply(NAMESPACE, without).await;
    env.until("nothing is archived any more", async || server_name(env).await.is_none()).await;
    env.until("no base backup is made", async || base_backups(env).await.is_none()).await;
    assert_eq!(found(env, "ObjectStore", STORE).await.and_then(|store| store.uid()), store);

    env.apply(NAMESPACE, archived(30)).await;
    let server = server_name(env).await;
    assert!(server.is_some());
    let stacks = env.stacks(NAMESPACE);
    stacks.delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    env.until("the stack is gone", async || stacks.get_opt("shop").await.expect("an answer").is_none()).await;
    let kept = found(env, "ObjectStore", STORE).await.expect("it is there");
    assert_eq!((kept.uid(), &kept.data["spec"]["retentionPolicy"]), (store, &json!("30d")));
    assert!(found(env, "Secret", ARCHIVE_KEYS).await.is_some(), "the Cluster goes on archiving by these");
    assert_eq!(server_name(env).await, server);
}
