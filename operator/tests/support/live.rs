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
    let jobs = [stack.backup.is_some().then(|| ended("backup")), stack.verify().is_some().then(|| ended("drill"))];
    let served = objects.into_iter().map(|object| {
        let mut body = object.body;
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
        _ => None,
    }
}
