//! Where pods run and what they are: whatever makes one, the spec has a field that reaches it.

use std::{collections::BTreeSet, fs};

use rorun_operator::{
    api::v1alpha1::RorunStack, desired::everything, names::annotation, objects::DesiredObject, stack::JOBS,
};
use serde_json::{Value, json};

use super::{
    plans::{Moment, Turn},
    support::{example, examples, is_of_stack, items, text},
};

/// The blocks of a spec that have both fields.
const BLOCKS: [&str; 7] = ["api", "ocr", "admin", "database/embedded", "redis/embedded", "bucket/embedded", "backup"];
/// Every pod that a stack makes: the kind of what makes it, the component, and the container that does the work; and the block of the
/// spec whose `podTemplate` has the last word. One that is new stands here, and the test has met each.
const PODS: [(&str, &str); 20] = [
    ("CronJob backup dump", "backup"),
    ("CronJob drill drill", "jobs"),
    ("Deployment admin admin", "admin"),
    ("Deployment api api", "api"),
    ("Deployment ocr ocr", "ocr"),
    ("Deployment smoketest api", "api"),
    ("Job backup dump", "backup"),
    ("Job database provision", "jobs"),
    ("Job drill drill", "jobs"),
    ("Job migration migrate", "api.migrations"),
    ("Job preflight ask", "jobs"),
    ("Job restore ask", "jobs"),
    ("Job restore migrate", "api.migrations"),
    ("Job restore restore", "jobs"),
    ("Job rules set", "jobs"),
    ("Job sanitize sanitize", "jobs"),
    ("Job smoketest ask", "jobs"),
    ("StatefulSet bucket s3", "bucket.embedded"),
    ("StatefulSet database postgres", "database.embedded"),
    ("StatefulSet redis redis", "redis.embedded"),
];

/// A patch with a label and an annotation that tell its block, a sidecar, a runtime class, and pods that get their user from the cluster.
fn patch(block: &str) -> Value {
    let sidecar = json!({"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"});
    json!({"metadata": {"labels": {"shaped-by": block}, "annotations": {"shaped-by": block}},
        "spec": {"runtimeClassName": "gvisor", "initContainers": [sidecar],
            "securityContext": {"$patch": "replace", "runAsNonRoot": true}}})
}

/// Each block of an example with a toleration and such a patch.
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
    for name in BLOCKS {
        let Some(block) = spec.pointer_mut(&format!("/{name}")).filter(|block| block.is_object()) else { continue };
        block["scheduling"] =
            json!({"tolerations": [{"key": "pool", "operator": "Exists"}], "nodeSelector": {"pool": "app"}});
        block["podTemplate"] = patch(&name.replace('/', "."));
    }
    if spec["api"]["migrations"].is_null() {
        spec["api"]["migrations"] = json!({"command": ["migrate"]});
    }
    spec["api"]["migrations"]["podTemplate"] = patch("api.migrations");
    spec["jobs"] = json!({"podTemplate": patch("jobs")});
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

/// The names of the operator's containers and volumes in a pod.
fn ours(template: &Value) -> Vec<&str> {
    let lists = ["/spec/containers", "/spec/initContainers", "/spec/volumes"];
    let all = lists.into_iter().flat_map(|list| items(template, list));
    all.map(|item| text(item, "/name").unwrap()).filter(|name| *name != "mesh").collect()
}

/// What all pods have by the fields of the spec, whatever makes them, and the block that had the last word.
fn shaped_by<'a>(template: &'a Value, of: &str) -> &'a str {
    let placed = items(template, "/spec/tolerations").any(|of| text(of, "/key") == Some("pool"));
    assert!(placed, "{of} has no toleration");
    assert_eq!(template["spec"]["nodeSelector"]["pool"], "app", "{of}");
    assert_eq!(template["spec"]["runtimeClassName"], "gvisor", "{of}");
    assert_eq!(template["spec"]["securityContext"], json!({"runAsNonRoot": true}), "{of}");
    let sidecars = items(template, "/spec/initContainers").filter(|of| text(of, "/name") == Some("mesh"));
    assert_eq!(sidecars.count(), 1, "{of} has no sidecar");
    let by = text(template, "/metadata/labels/shaped-by").unwrap_or_else(|| panic!("{of} has no label"));
    assert_eq!(template["metadata"]["annotations"]["shaped-by"], by, "{of}");
    by
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
                let by = shaped_by(template, &format!("{} of {}", object.key(), path.display()));
                if by == "jobs" {
                    let unknown = |name: &&str| !JOBS.init.contains(name) && !JOBS.fixed.contains(name);
                    assert_eq!(ours(template).into_iter().find(unknown), None, "{}", object.key());
                }
                let main = text(template, "/spec/containers/0/name").unwrap();
                met.insert((format!("{} {} {main}", object.kind.kind, object.component()), by.to_owned()));
            }
            moment.apply(&plan);
            moment.happens(&turn);
        }
    }
    let known: BTreeSet<_> = PODS.iter().map(|(pod, by)| ((*pod).to_owned(), (*by).to_owned())).collect();
    assert_eq!(met, known);
}

/// A step is named by what it means, so that a patch makes none run again.
#[test]
fn a_patch_of_jobs_gives_no_job_another_name() {
    for name in ["production.yaml", "production-aws.yaml"] {
        let patched = shaped(example(&examples().join(name)));
        let mut plain = patched.clone();
        plain.spec.jobs = None;
        let (mut patched, mut plain) = (Moment::first(&patched), Moment::first(&plain));
        for turn in story() {
            let (with, without) = (patched.planned().1, plain.planned().1);
            assert_eq!(with, without, "{name}");
            for (moment, plan) in [(&mut patched, &with), (&mut plain, &without)] {
                moment.apply(plan);
                moment.happens(&turn);
            }
        }
    }
}
