//! The part of a Cluster and of a Pooler of CloudNativePG that the operator writes, and when each is ready
//! (source: <https://cloudnative-pg.io/documentation/1.30/cloudnative-pg.v1/>, `postgresql.cnpg.io/v1`).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LocalObjectReference, ResourceRequirements},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Plugin, Readiness, at};
use crate::names::reason;

/// What makes CloudNativePG stop all instances of a Cluster, and keep their volumes, while it is `on`.
pub const HIBERNATION: &str = "cnpg.io/hibernation";
/// The label of all that belongs to a Cluster.
pub const CLUSTER_LABEL: &str = "cnpg.io/cluster";

/// PostgreSQL, with a volume for each instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The spec.
    pub spec: ClusterSpec,
}

/// What a Cluster consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// How many instances: one primary, and replicas of it.
    pub instances: i32,
    /// The image. Its tag begins with the major version.
    pub image_name: String,
    /// Names of Secrets to pull the image with.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The user of the server. `None`: that of CloudNativePG's own images.
    #[serde(rename = "postgresUID")]
    pub postgres_uid: Option<i64>,
    /// The group of the server.
    #[serde(rename = "postgresGID")]
    pub postgres_gid: Option<i64>,
    /// The volume of each instance.
    pub storage: ClusterStorage,
    /// The volume of each instance for its write-ahead log. `None`: it is on the other.
    pub wal_storage: Option<ClusterStorage>,
    /// CPU and memory of each instance.
    pub resources: ResourceRequirements,
    /// Parameters of the server.
    pub postgresql: PostgresConfiguration,
    /// Where the instances may run.
    pub affinity: ClusterAffinity,
    /// What a new Cluster begins with. CloudNativePG reads it once.
    pub bootstrap: Bootstrap,
    /// The certificate of the server. `None`: for the names of the Cluster's own Services.
    pub certificates: Option<Certificates>,
    /// For how many seconds a server that is stopped waits for its clients to leave, and lets none in.
    pub smart_shutdown_timeout: i32,
    /// What it is extended by.
    pub plugins: Vec<Plugin>,
    /// Where a new Cluster finds what it is recovered from.
    pub external_clusters: Vec<ExternalCluster>,
    /// Whether the superuser may log in over the network.
    pub enable_superuser_access: bool,
}

/// The volume of each instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStorage {
    /// How large.
    pub size: String,
    /// Of which class. `None`: the cluster's default.
    pub storage_class: Option<String>,
}

/// Parameters of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PostgresConfiguration {
    /// By name.
    pub parameters: BTreeMap<String, String>,
}

/// Where the instances may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAffinity {
    /// Whether they keep apart from each other.
    pub enable_pod_anti_affinity: bool,
    /// What one place is: a label of nodes.
    pub topology_key: &'static str,
    /// `preferred` or `required`.
    pub pod_anti_affinity_type: &'static str,
}

/// What a new Cluster begins with: one of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    /// An empty database.
    pub initdb: Option<InitDb>,
    /// The data of another Cluster, as of a moment.
    pub recovery: Option<Recovery>,
}

/// The data of another Cluster, as of a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Which of the external Clusters.
    pub source: &'static str,
    /// The name of the database.
    pub database: &'static str,
    /// The role that owns it. CloudNativePG gives it another password.
    pub owner: &'static str,
    /// The moment.
    pub recovery_target: RecoveryTarget,
}

/// The moment of a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryTarget {
    /// By RFC 3339.
    pub target_time: String,
}

/// A Cluster that is known by its archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalCluster {
    /// Its name among these.
    pub name: &'static str,
    /// The plugin that reads the archive.
    pub plugin: Plugin,
}

/// An empty database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitDb {
    /// The name of the database.
    pub database: &'static str,
    /// The role that owns it. CloudNativePG generates its password.
    pub owner: &'static str,
    /// Whether pages have checksums.
    pub data_checksums: bool,
    /// What the superuser does once the role is there, and never again.
    #[serde(rename = "postInitSQL")]
    pub post_init_sql: Vec<String>,
}

/// The certificate of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Further names that it is for.
    #[serde(rename = "serverAltDNSNames")]
    pub server_alt_dns_names: Vec<String>,
}

/// PgBouncer before a Cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pooler {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The spec.
    pub spec: PoolerSpec,
}

/// What a Pooler consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolerSpec {
    /// The Cluster.
    pub cluster: LocalObjectReference,
    /// `rw`: it leads to the primary.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// How many pods.
    pub instances: i32,
    /// PgBouncer itself.
    pub pgbouncer: PgBouncer,
    /// The pods, with what Secrets their image is pulled. `None`: with none.
    pub template: Option<Value>,
}

/// The settings of PgBouncer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PgBouncer {
    /// `session` or `transaction`.
    pub pool_mode: &'static str,
    /// The image. `None`: that of CloudNativePG.
    pub image: Option<String>,
    /// Parameters by name.
    pub parameters: BTreeMap<String, String>,
}

impl PoolerSpec {
    /// The pods that pull their image with these Secrets.
    pub fn pulling_with(secrets: &[String]) -> Option<Value> {
        let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
        let spec = json!({"containers": [{"name": "pgbouncer"}], "imagePullSecrets": secrets});
        (!secrets.is_empty()).then(|| json!({"spec": spec}))
    }
}

/// Phases that end only when a user acts (source: `api/v1/cluster_types.go`).
const HARD_STOPS: [&str; 8] = [
    // In `internal/controller/cluster_controller.go`: no instance writes until its volume is larger.
    "Not enough disk space",
    "Cluster is unrecoverable and needs manual intervention",
    "Unable to create required cluster objects",
    "Cluster has incomplete or invalid image catalog",
    "Cluster cannot proceed to reconciliation due to an unknown plugin being required",
    "Cluster cannot execute instance online upgrade due to missing architecture binary",
    "Invalid cluster definition",
    "Waiting for user action",
];

/// Of a Cluster: by its conditions. The phase says why not.
pub(super) fn cluster(object: &Value) -> Readiness {
    let phase = text(object, "/status/phase");
    let why = text(object, "/status/phaseReason");
    let said = match (phase, why) {
        ("", _) => "CloudNativePG has not looked at it yet".to_owned(),
        (phase, "") => format!("CloudNativePG says: {phase}"),
        (phase, why) => format!("CloudNativePG says: {phase}: {why}"),
    };
    let told = format!("cluster/{}: {said}", text(object, "/metadata/name"));
    if HARD_STOPS.contains(&phase) {
        return Readiness::waiting(reason::DATABASE_STALLED, told);
    }
    if is_true(object, HIBERNATION) {
        let message = format!("cluster/{} is hibernated: its instances are stopped", text(object, "/metadata/name"));
        return Readiness::waiting(reason::HIBERNATED, message);
    }
    if is_true(object, "Ready") { Readiness::Ready } else { Readiness::waiting(reason::PROGRESSING, told) }
}

/// Of a Pooler: by its phase, which version 1.30 of CloudNativePG introduced.
pub(super) fn pooler(object: &Value) -> Readiness {
    let name = text(object, "/metadata/name");
    let why = text(object, "/status/phaseReason");
    match text(object, "/status/phase") {
        "active" => Readiness::Ready,
        "failed" => Readiness::waiting(reason::DATABASE_STALLED, format!("pooler/{name} failed: {why}")),
        "paused" => Readiness::waiting(
            reason::DATABASE_STALLED,
            format!("pooler/{name} is paused: set its spec.pgbouncer.paused to false"),
        ),
        "inactive" => Readiness::waiting(reason::PROGRESSING, format!("pooler/{name} is inactive: {why}")),
        _ => Readiness::waiting(reason::PROGRESSING, format!("pooler/{name} is being made")),
    }
}

pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    let conditions = at(object, "/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::objects::{LiveObject, kind_of};

    fn judged(kind: &str, status: &Value) -> (&'static str, String) {
        let kind = kind_of("postgresql.cnpg.io", kind).expect("a kind");
        let live = LiveObject::whole(kind, json!({"metadata": {"name": "shop-database"}, "status": status}));
        match live.expect("an object").readiness {
            Readiness::Ready => (reason::READY, String::new()),
            Readiness::Waiting(waiting) => (waiting.reason, waiting.message),
        }
    }

    fn conditions(facts: &[(&str, &str)]) -> Value {
        facts.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect()
    }

    #[rstest]
    #[case::healthy("Cluster in healthy state", &[("Ready", "True"), ("Initialized", "True")], reason::READY, "")]
    #[case::nobody_looked("", &[], reason::PROGRESSING, "has not looked at it yet")]
    #[case::on_its_way("Setting up primary", &[("Ready", "False")], reason::PROGRESSING, "cluster/shop-database: CloudNativePG says: Setting up primary: because")]
    #[case::failing_over("Failing over", &[("Ready", "False")], reason::PROGRESSING, "Failing over")]
    #[case::archiving_fails("Cluster in healthy state", &[("ContinuousArchiving", "False"), ("Ready", "True")], reason::READY, "")]
    #[case::invalid("Invalid cluster definition", &[("Ready", "True")], reason::DATABASE_STALLED, "because")]
    #[case::unrecoverable("Cluster is unrecoverable and needs manual intervention", &[], reason::DATABASE_STALLED, "unrecoverable")]
    #[case::full("Not enough disk space", &[("Ready", "False")], reason::DATABASE_STALLED, "disk space: because")]
    #[case::waits_for_a_user("Waiting for user action", &[("Ready", "False")], reason::DATABASE_STALLED, "user action")]
    #[case::asleep("Cluster in healthy state", &[("Ready", "True"), ("cnpg.io/hibernation", "True")], reason::HIBERNATED, "stopped")]
    #[case::not_asleep_yet("Cluster in healthy state", &[("Ready", "True"), ("cnpg.io/hibernation", "False")], reason::READY, "")]
    fn a_cluster_is_ready_by_its_conditions(
        #[case] phase: &str,
        #[case] facts: &[(&str, &str)],
        #[case] reason: &str,
        #[case] words: &str,
    ) {
        let status = &json!({"phase": phase, "phaseReason": "because", "conditions": conditions(facts)});
        let (found, message) = judged("Cluster", status);
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(words), "{message}");
    }

    #[rstest]
    #[case("active", reason::READY)]
    #[case("inactive", reason::PROGRESSING)]
    #[case("", reason::PROGRESSING)]
    #[case("failed", reason::DATABASE_STALLED)]
    #[case("paused", reason::DATABASE_STALLED)]
    fn a_pooler_is_ready_by_its_phase(#[case] phase: &str, #[case] reason: &str) {
        assert_eq!(judged("Pooler", &json!({"phase": phase, "phaseReason": "no"})).0, reason);
    }
}
