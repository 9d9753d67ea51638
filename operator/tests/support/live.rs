//! What is there when everything serves.

use std::{collections::BTreeMap, sync::Arc};

use rorun_operator::{
    desired,
    objects::{LiveObject, LiveSet, kind_of},
    stack::Stack,
};
use serde_json::{Value, json};

use super::fixture::NAMESPACE;

/// Each object as the API server would give it back once its pods serve, and a backup and a drill that ended well.
pub fn all_ready(stack: &Stack) -> LiveSet {
    let objects = desired::everything(stack, &rorun_operator::plan::Plan::default());
    let floors: BTreeMap<_, _> = objects
        .iter()
        .filter_map(|object| Some((object.name.clone(), object.body.pointer("/spec/minReplicas")?.clone())))
        .collect();
    let labels =
        |component: &str| json!({"app.kubernetes.io/instance": stack.name, "app.kubernetes.io/component": component});
    let ended = |component: &str| {
        let metadata = json!({"name": format!("{}-{component}-1", stack.name), "labels": labels(component)});
        let status = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        ("batch", "Job", json!({"metadata": metadata, "status": status}))
    };
    // Its pod says what it found.
    let drilled = || {
        let record = json!({"id": "20260101T000000Z-aaaaa", "at": "2026-01-01T00:10:00Z", "durationSeconds": 20,
            "sizeBytes": 1000, "rows": 12, "checks": 0, "verdict": "Whole"});
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": format!("{}-drill-1", stack.name),
            "controller": true, "uid": "uid-of-Job"}]);
        let metadata = json!({"name": format!("{}-drill-1-a", stack.name), "labels": labels("drill"),
            "ownerReferences": owner});
        let ended = json!({"terminated": {"exitCode": 0, "message": json!({"complete": record}).to_string()}});
        let status = json!({"containerStatuses": [{"name": "drill", "restartCount": 0, "state": ended}]});
        ("", "Pod", json!({"metadata": metadata, "status": status}))
    };
    // Each archive has a base backup.
    let windows: serde_json::Map<String, Value> = objects
        .iter()
        .filter_map(|object| object.body.pointer("/spec/plugins/0/parameters/serverName")?.as_str())
        .map(|server| {
            let at = "2026-01-01T00:00:00Z";
            (server.to_owned(), json!({"firstRecoverabilityPoint": at, "lastSuccessfulBackupTime": at}))
        })
        .collect();
    let drills = stack.verify().is_some();
    let jobs = [stack.backup.is_some().then(|| ended("backup")), drills.then(|| ended("drill")), drills.then(drilled)];
    let served = objects.into_iter().map(|object| {
        let mut body = object.body;
        if object.kind.kind == "ObjectStore" {
            body["status"] = json!({"serverRecoveryWindow": windows});
        }
        if let Some(status) = status(object.kind.kind, &mut body, floors.get(&object.name)) {
            body["status"] = status;
        }
        (object.kind.group, object.kind.kind, body)
    });
    served.chain(jobs.into_iter().flatten()).map(|(group, kind, body)| Arc::new(stored(group, kind, body))).collect()
}

fn stored(group: &str, kind: &str, mut body: Value) -> LiveObject {
    body["metadata"]["namespace"] = json!(NAMESPACE);
    body["metadata"]["uid"] = json!(format!("uid-of-{kind}"));
    body["metadata"]["generation"] = json!(1);
    LiveObject::whole(kind_of(group, kind).expect("a known kind"), body).expect("an object with a name")
}

/// `floor` is what an autoscaler scales down to, if there is one for the object.
fn status(kind: &str, body: &mut Value, floor: Option<&Value>) -> Option<Value> {
    let component = body["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or_default();
    let synced = || json!([{"type": "ACK.ResourceSynced", "status": "True"}]);
    match kind {
        "Deployment" => {
            let spec = body["spec"].as_object_mut()?;
            let count = spec.entry("replicas").or_insert_with(|| floor.cloned().unwrap_or(json!(1))).clone();
            Some(json!({
                "observedGeneration": 1,
                "replicas": count,
                "updatedReplicas": count,
                "readyReplicas": count,
                "availableReplicas": count,
            }))
        }
        "StatefulSet" => Some(json!({
            "observedGeneration": 1,
            "replicas": 1,
            "readyReplicas": 1,
            "currentRevision": "a",
            "updateRevision": "a",
        })),
        "PersistentVolumeClaim" => Some(json!({"phase": "Bound"})),
        // That of a component which waits for its end; the others are those of backups and releases.
        "Job" if component == "database" => Some(json!({"conditions": [{"type": "Complete", "status": "True"}]})),
        "DBInstance" => Some(json!({
            "dbInstanceStatus": "available",
            "endpoint": {"address": "database.example.com", "port": 5432},
            "conditions": synced(),
        })),
        "ReplicationGroup" => Some(json!({
            "status": "available",
            "configurationEndpoint": {"address": "cache.example.com", "port": 6379},
            "conditions": synced(),
        })),
        "ServerlessCache" => Some(json!({
            "status": "available",
            "endpoint": {"address": "cache.example.com", "port": 6379},
            "conditions": synced(),
        })),
        "Bucket" => Some(json!({"conditions": synced()})),
        "Cluster" => {
            let facts = json!([{"type": "Ready", "status": "True"}, {"type": "ContinuousArchiving", "status": "True"}]);
            Some(json!({"phase": "Cluster in healthy state", "conditions": facts}))
        }
        "Pooler" => Some(json!({"phase": "active"})),
        _ => None,
    }
}
