//! Where pods run and what they are: whatever makes one, the spec has a field that reaches it.

use std::{collections::BTreeSet, fs};

use rorun_operator::{api::v1alpha1::RorunStack, desired::everything, names::annotation, objects::DesiredObject};
use serde_json::{Value, json};

use super::{
    plans::{Moment, Turn},
    support::{example, examples, is_of_stack, items, text},
};

/// The blocks of a spec that have both fields.
const BLOCKS: [&str; 7] = ["api", "ocr", "admin", "database/embedded", "redis/embedded", "bucket/embedded", "backup"];
/// What is to have made a Job or a pod, so that the test has met each of them.
const EACH: [&str; 14] = [
    "api",
    "ocr",
    "admin",
    "database",
    "redis",
    "bucket",
    "backup",
    "drill",
    "restore",
    "sanitize",
    "migration",
    "smoketest",
    "rules",
    "preflight",
];

/// Each block of an example with a toleration and a runtime class, and pods that get their user from the cluster.
fn shaped(cr: RorunStack) -> RorunStack {
    let mut spec = serde_json::to_value(&cr.spec).unwrap();
    if spec["backup"].is_null() {
        spec["backup"] = json!({});
    }
    for service in ["database", "redis", "bucket"] {
        if spec[service].is_null() {
            spec[service] = json!({"embedded": {}});
        }
    }
    let pod = json!({"spec": {"runtimeClassName": "gvisor",
        "securityContext": {"$patch": "replace", "runAsNonRoot": true}}});
    for block in BLOCKS {
        let Some(block) = spec.pointer_mut(&format!("/{block}")).filter(|block| block.is_object()) else { continue };
        block["scheduling"] =
            json!({"tolerations": [{"key": "pool", "operator": "Exists"}], "nodeSelector": {"pool": "app"}});
        block["podTemplate"] = pod.clone();
    }
    if spec["api"]["migrations"].is_null() {
        spec["api"]["migrations"] = json!({"command": ["migrate"]});
    }
    spec["api"]["migrations"]["podTemplate"] = pod;
    RorunStack { spec: serde_json::from_value(spec).unwrap(), ..cr }
}

/// A release, a drill, a sanitized point, a restore of database and bucket, all of which go well.
fn story() -> Vec<Turn> {
    let restored = json!({"done": {"rows": 2, "tables": 1, "database": "shop_restore_1", "bytes": 7, "durationSeconds": 1,
        "kept": {"name": "shop_before_1", "sizeBytes": 7}}});
    let dumped = json!({"complete": {"id": "20260504T110000Z-x7k2p", "at": "2026-09-21T14:00:00Z", "sizeBytes": 7,
        "sha256": "0", "location": "s3://b/k", "removed": 0}});
    let ends = |said: &Value| Turn::JobsEnd(said.to_string());
    let serves = || vec![ends(&dumped), Turn::Pods(true), Turn::Pods(true)];
    let asked = [
        Turn::Annotation(annotation::BACKUP, Some("1")),
        Turn::Annotation(annotation::VERIFY, Some("1")),
        Turn::Sanitize,
        Turn::Image("ghcr.io/rorun/rorun-api:1.9.0"),
    ];
    let restoring = (0..12).flat_map(|_| [ends(&restored), Turn::Pods(true)]);
    let released = asked.into_iter().flat_map(|turn| [vec![turn], serves(), serves()].concat());
    serves().into_iter().chain(released).chain([Turn::Restore { bucket: true }]).chain(restoring).collect()
}

fn template(object: &DesiredObject) -> Option<&Value> {
    let pointer = match object.kind.kind {
        "Deployment" | "StatefulSet" | "Job" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    object.body.pointer(pointer)
}

#[test]
fn a_field_places_and_shapes_every_pod() {
    let mut met = BTreeSet::new();
    let paths = fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.extension().is_some_and(|of| of == "yaml") && is_of_stack(path)) {
        let mut moment = Moment::first(&shaped(example(&path)));
        for turn in story() {
            let (stack, plan) = moment.planned();
            for object in everything(&stack, &plan) {
                let Some(template) = template(&object) else { continue };
                let of = format!("{} of {}", object.key(), path.display());
                let placed = items(template, "/spec/tolerations").any(|of| text(of, "/key") == Some("pool"));
                assert!(placed, "{of} has no toleration");
                assert_eq!(template["spec"]["nodeSelector"]["pool"], "app", "{of}");
                assert_eq!(template["spec"]["runtimeClassName"], "gvisor", "{of}");
                assert_eq!(template["spec"]["securityContext"], json!({"runAsNonRoot": true}), "{of}");
                met.insert(object.component().to_owned());
                if object.kind.kind == "Job" {
                    met.insert(format!("the Job of {}", object.component()));
                }
            }
            moment.apply(&plan);
            moment.happens(&turn);
        }
    }
    let missing: Vec<_> = EACH.iter().filter(|component| !met.contains(**component)).collect();
    assert!(missing.is_empty(), "{missing:?} of {met:?}");
    assert!(met.contains("the Job of database"), "the provisioning of RDS: {met:?}");
}
