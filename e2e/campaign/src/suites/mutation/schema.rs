//! The schema of a stack's spec as a list of places, and how a value is put at one of them: what is missing on the way is made
//! up from the schema.

use std::fmt;

use anyhow::{Context, Result};
use rorun_e2e::scenarios::kit::project;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// An item of a list, in a place.
const ITEM: &str = "[]";
/// A member of a map, in a place.
const MEMBER: &str = "{}";

/// A value at a place of the spec, as in `api/env/[]/name`; none: left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    /// Where.
    pub(super) place: String,
    /// What.
    pub(super) value: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_ref().map_or("left out".to_owned(), ToString::to_string);
        let short: String = value.chars().take(60).collect();
        write!(formatter, "{} = {short}", self.place)?;
        if short.len() < value.len() { formatter.write_str("...") } else { Ok(()) }
    }
}

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A value without members.
    Leaf,
    /// A list.
    List,
    /// Members of any name.
    Map,
    /// Members of known names.
    Block,
}

/// The schema of the spec.
#[derive(Debug)]
pub(super) struct Schema(Value);

impl Schema {
    /// The one that is checked in.
    pub(super) fn read() -> Result<Schema> {
        let text = std::fs::read_to_string(project().join("crds/rorunstacks.rorun.app.yaml"))?;
        let definition: Value = serde_saphyr::from_str(&text)?;
        let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
        Ok(Schema(spec.context("the definition has no schema of the spec")?.clone()))
    }

    /// Every place below the spec, with its part of the schema. Without the migrations: no Job ends in this suite, so nothing of a
    /// new stack that has one would ever serve, which a stack that served before does.
    pub(super) fn places(&self) -> Vec<(String, &Value)> {
        let mut places = Vec::new();
        walk("", &self.0, &mut places);
        places.retain(|(place, _)| !place.starts_with("api/migrations"));
        places
    }

    /// Puts a value at its place, or takes away what is there.
    pub(super) fn put(&self, spec: &mut Value, change: &Change) {
        let rest: Vec<&str> = change.place.split('/').collect();
        put(spec, &self.0, ("", &rest), change.value.as_ref());
    }
}

/// What a part of the schema describes.
pub(super) fn form(schema: &Value) -> Form {
    match children(schema).first().map(|(name, _)| name.as_str()) {
        None => Form::Leaf,
        Some(ITEM) => Form::List,
        Some(MEMBER) => Form::Map,
        Some(_) => Form::Block,
    }
}

fn children(schema: &Value) -> Vec<(String, &Value)> {
    let mut children = Vec::new();
    if let Some(members) = schema["properties"].as_object() {
        children.extend(members.iter().map(|(name, member)| (name.clone(), member)));
    }
    for (field, name) in [("items", ITEM), ("additionalProperties", MEMBER)] {
        children.extend(schema.get(field).filter(|part| part.is_object()).map(|part| (name.to_owned(), part)));
    }
    children
}

fn child<'a>(schema: &'a Value, name: &str) -> &'a Value {
    const NOTHING: &Value = &Value::Null;
    children(schema).into_iter().find(|(known, _)| known == name).map_or(NOTHING, |(_, schema)| schema)
}

fn walk<'a>(place: &str, schema: &'a Value, places: &mut Vec<(String, &'a Value)>) {
    for (name, part) in children(schema) {
        let place = below(place, &name);
        places.push((place.clone(), part));
        walk(&place, part, places);
    }
}

fn below(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}

fn put(node: &mut Value, schema: &Value, (place, rest): (&str, &[&str]), value: Option<&Value>) {
    let Some((name, rest)) = rest.split_first() else { return };
    let part = child(schema, name);
    let at = below(place, name);
    if *name == ITEM {
        let items = list(node);
        if items.is_empty() && value.is_none() {
            return;
        }
        if items.is_empty() {
            items.push(sample(part, &at));
        }
        match value {
            Some(value) if rest.is_empty() => items[0] = value.clone(),
            None if rest.is_empty() => drop(items.remove(0)),
            _ => put(&mut items[0], part, (&at, rest), value),
        }
        return;
    }
    let key = if *name == MEMBER { member_of(place) } else { name };
    let members = map(node);
    let last = rest.is_empty();
    if value.is_none() {
        // What is not there need not be taken away.
        match members.get_mut(key) {
            Some(there) if !last && !there.is_null() => put(there, part, (&at, rest), value),
            Some(_) => drop(members.remove(key)),
            None => {}
        }
        return;
    }
    beside(place, name, members);
    if let (true, Some(value)) = (last, value) {
        members.insert(key.to_owned(), value.clone());
        return;
    }
    let there = members.entry(key).or_insert(Value::Null);
    if there.is_null() {
        *there = sample(part, &at);
    }
    put(there, part, (&at, rest), value);
}

fn list(node: &mut Value) -> &mut Vec<Value> {
    if !node.is_array() {
        *node = json!([]);
    }
    node.as_array_mut().unwrap_or_else(|| unreachable!("it is a list"))
}

fn map(node: &mut Value) -> &mut Map<String, Value> {
    if !node.is_object() {
        *node = json!({});
    }
    node.as_object_mut().unwrap_or_else(|| unreachable!("it is an object"))
}

/// The member of a map that is changed.
fn member_of(place: &str) -> &'static str {
    if place.contains("/resources/") { "memory" } else { "example.com/x" }
}

/// Members of which only one may be there.
const UNIONS: &[&[&str]] = &[
    &["value", "valueFrom"],
    &["configMapKeyRef", "fieldRef", "resourceFieldRef", "secretKeyRef"],
    &["configMapRef", "secretRef"],
    &["replicas", "autoscaling"],
];

/// What has no meaning without another: the end of the place, the member, and what stands beside it.
const TOGETHER: &[(&str, &str, &str, &str)] = &[
    ("matchExpressions/[]", "values", "operator", r#""In""#),
    ("envFrom/[]", "prefix", "secretRef", r#"{"name": "settings"}"#),
    ("tolerations/[]", "value", "operator", r#""Equal""#),
    ("tolerations/[]", "tolerationSeconds", "effect", r#""NoExecute""#),
    ("podAffinityTerm", "matchLabelKeys", "labelSelector", r#"{"matchLabels": {"app": "x"}}"#),
    ("podAffinityTerm", "mismatchLabelKeys", "labelSelector", r#"{"matchLabels": {"app": "x"}}"#),
    (
        "requiredDuringSchedulingIgnoredDuringExecution/[]",
        "matchLabelKeys",
        "labelSelector",
        r#"{"matchLabels": {"app": "x"}}"#,
    ),
    (
        "requiredDuringSchedulingIgnoredDuringExecution/[]",
        "mismatchLabelKeys",
        "labelSelector",
        r#"{"matchLabels": {"app": "x"}}"#,
    ),
    ("topologySpreadConstraints/[]", "matchLabelKeys", "labelSelector", r#"{"matchLabels": {"app": "x"}}"#),
    ("bucket/external", "tls", "endpoint", r#""https://127.0.0.1:1""#),
    ("destination/external", "tls", "endpoint", r#""https://127.0.0.1:1""#),
    ("redis/external", "tls", "secretRef", r#"{"name": "services", "urlKey": "TLS_URL"}"#),
    ("ingress", "adminHost", "host", r#""api.example.com""#),
];

/// Takes away what may not be beside the member, and adds what must.
fn beside(place: &str, name: &str, members: &mut Map<String, Value>) {
    if let Some(union) = UNIONS.iter().find(|union| union.contains(&name)) {
        members.retain(|other, _| other == name || !union.contains(&other.as_str()));
    }
    for (_, _, other, value) in TOGETHER.iter().filter(|row| place.ends_with(row.0) && row.1 == name) {
        if let Ok(value) = serde_json::from_str(value) {
            members.insert((*other).to_owned(), value);
        }
    }
}

/// Values that mean something, by the end of their place.
const SAMPLES: &[(&str, &str)] = &[
    ("matchFields/[]", r#"{"key": "metadata.name", "operator": "In", "values": ["node"]}"#),
    ("nodeSelectorTerms", r#"[{"matchExpressions": [{"key": "example.com/x", "operator": "Exists"}]}]"#),
    ("tolerations/[]", r#"{"key": "pool", "operator": "Exists"}"#),
    ("matchLabelKeys/[]", r#""pod-template-hash""#),
    ("mismatchLabelKeys/[]", r#""tenant""#),
    ("env/[]/name", r#""EXTRA""#),
    ("env/[]", r#"{"name": "EXTRA"}"#),
    ("configMapKeyRef/name", r#""features""#),
    ("configMapRef/name", r#""features""#),
    ("credentialsSecretRef/name", r#""services""#),
    ("external/secretRef/name", r#""services""#),
    ("caSecretRef/name", r#""authority""#),
    ("KeyRef/key", r#""used""#),
    ("Ref/name", r#""settings""#),
    ("fieldPath", r#""metadata.name""#),
    ("resource", r#""limits.cpu""#),
    ("operator", r#""Exists""#),
    ("topologyKey", r#""kubernetes.io/hostname""#),
    ("whenUnsatisfiable", r#""DoNotSchedule""#),
    ("key", r#""example.com/x""#),
    ("pullSecrets/[]/name", r#""pull""#),
    ("secretName", r#""tls""#),
    ("adminHost", r#""admin.example.com""#),
    ("ocrHost", r#""ocr.example.com""#),
    ("host", r#""api.example.com""#),
    ("endpoint", r#""http://127.0.0.1:1""#),
    ("probeInterval", r#""5m""#),
    ("external/name", r#""files""#),
    ("image", r#""rorun:1""#),
];

/// The smallest value that the schema takes and that means something.
pub(super) fn sample(schema: &Value, place: &str) -> Value {
    let known =
        SAMPLES.iter().find(|(end, _)| place.ends_with(end)).and_then(|(_, text)| serde_json::from_str(text).ok());
    if let Some(known) = known {
        return known;
    }
    match (form(schema), schema["type"].as_str()) {
        (Form::Block, _) => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required.map(|name| (name.to_owned(), sample(child(schema, name), &below(place, name)))).collect()
        }
        (Form::List, _) => json!([]),
        (Form::Map, _) => json!({}),
        (Form::Leaf, Some("integer")) => json!(schema["minimum"].as_i64().unwrap_or(1).max(1)),
        (Form::Leaf, Some("boolean")) => json!(true),
        (Form::Leaf, Some("string")) => json!("x"),
        (Form::Leaf, _) => json!("1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_schema_can_be_reached_from_nothing() {
        let schema = Schema::read().expect("a schema");
        let places = schema.places();
        assert!(places.len() > 800, "{}", places.len());
        for (place, part) in &places {
            let mut spec = json!({});
            let value = sample(part, place);
            schema.put(&mut spec, &Change { place: place.clone(), value: Some(value.clone()) });
            let mut found = &spec;
            for name in place.split('/') {
                found = match name {
                    ITEM => &found[0],
                    MEMBER => found.as_object().and_then(|members| members.values().next()).expect("a member"),
                    name => &found[name],
                };
            }
            assert_eq!(*found, value, "{place}: {spec}");
        }
    }

    #[test]
    fn what_is_taken_away_leaves_the_rest() {
        let schema = Schema::read().expect("a schema");
        let mut spec = json!({"api": {"image": "a", "port": 1}});
        schema.put(&mut spec, &Change { place: "api/port".to_owned(), value: None });
        assert_eq!(spec, json!({"api": {"image": "a"}}));
        schema.put(&mut spec, &Change { place: "api/autoscaling/minReplicas".to_owned(), value: Some(json!(3)) });
        schema.put(&mut spec, &Change { place: "api/replicas".to_owned(), value: Some(json!(3)) });
        assert_eq!(spec, json!({"api": {"image": "a", "replicas": 3}}));
    }
}
