//! The acts of the user while something goes wrong.

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::canary::TOKEN;
use super::environment::{STACK, TestEnvironment};

/// The Secrets that the user makes before.
const BUCKET_KEYS: &str = "bucket-keys";
const SETTINGS: &str = "settings";

/// The acts of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Workload {
    /// Makes a stack with a bucket in the cluster: without pods nothing answers there, so what waits for it is never made.
    Create,
    /// Makes a stack whose bucket answers: every kind of child is made.
    Whole,
    /// Changes one that is settled: another image, a component less, pods by number, another retention.
    Update,
    /// Deletes one with its data, as its spec says.
    Delete,
}

impl Workload {
    /// All of them.
    pub(super) const ALL: [Workload; 4] = [Workload::Create, Workload::Whole, Workload::Update, Workload::Delete];

    /// The stack that is there and settled before.
    pub(super) fn before(self, endpoint: &str) -> Option<Value> {
        match self {
            Workload::Create | Workload::Whole => None,
            Workload::Update => Some(whole(endpoint)),
            Workload::Delete => Some(deleting()),
        }
    }

    /// Whether the stack is gone after.
    pub(super) fn is_end(self) -> bool {
        self == Workload::Delete
    }

    /// Whether everything serves after: a promise that is not made cannot be broken.
    pub(super) fn is_ready_at_the_end(self) -> bool {
        matches!(self, Workload::Whole | Workload::Update)
    }

    /// Does it.
    pub(super) async fn act(self, environment: &TestEnvironment, namespace: &str, endpoint: &str) -> Result<()> {
        let spec = match self {
            Workload::Create => spec(),
            Workload::Whole => whole(endpoint),
            Workload::Update => changed(endpoint),
            Workload::Delete => {
                environment.stacks(namespace).delete(STACK, &DeleteParams::background()).await?;
                return Ok(());
            }
        };
        environment.apply(namespace, &spec).await
    }
}

/// Makes the Secrets that specs name.
pub(super) async fn prepare(environment: &TestEnvironment, namespace: &str) -> Result<()> {
    let token = |number: u8| format!("{TOKEN}-{number}");
    let keys = json!({"AWS_ACCESS_KEY_ID": token(1), "AWS_SECRET_ACCESS_KEY": token(2)});
    for (name, data) in [(BUCKET_KEYS, keys), (SETTINGS, json!({"SIGNING_KEY": token(3)}))] {
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data}))?;
        Api::namespaced(environment.client.clone(), namespace).create(&PostParams::default(), &secret).await?;
    }
    Ok(())
}

/// Nothing scales here, so one pod is the fewest of the API; the admin panel has the two that a disruption budget is made for.
pub(super) fn spec() -> Value {
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1", "autoscaling": {"minReplicas": 1}, "databaseConnections": 5, "envFrom": [{"secretRef": {"name": SETTINGS}}]},
        "ocr": {"image": "rorun-ai-service:1"},
        "admin": {"image": "rorun-admin:1", "replicas": 2},
        "ingress": {"host": "api.example.com", "adminHost": "admin.example.com"},
        "backup": {},
    })
}

pub(super) fn whole(endpoint: &str) -> Value {
    let mut spec = spec();
    spec["bucket"] = json!({"external": {
        "name": "shop", "endpoint": endpoint, "forcePathStyle": true, "credentialsSecretRef": {"name": BUCKET_KEYS},
    }});
    spec
}

/// A stack with a child of every kind that needs no controller-manager.
pub(super) fn autoscaled(endpoint: &str) -> Value {
    let mut spec = whole(endpoint);
    spec["api"]["autoscaling"] = json!({"minReplicas": 2, "maxReplicas": 5});
    spec
}

fn changed(endpoint: &str) -> Value {
    let mut spec = whole(endpoint);
    spec["api"] = json!({"image": "rorun-api:2", "replicas": 3, "envFrom": [{"secretRef": {"name": SETTINGS}}]});
    spec["admin"]["image"] = json!("rorun-admin:2");
    spec["backup"]["retention"] = json!({"days": 7});
    spec["ingress"] = json!({"host": "api.example.com"});
    spec["redis"] = json!({"embedded": {"resources": {"requests": {"memory": "128Mi"}}}});
    spec["ocr"] = Value::Null;
    spec
}

pub(super) fn deleting() -> Value {
    let mut spec = spec();
    spec["deletionPolicy"] = json!("Delete");
    spec["backup"] = Value::Null;
    spec
}
