//! What the definition of a released version admitted can be edited under today's: an upgrade must not make a stack that runs
//! one that nobody can change. The API server looks anew only at fields that change (ratcheting), and at each CEL rule of a
//! block in which anything changes; so a rule that is stricter than before refuses every edit of a stack that breaks it.
//!
//! Definitions are in `tests/released/<version>/crd.yaml`. For every rule that today's has and a released one had not,
//! [`BREAKS`] holds a stack that breaks it.

use std::collections::BTreeSet;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use serde_json::{Map, Value, json};

use super::{
    generate,
    server::{Server, Store, definition},
    support::{Fixture, stack},
};

/// How many random stacks that a released version admitted are edited.
const STACKS: usize = 60;
/// A column that tells which definition the server works with.
const MARK: &str = "Definition";

/// A rule that a released version had not, and a stack that breaks it and that version admitted.
struct Break {
    /// Part of the rule as [`rules`] writes it: where it is, and what it says.
    rule: &'static str,
    stack: fn() -> Fixture,
}

/// Which rules are stricter than those of a released version.
const BREAKS: &[Break] = &[
    Break {
        rule: ".embedded.storage.size: minimum 1",
        stack: || stack("shop").set("redis", json!({"embedded": {"storage": {"size": 0}}})),
    },
    Break {
        rule: ".embedded.storage.size: pattern",
        stack: || stack("shop").set("redis", json!({"embedded": {"storage": {"size": "0"}}})),
    },
];
/// Rules that are new, and that no stack of a released version breaks: part of the rule, and why.
const UNBREAKABLE: &[(&str, &str)] = &[
    ("external.endpoint: rule self.matches", "0.1.0 asked for the same by a pattern, and for no path besides"),
    ("spec.backup.destination: rule has(self.external) || has(self.prefix)", "0.1.0 asked for external"),
    ("spec: rule !has(self.ingress) || has(self.admin) || (!(has(self.ingress.paths)", "0.1.0 had no paths"),
    ("spec: rule !has(self.ingress) || has(self.ocr) || (!(has(self.ingress.paths)", "0.1.0 had no paths"),
    ("spec: rule has(self.ingress) || !(has(self.api.apiURLFrom)", "0.1.0 had no apiURLFrom"),
    ("spec: rule self.environment != 'Production' || !has(self.hibernation)", "0.1.0 had no hibernation"),
    ("spec: rule self.environment == 'Development' || !has(self.expiresAfter)", "0.1.0 had no expiresAfter"),
    ("spec: rule self.environment != 'Production' || !has(self.seedFrom)", "0.1.0 had no seedFrom"),
    ("spec: rule has(oldSelf.seedFrom) || !has(self.seedFrom)", "0.1.0 had no seedFrom"),
    ("spec: rule !has(self.bucket) || !has(self.bucket.lifecycle)", "0.1.0 had no lifecycle"),
    ("spec: rule has(self.ingress) || !has(self.release)", "0.1.0 had no release"),
    (".filter(set, set).size() == 1", "0.1.0 asked for exactly one of its two modes, and a stack of it has no other"),
    ("spec: rule !has(self.backup) || !has(self.backup.pointInTime)", "0.1.0 had no pointInTime"),
    ("spec.bucket: rule !has(self.s3)", "0.1.0 had no s3"),
    ("spec.database.external: rule !has(self.cloudSQLProxy)", "0.1.0 had no cloudSQLProxy"),
    ("spec.database.external: rule !has(self.tls) || !has(self.tls.client", "0.1.0 had no clientCertificateSecretRef"),
    ("spec.database.external.tls: rule !has(self.clientCertificate", "0.1.0 had no clientCertificateSecretRef"),
    ("external: rule has(self.credentialsSecretRef) != has(self.cloudRole)", "0.1.0 asked for credentialsSecretRef"),
    (
        "spec: rule (has(self.database) && has(self.database.external) ? 'external' : ",
        "0.1.0 compared whether the mode is external, of its two modes, and a stack of it has no other",
    ),
    (
        "spec: rule (has(self.redis) && has(self.redis.external) ? 'external' : ",
        "0.1.0 compared whether the mode is external, of its two modes, and a stack of it has no other",
    ),
    (
        "spec: rule (has(self.bucket) && has(self.bucket.external) ? 'external' : ",
        "0.1.0 compared whether the mode is external, of its two modes, and a stack of it has no other",
    ),
];

/// Stacks at the edge of what version 0.1.0 admitted, whatever is made of them later.
fn at_the_edge() -> Vec<Fixture> {
    let set = |field: &str, value: Value| stack("shop").set(field, value);
    let endpoint = |endpoint: &str| {
        let external = json!({"name": "files", "endpoint": endpoint, "credentialsSecretRef": {"name": "s3"}});
        stack("shop").staging().set("bucket", json!({"external": external}))
    };
    vec![
        set("api.replicas", json!(0)),
        set("api.image", json!("rorun-api")),
        set("api.autoscaling", json!({"minReplicas": 1, "maxReplicas": 1})),
        set("ingress", json!({"host": "api.example.com", "className": "no-such-class"})),
        set("backup", json!({"schedule": "@daily"})),
        set("backup", json!({"schedule": "0 0 31 2 *", "timeZone": "Nowhere/Land"})),
        set("database", json!({"embedded": {"storage": {"size": "1Mi", "storageClassName": "no-such-class"}}})),
        set("bucket", json!({"embedded": {"server": "MinIO"}, "versioning": false})),
        stack("shop").staging().set("api.image", json!("rorun-api:latest")),
        stack("shop").staging().set("redis", json!({"embedded": {}})),
        endpoint("http://s3.example.com"),
        endpoint("http://127.0.0.1:9000"),
        endpoint("http://169.254.169.254"),
        stack("shop").production(),
        stack("shop").production().set("bucket.external.endpoint", json!("http://s3.example.com")),
    ]
}

pub async fn what_a_released_definition_admitted_can_be_edited() {
    let server = Server::start().await;
    for (version, released) in released() {
        let (before, now) = (rules(&released), rules(&definition()));
        let stricter: Vec<_> = now.iter().filter(|rule| is_stricter(&released, &before, rule)).collect();
        let known: Vec<_> = BREAKS.iter().map(|of| of.rule).chain(UNBREAKABLE.iter().map(|of| of.0)).collect();
        let unbroken: Vec<_> = stricter.iter().filter(|rule| !known.iter().any(|known| rule.contains(known))).collect();
        assert!(unbroken.is_empty(), "stricter than {version}, and no stack in BREAKS breaks it: {unbroken:#?}");
        let broken: Vec<_> = BREAKS.iter().filter(|of| stricter.iter().any(|rule| rule.contains(of.rule))).collect();
        let refused: Vec<_> = broken.iter().map(|of| (of.stack)()).collect();
        let wrong = edited(&server, &version, (&released, &definition()), &refused).await;
        assert!(wrong.is_empty(), "{version}: {wrong:#?}");
    }
}

/// The check is not blind: a rule that is stricter is found, and the stack that it locks is, too.
pub async fn a_rule_that_locks_stacks_is_noticed() {
    let server = Server::start().await;
    let (version, released) = released().pop().expect("a version");
    let mut stricter = released.clone();
    let spec = stricter.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    let rule = json!({"rule": "!has(self.suspend) || !self.suspend", "message": "nobody may suspend"});
    spec["x-kubernetes-validations"].as_array_mut().unwrap().push(rule);
    let found: Vec<_> = rules(&stricter).difference(&rules(&released)).cloned().collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(is_stricter(&released, &rules(&released), &found[0]), "{found:?}");
    let locked = stack("shop").set("suspend", json!(true));
    let wrong = edited(&server, &format!("{version}-blind"), (&released, &stricter), &[locked]).await;
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert!(wrong[0].contains("can no longer be edited") && wrong[0].contains("nobody may suspend"), "{wrong:#?}");
    // A stricter value of one field is looked at only when that field changes.
    let mut shorter = released.clone();
    let ingress = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/ingress/properties/className";
    shorter.pointer_mut(ingress).unwrap()["pattern"] = json!("^only-this$");
    let kept = stack("shop").set("ingress", json!({"host": "api.example.com", "className": "other"}));
    let wrong = edited(&server, &format!("{version}-field"), (&released, &shorter), &[kept]).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Stores stacks under the first definition, and changes only the image of each under the second. Returns what was refused.
/// `refused` are stacks that the second refuses to make, and that must be editable all the same.
async fn edited(server: &Server, label: &str, definitions: (&Value, &Value), refused: &[Fixture]) -> Vec<String> {
    let label = label.replace('.', "-");
    let mut stacks = at_the_edge();
    let mut runner = TestRunner::deterministic();
    stacks.extend((0..STACKS).map(|_| {
        let Fixture(mut stack) = generate::fixtures().new_tree(&mut runner).unwrap().current();
        let schema = definitions.0.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
        // A stack in a mode that came later is one in another mode there.
        let modes = schema.pointer("/properties/database/properties").and_then(Value::as_object).unwrap();
        let later = |block: &Map<String, Value>| !block.keys().any(|mode| modes.contains_key(mode));
        if stack["spec"]["database"].as_object().is_some_and(later) {
            stack["spec"]["database"] = json!({"external": {"secretRef": {"name": "database"}}});
        }
        // Whose bucket is used by a role used one by keys.
        for place in ["/spec/bucket/external", "/spec/backup/destination/external"] {
            let block = stack.pointer_mut(place).and_then(Value::as_object_mut);
            if let Some(block) = block.filter(|block| block.contains_key("cloudRole")) {
                block.insert("credentialsSecretRef".to_owned(), json!({"name": "keys"}));
            }
        }
        leave_out_unknown(&mut stack["spec"], schema);
        Fixture(stack)
    }));
    let random = stacks.len();
    stacks.extend_from_slice(refused);
    define(server, &label, definitions.0, "before").await;
    let mut stored = Vec::new();
    let mut wrong = Vec::new();
    for (number, Fixture(stack)) in stacks.iter().enumerate() {
        let namespace = server.namespace(&format!("released-{label}-{number}")).await;
        match server.create(&namespace, stack, Store::Yes).await {
            Ok(made) => stored.push((number, namespace, made)),
            Err(message) => wrong.push(format!("it was not admitted: {}: {message}", stack["spec"])),
        }
    }
    define(server, &label, definitions.1, "after").await;
    for (number, namespace, mut made) in stored {
        if number >= random && server.create(&namespace, &renamed(&made), Store::No).await.is_ok() {
            wrong.push(format!("it breaks no rule: {}", made["spec"]));
        }
        // With a tag, which Production asks for.
        let image = made["spec"]["api"]["image"].as_str().unwrap().to_owned();
        let name = image.split('@').next().unwrap_or_default();
        let name =
            name.rsplit_once(':').map_or(name, |(name, tag)| if tag.contains('/') { image.as_str() } else { name });
        made["spec"]["api"]["image"] = json!(format!("{name}:1.9.9"));
        if let Err(message) = server.replace(&namespace, &made, Store::Yes).await {
            wrong.push(format!("it can no longer be edited: {}: {message}", made["spec"]));
        }
    }
    wrong
}

/// Takes out the fields that a definition does not know, with the blocks that were about these alone.
fn leave_out_unknown(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) if schema["properties"].is_object() => {
            members.retain(|name, member| {
                let known = &schema["properties"][name];
                let before = member.as_object().is_some_and(|block| !block.is_empty());
                leave_out_unknown(member, known);
                let emptied = before && member.as_object().is_some_and(serde_json::Map::is_empty);
                !known.is_null() && !emptied
            });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| leave_out_unknown(item, &schema["items"])),
        _ => {}
    }
}

fn renamed(made: &Value) -> Value {
    json!({"apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": {"name": "new"}, "spec": made["spec"]})
}

/// Replaces the definition, and waits until the server works with it: columns and rules are of one piece.
async fn define(server: &Server, label: &str, definition: &Value, when: &str) {
    let (mut definition, mark) = (definition.clone(), format!("{label} {when}"));
    let column = json!({"name": MARK, "type": "string", "jsonPath": ".kind", "description": mark});
    let columns = &mut definition["spec"]["versions"][0]["additionalPrinterColumns"];
    columns.as_array_mut().unwrap().push(column);
    server.redefine(&definition).await;
    server
        .until("the definition is the new one", async || {
            let table = server.table("default").await;
            let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
            columns.iter().any(|column| column["name"] == MARK && column["description"] == mark)
        })
        .await;
}

/// Every version that was released, with its definition.
fn released() -> Vec<(String, Value)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released");
    let versions = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |version: std::path::PathBuf| {
        let text = std::fs::read_to_string(version.join("crd.yaml")).unwrap();
        (version.file_name().unwrap().to_string_lossy().into_owned(), serde_saphyr::from_str(&text).unwrap())
    };
    let mut all: Vec<(String, Value)> = versions.map(read).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!all.is_empty());
    all
}

/// What a schema demands, each with where it stands: `spec.api.image: minLength 1`.
fn rules(definition: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    demands(schema, "spec", &mut found);
    assert!(found.len() > 100, "{}", found.len());
    found
}

fn demands(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    const NO_DEMANDS: [&str; 10] = [
        "additionalProperties",
        "default",
        "description",
        "items",
        "nullable",
        "properties",
        "required",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    ];
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        if !NO_DEMANDS.contains(&keyword.as_str()) {
            found.insert(format!("{path}: {keyword} {value}"));
        }
    }
    for member in schema["required"].as_array().into_iter().flatten() {
        found.insert(format!("{path}: required {member}"));
    }
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.insert(format!("{path}: rule {}", rule["rule"].as_str().unwrap()));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        demands(field, &format!("{path}.{name}"), found);
    }
    for (member, of) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[member].is_object() {
            demands(&schema[member], &format!("{path}{of}"), found);
        }
    }
}

/// Whether a rule refuses what was admitted before: it is new, it is about something that was there, and it is not just a limit
/// that was widened.
fn is_stricter(released: &Value, before: &BTreeSet<String>, rule: &str) -> bool {
    let parts = |rule: &str| -> Option<(String, Value)> {
        let (keyword, value) = rule.split_once(": ")?.1.split_once(' ')?;
        let at = rule.len() - value.len();
        (keyword != "rule").then_some((rule[..at].to_owned(), serde_json::from_str(value).ok()?))
    };
    let widened = parts(rule).is_some_and(|(place, now)| {
        let former = before.iter().filter_map(|rule| parts(rule)).find(|(former, _)| *former == place);
        former.is_some_and(|(_, former)| match (&now, &former) {
            (Value::Array(now), Value::Array(former)) => former.iter().all(|value| now.contains(value)),
            (Value::Number(now), Value::Number(former)) if place.contains(" max") => now.as_f64() >= former.as_f64(),
            (Value::Number(now), Value::Number(former)) if place.contains(" min") => now.as_f64() <= former.as_f64(),
            _ => false,
        })
    });
    !before.contains(rule) && existed(released, rule) && !widened
}

/// Whether what a rule is about was there before: of a new field no stack has a value.
fn existed(definition: &Value, rule: &str) -> bool {
    let path = rule.split_once(": ").map_or(rule, |(path, _)| path);
    let mut schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties").unwrap();
    for name in path.split('.') {
        let (field, inner) = name.split_at(name.find(['[', '{']).unwrap_or(name.len()));
        schema = if schema["properties"].is_object() { &schema["properties"][field] } else { &schema[field] };
        for of in inner.as_bytes().chunks(2) {
            schema = if of == b"[]" { &schema["items"] } else { &schema["additionalProperties"] };
        }
    }
    !schema.is_null()
}
