//! Every example as the objects that it becomes, and as what its user reads before anything is there and when all is well.
//!
//! `cargo insta review` shows what a change of the code changes for the examples.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

mod support;

use std::{collections::BTreeSet, fmt::Write, fs, sync::Arc};

use jiff::Timestamp;
use rorun_operator::{
    api::v1alpha1::RorunStack,
    cli,
    contract::{self, PointOrigin},
    desired::{self, Desired, desired},
    names::Component,
    objects::{DesiredObject, LiveObject, LiveSet, kind_of},
    stack::{Stack, validate},
    status::{self, Report},
};
use serde_json::{Value, json};
use support::{all_ready, all_there, example, examples, is_of_stack, nothing_there, valid, valid_with};

/// Shown whole; of the others just what differs from `minimal.yaml`.
const WHOLE: [&str; 4] = ["minimal", "development", "staging", "production"];

#[test]
fn the_objects_of_each_example() {
    let minimal: Vec<Value> = documents(&wanted(&example(&examples().join("minimal.yaml"))));
    insta::glob!("../../examples", "*.yaml", |path| {
        if !is_of_stack(path) {
            return;
        }
        let all = documents(&wanted(&example(path)));
        let whole = WHOLE.contains(&path.file_stem().unwrap().to_str().unwrap());
        let (same, shown): (Vec<_>, Vec<_>) = all.into_iter().partition(|object| !whole && minimal.contains(object));
        let mut text = String::new();
        for object in &shown {
            write!(text, "---\n{}", serde_saphyr::to_string(object).unwrap()).unwrap();
        }
        if !same.is_empty() {
            let names: Vec<_> = same.iter().map(name).collect();
            writeln!(text, "---\n# as in minimal.yaml: {}", names.join(", ")).unwrap();
        }
        insta::assert_snapshot!(text);
    });
}

#[test]
fn what_the_user_of_each_example_reads() {
    insta::glob!("../../examples", "*.yaml", |path| {
        if !is_of_stack(path) {
            return;
        }
        let cr = example(path);
        let before = validate(&cr, &nothing_there(&cr));
        let served = valid(&cr);
        let read = json!({
            "before anything is there": told(&cr, &before, &LiveSet::default()),
            "when all is well": told(&cr, &served, &all_ready(&served)),
        });
        insta::assert_yaml_snapshot!(read);
    });
}

#[test]
fn examples_are_named_alike_and_hold_one_stack() {
    for path in paths() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{} does not say what it is for", path.display());
        let cr = example(&path);
        // The snapshots compare them, and whoever tries one after the other does not collect stacks.
        assert_eq!(cr.metadata.name.as_deref(), Some("rorun"), "{}", path.display());
        let all = serde_json::to_value(&cr).unwrap();
        let given: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(all["spec"], given["spec"], "{} has fields that are not known", path.display());
    }
}

/// Without a cluster, but for what only a cluster knows, the same as with one.
#[test]
fn each_example_is_rendered_whole() {
    for path in paths() {
        let cr = example(&path);
        let rendered = cli::render::render(cr.clone()).expect("it is rendered");
        let names: BTreeSet<_> = rendered.iter().map(name).collect();
        let stack = valid(&cr);
        let expected: BTreeSet<_> = desired::everything(&stack, &rorun_operator::plan::Plan::default())
            .iter()
            .map(|object| name(&object.body))
            .collect();
        assert_eq!(names, expected, "{}", path.display());
    }
}

/// What the examples do not show, nobody finds.
#[test]
fn every_field_of_the_spec_is_in_an_example() {
    let definition: Value = serde_saphyr::from_str(&cli::crd::yaml().unwrap()).unwrap();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    let mut known = BTreeSet::new();
    fields(schema, "", &mut known);
    let mut shown = BTreeSet::new();
    for path in paths() {
        given(&serde_json::to_value(example(&path).spec).unwrap(), "", &mut shown);
    }
    // Blocks such as `resources` and `storage` are the same wherever they are, and so are workloads: one of them is enough.
    let end = |path: &str| {
        let path = path.replace("ocr.", "api.").replace("admin.", "api.");
        path.rsplitn(3, '.').take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let shown: BTreeSet<_> = shown.iter().map(|path| end(path)).collect();
    let missing: Vec<_> = known.iter().filter(|path| !shown.contains(&end(path))).collect();
    assert!(missing.is_empty(), "in no example: {missing:#?}");
}

/// The workflow of previews writes the URL that its manifest gives the stack.
#[test]
fn the_url_of_a_preview_is_that_of_its_manifest() {
    let text = fs::read_to_string(examples().join("github-actions/preview.yaml")).unwrap();
    let workflow: Value = serde_saphyr::from_str(&text).unwrap();
    let env = |name: &str| workflow["env"][name].as_str().unwrap().replace("${{ github.event.number }}", "7");
    let serve = &workflow["jobs"]["serve"];
    let scripts: Vec<_> = serve["steps"].as_array().unwrap().iter().filter_map(|step| step["run"].as_str()).collect();
    let script = |words: &str| *scripts.iter().find(|script| script.contains(words)).unwrap();
    let (_, manifest) = script("<<END").split_once("<<END\n").unwrap();
    let manifest = manifest.split_once("\nEND\n").unwrap().0;
    let manifest = manifest.replace("$STACK", &env("STACK")).replace("$HOST", &env("HOST")).replace("$API", "api:1");
    let mut cr: RorunStack = serde_saphyr::from_str(&manifest).unwrap();
    (cr.metadata.namespace, cr.metadata.uid) = (Some("previews".to_owned()), Some("1".to_owned()));
    let url = valid(&cr).ingress.unwrap().url(Component::Api).unwrap();
    assert_eq!(url, "https://pr-7.preview.rorun.app");
    let shown = serve["environment"]["url"].as_str().unwrap().replace("${{ github.event.number }}", "7");
    assert_eq!(shown, url);
    let comment = script("gh pr comment").replace("$HOST", &env("HOST"));
    assert!(comment.contains(&format!("is at {url}\"")), "{comment}");
}

fn paths() -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml") && is_of_stack(path));
    paths.sort();
    paths
}

/// The fields of ours below a schema, as paths.
fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    // What comes from Kubernetes is described there.
    const KUBERNETES: [&str; 5] = ["affinity", "tolerations", "topologySpreadConstraints", "env", "envFrom"];
    let object = schema.get("items").unwrap_or(schema);
    for (name, field) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !KUBERNETES.contains(&name.as_str()) {
            fields(field, &path, found);
        }
        found.insert(path);
    }
}

/// The paths that a spec gives.
fn given(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                given(member, &path, found);
                found.insert(path);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| given(item, path, found)),
        _ => {}
    }
}

/// What is wanted once everything is there and serves.
fn wanted(cr: &RorunStack) -> Vec<DesiredObject> {
    let stack = valid(cr);
    let Desired { objects, waiting: held, .. } =
        desired(&stack, &rorun_operator::plan::Plan::default(), &all_ready(&stack));
    assert!(held.is_empty(), "{held:?}");
    objects
}

fn of_which(origin: &str) -> String {
    let stack = PointOrigin::read(origin).unwrap().stack.unwrap();
    format!("the RorunStack {} in {}", stack["metadata"]["name"], stack["metadata"]["namespace"])
}

/// As one would write them: Secrets in plain text, and the stack that a dump is told by its name.
fn documents(objects: &[DesiredObject]) -> Vec<Value> {
    let readable = |object: &DesiredObject| {
        let mut body = object.body.clone();
        if object.kind.kind == "Secret" {
            let data: k8s_openapi::api::core::v1::Secret = serde_json::from_value(body.clone()).unwrap();
            let plain = data.data.into_iter().flatten().map(|(key, value)| {
                let text = String::from_utf8(value.0).unwrap();
                let text = if key == contract::ENV_ORIGIN { of_which(&text) } else { text };
                (key, text.into())
            });
            let members = body.as_object_mut().unwrap();
            members.remove("data");
            members.insert("stringData".to_owned(), Value::Object(plain.collect()));
        }
        body
    };
    objects.iter().map(readable).collect()
}

fn name(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/kind").to_lowercase(), text("/metadata/name"))
}

/// What a run found is said beside a condition that stays true.
#[test]
fn what_is_told_of_good_backups() {
    let healthy = |cr: &RorunStack, found: &Value| {
        let stack = valid(cr);
        let mut live = all_ready(&stack);
        let mut record = json!({"id": "20260101T000000Z-bbbbb", "at": "2026-01-01T00:00:00Z", "sizeBytes": 7,
            "sha256": "0", "location": "s3://b/k", "removed": 0});
        record.as_object_mut().unwrap().extend(found.as_object().unwrap().clone());
        let labels = json!({"app.kubernetes.io/instance": "rorun", "app.kubernetes.io/component": "backup"});
        let state = json!({"terminated": {"exitCode": 0, "message": json!({"complete": record}).to_string()}});
        let pod = json!({"metadata": {"name": "x", "labels": labels},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": "dump", "state": state}]}});
        live.put(Arc::new(LiveObject::whole(kind_of("", "Pod").unwrap(), pod).unwrap()));
        let status = told(cr, &stack, &live)["status"].clone();
        let conditions = status["conditions"].as_array().unwrap().clone();
        let of = |kind: &str| conditions.iter().find(|one| one["type"] == kind).unwrap().clone();
        assert_eq!(of("Ready")["status"], "True", "{status}");
        let of = of("BackupHealthy");
        assert_eq!(of["status"], "True", "{status}");
        (of["reason"].as_str().unwrap().to_owned(), of["message"].as_str().unwrap_or_default().to_owned(), status)
    };
    let staging = example(&examples().join("staging.yaml"));
    let (reason, message, _) = healthy(&staging, &json!({}));
    assert_eq!((&*reason, &*message), ("Ready", ""));
    let (reason, message, status) = healthy(&staging, &json!({"sharedWith": "another-uid/rorun"}));
    let own = status["backup"]["owner"].as_str().unwrap();
    assert!(reason == "PrefixShared" && message.contains(own) && message.contains("another-uid/rorun"), "{message}");
    let (reason, message, status) = healthy(&staging, &json!({"notRemoved": "1 old backup: legal hold"}));
    assert!(reason == "PruningFailed" && message.contains("legal hold"), "{message}");
    assert_eq!(status["backup"]["notRemoved"], "1 old backup: legal hold");
    let (reason, message, _) = healthy(&staging, &json!({"withoutOwner": 30}));
    assert!(reason == "Ready" && message.contains("30 backups") && message.contains("adopt-backups=none"), "{message}");

    let mut production = example(&examples().join("production.yaml"));
    assert_eq!((healthy(&production, &json!({})).1, valid(&production).warnings.len()), (String::new(), 0));
    production.spec.backup.as_mut().unwrap().destination = None;
    let (reason, message, _) = healthy(&production, &json!({}));
    assert!(reason == "Ready" && message.contains("backup.destination.external"), "{message}");
    assert_eq!(valid(&production).warnings, [message]);
}

/// Where the namespace may not be read.
#[test]
fn without_an_owner_nothing_is_removed_and_it_is_told() {
    let cr = example(&examples().join("staging.yaml"));
    let mut observed = all_there(&cr);
    observed.backup_owner = None;
    let stack = valid_with(&cr, &observed);
    let status = told(&cr, &stack, &all_ready(&stack))["status"].clone();
    let conditions = status["conditions"].as_array().unwrap();
    let healthy = conditions.iter().find(|one| one["type"] == "BackupHealthy").unwrap();
    assert!(
        healthy["status"] == "True" && healthy["message"].as_str().unwrap().contains("get on namespaces"),
        "{healthy}"
    );
    let job = desired::everything(&stack, &rorun_operator::plan::Plan::default())
        .into_iter()
        .find(|object| object.kind.kind == "CronJob")
        .unwrap();
    assert!(!job.body.to_string().contains("--owner"), "{}", job.body);
}

/// What is held back, and the status.
fn told(cr: &RorunStack, stack: &Stack, live: &LiveSet) -> Value {
    let Desired { waiting: held, readiness, notes, .. } = desired(stack, &rorun_operator::plan::Plan::default(), live);
    let report = Report {
        release: &rorun_operator::plan::Release::default(),
        restores: &rorun_operator::plan::Restores::default(),
        operations: &rorun_operator::plan::Operations::default(),
        cr,
        old: None,
        stack,
        live,
        readiness: status::with_refusals(readiness.into_iter().collect(), &held),
        notes,
        backup: desired::last_backup(live),
        verified: desired::last_verified(live),
        point_in_time: desired::point_in_time(stack, live),
        begun: std::collections::BTreeMap::new(),
    };
    let mut status = serde_json::to_value(status::status(&report, Timestamp::UNIX_EPOCH)).unwrap();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let facts = condition.as_object_mut().unwrap();
        facts.retain(|key, _| matches!(key.as_str(), "type" | "status" | "reason" | "message"));
    }
    let held: Vec<_> = held.keys().map(ToString::to_string).collect();
    json!({"held": held, "status": status, "warnings": stack.warnings})
}
