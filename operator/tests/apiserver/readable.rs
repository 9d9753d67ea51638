//! What the server accepts the operator must be able to read: one stack that it cannot would end the watch of all.

use rorun_operator::api::v1alpha1::RorunStack;
use serde_json::{Value, json};

use super::{
    server::{Server, Store},
    support::stack,
};

pub async fn what_is_accepted_can_be_read(server: &Server) {
    let namespace = server.namespace("readable").await;
    let (mut accepted, mut unreadable) = (0, Vec::new());
    for (field, value) in odd() {
        let manifest = stack("shop").set(field, value).0;
        // Refused is as good as read.
        let Ok(stored) = server.create(&namespace, &manifest, Store::No).await else { continue };
        accepted += 1;
        if let Err(error) = serde_json::from_value::<RorunStack>(stored.clone()) {
            unreadable.push(format!("{}: {error}", stored["spec"]));
        }
    }
    assert!(accepted > 10, "only {accepted} were accepted");
    assert!(unreadable.is_empty(), "{unreadable:#?}");
}

/// Values that a schema and a type may see differently.
#[expect(clippy::too_many_lines, reason = "a table")]
fn odd() -> Vec<(&'static str, Value)> {
    let mut odd = vec![
        ("api.resources", json!({"requests": {"cpu": 2, "memory": 1_000_000_000_000_i64}})),
        ("api.resources", json!({"limits": {"cpu": "1e3", "ephemeral-storage": "1E"}})),
        ("database.embedded.storage.size", json!(10)),
        ("api.env", json!([{"name": "A"}])),
        ("api.env", json!([{"name": "A", "value": null}])),
        ("api.env", json!([{"name": "A", "value": 1}])),
        ("api.env", json!([{"name": "A", "valueFrom": {}}])),
        ("api.env", json!([{"name": "A", "valueFrom": {"secretKeyRef": {"key": "k"}}}])),
        ("api.env", json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": null, "key": "k"}}}])),
        (
            "api.env",
            json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 1}}}]),
        ),
        ("api.envFrom", json!([{}])),
        ("api.envFrom", json!([{"secretRef": {}}, {"configMapRef": {"optional": true}}])),
        ("api.scheduling.tolerations", json!([{}])),
        ("api.scheduling.tolerations", json!([{"tolerationSeconds": 9_007_199_254_740_993_i64}])),
        ("api.scheduling.topologySpreadConstraints", json!([{"maxSkew": 1}])),
        (
            "api.scheduling.topologySpreadConstraints",
            json!([{"maxSkew": 3_000_000_000_i64, "topologyKey": "a", "whenUnsatisfiable": "b"}]),
        ),
        ("api.scheduling.affinity", json!({})),
        (
            "api.scheduling.affinity",
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 3_000_000_000_i64, "preference": {}}]}}),
        ),
        (
            "api.scheduling.affinity",
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a", "labelSelector": {}}]}}),
        ),
        ("api.podLabels", json!({"a": null})),
        ("api.port", json!(3000.0)),
        ("api.replicas", json!(1e2)),
        ("api.health", json!({"startupSeconds": 4_294_967_297_i64})),
        ("backup.retention", json!({"days": 30.0})),
        ("api.disruption", json!({"minAvailable": 2.0})),
        ("api.disruption", json!({"maxUnavailable": "0%"})),
        ("api.disruption", json!({"minAvailable": null, "maxUnavailable": 1})),
        ("api.autoscaling.behavior", json!({"scaleUp": {}, "scaleDown": {"policies": null}})),
        ("ingress", json!({"host": "a.b", "paths": null, "extraHosts": null})),
        ("ingress", json!({"host": "a.b", "extraHosts": [{"host": "c.d", "paths": null, "tls": null}]})),
        ("api.podTemplate", json!({"spec": {"containers": {"a": [null, 1e300, 18_446_744_073_709_551_615_u64, -1]}}})),
        ("api.podTemplate", json!({"": {"$patch": []}, "metadata": null})),
    ];
    // An explicit null, as templates leave them.
    let optional = [
        "suspend",
        "deletionPolicy",
        "image",
        "image.pullSecrets",
        "image.pullPolicy",
        "ocr",
        "admin",
        "database",
        "redis",
        "bucket",
        "ingress",
        "backup",
        "api.command",
        "api.env",
        "api.envFrom",
        "api.port",
        "api.resources",
        "api.resources.requests",
        "api.resources.limits",
        "api.autoscaling",
        "api.autoscaling.minReplicas",
        "api.health",
        "api.scheduling",
        "api.scheduling.nodeSelector",
        "api.scheduling.tolerations",
        "api.scheduling.affinity",
        "api.scheduling.topologySpreadConstraints",
        "api.serviceAccount",
        "api.serviceAccount.annotations",
        "api.podLabels",
        "api.podTemplate",
        "backup.podTemplate",
        "jobs",
        "jobs.podTemplate",
        "backup.scheduling",
        "backup.schedule",
        "backup.retention",
        "backup.destination",
        "backup.resources",
    ];
    odd.extend(optional.map(|field| (field, Value::Null)));
    odd
}
