//! `rorun-operator crd`: the `CustomResourceDefinitions`, as `crds/` and the chart ship it.
//!
//! What enters: the schema that the types in `api` lead to. What leaves: YAML, the same bytes each time.

use std::io::{self, Write};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::api::v1alpha1::{NOT_OBSERVED, RorunBackup, RorunRestore, RorunStack};

/// Fields whose types come from Kubernetes. What is below their own fields says nothing about a stack, is found by
/// `kubectl explain pod.spec`, and would be two thirds of the definition: every component with pods has it.
const KUBERNETES_TYPES: [&str; 4] = ["affinity", "tolerations", "topologySpreadConstraints", "valueFrom"];
/// Fields whose schema stands more than three times in the definition.
const REPEATED: [&str; 6] = ["current", "env", "history", "previous", "resources", "target"];

/// Writes the definitions.
pub fn print(out: &mut impl Write) -> io::Result<()> {
    let all = definitions()?.map(|(_, yaml)| yaml);
    out.write_all(all.join("---\n").as_bytes())
}

/// Each definition with its name.
pub fn definitions() -> io::Result<[(&'static str, String); 3]> {
    Ok([
        ("rorunstacks.rorun.app", yaml()?),
        ("rorunbackups.rorun.app", yaml_of(&RorunBackup::crd())?),
        ("rorunrestores.rorun.app", yaml_of(&RorunRestore::crd())?),
    ])
}

/// The definition of RorunStacks.
pub fn yaml() -> io::Result<String> {
    yaml_of(&RorunStack::crd())
}

fn yaml_of(definition: &CustomResourceDefinition) -> io::Result<String> {
    let mut definition = serde_json::to_value(definition)?;
    tidy(&mut definition);
    not_observed(&mut definition);
    let mut flow = Vec::new();
    take_kubernetes_types(&mut definition, &mut flow);
    let text = serde_saphyr::to_string(&definition).map_err(io::Error::other)?;
    // Backwards, since the mark of the tenth begins with that of the first.
    let indexed = flow.iter().enumerate().rev();
    Ok(indexed.fold(text, |text, (index, schema)| text.replace(&mark(index), &schema.to_string())))
}

/// Lets the API server itself say of a new object that nobody has observed it: without a status, kstatus takes it for Current
/// (source: <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>).
fn not_observed(definition: &mut Value) {
    let versions = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        let status = version.pointer_mut("/schema/openAPIV3Schema/properties/status").and_then(Value::as_object_mut);
        if let Some(status) = status {
            status.insert("default".to_owned(), json!({"observedGeneration": NOT_OBSERVED}));
        }
    }
}

/// What stands for a schema that is written in one line.
fn mark(index: usize) -> String {
    format!("kubernetes-type-{index}")
}

/// Takes out the schemas of [`KUBERNETES_TYPES`], which nest so deeply that three quarters of their lines are indentation, and those
/// of [`REPEATED`]. They are written as JSON, which is YAML in the flow style.
fn take_kubernetes_types(value: &mut Value, flow: &mut Vec<Value>) {
    match value {
        Value::Object(members) => {
            for name in KUBERNETES_TYPES.into_iter().chain(REPEATED) {
                let Some(schema) = members.get_mut(name).filter(|schema| schema.is_object()) else { continue };
                let mark = Value::String(mark(flow.len()));
                flow.push(std::mem::replace(schema, mark));
            }
            members.values_mut().for_each(|member| take_kubernetes_types(member, flow));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| take_kubernetes_types(item, flow)),
        _ => {}
    }
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(description)) = members.get_mut("description") {
                *description = unwrapped(description);
            }
            // The server refuses `null` where an enum does not list it, whatever `nullable` says.
            if members.contains_key("enum") {
                members.remove("nullable");
            }
            for bound in ["minimum", "maximum"] {
                if let Some(limit) = members.get_mut(bound) {
                    *limit = whole(limit);
                }
            }
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                for name in KUBERNETES_TYPES {
                    properties.get_mut(name).into_iter().for_each(shorten);
                }
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Takes out the line breaks of the source, which `kubectl explain` would keep. Empty lines stay: they part paragraphs.
fn unwrapped(description: &str) -> String {
    description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// `65535` for `65535.0`: the schema's limits are floats, and that is how the server would print them.
fn whole(limit: &Value) -> Value {
    match limit.as_f64().map(|number| number.to_string()).and_then(|text| text.parse::<i64>().ok()) {
        Some(number) => number.into(),
        None => limit.clone(),
    }
}

/// Keeps the first sentence of the descriptions of a type's own fields and drops the descriptions below.
fn shorten(schema: &mut Value) {
    let object = if schema.get("items").is_some() { schema.get_mut("items") } else { Some(schema) };
    let fields = object.and_then(|object| object.get_mut("properties")).and_then(Value::as_object_mut);
    for member in fields.into_iter().flatten().filter_map(|(_, field)| field.as_object_mut()) {
        if let Some(Value::String(description)) = member.get_mut("description") {
            description.truncate(first_sentence(description).len());
        }
        member.values_mut().for_each(drop_descriptions);
    }
}

/// Up to the first full stop with a capital letter after it, which `e.g.` has not.
fn first_sentence(text: &str) -> &str {
    let begins = |at: usize| text[at + 1..].trim_start().starts_with(|c: char| c.is_ascii_uppercase());
    let end =
        text.match_indices('.').map(|(at, _)| at).find(|at| text[at + 1..].starts_with([' ', '\n']) && begins(*at));
    end.map_or(text, |at| &text[..=at])
}

fn drop_descriptions(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("description").is_some_and(Value::is_string) {
                members.remove("description");
            }
            members.values_mut().for_each(drop_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_descriptions),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{tidy, yaml};

    /// `kubectl apply` keeps what was applied, as JSON, in an annotation, and those may hold 256 KiB in all. Some of it is for others.
    const SIZE_MAX: usize = 250_000;

    fn schema() -> Value {
        let definition: Value = serde_saphyr::from_str(&yaml().expect("YAML")).expect("YAML that can be read");
        let size = definition.to_string().len();
        assert!(size < SIZE_MAX, "{size} bytes");
        definition.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().expect("a schema")
    }

    /// Every field of ours, with its path, without what is inside of types that come from Kubernetes.
    fn fields(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        let object = schema.get("items").unwrap_or(schema);
        for (name, field) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{path}.{name}");
            found.push((path.clone(), field.clone()));
            if !super::KUBERNETES_TYPES.contains(&name.as_str()) {
                fields(field, &path, found);
            }
        }
    }

    #[test]
    fn every_field_of_ours_is_described_in_whole_lines() {
        let mut found = Vec::new();
        fields(&schema(), "", &mut found);
        assert!(found.len() > 200, "{}", found.len());
        for (path, field) in found.iter().filter(|(path, _)| path != ".metadata") {
            let description = field.get("description").and_then(Value::as_str).unwrap_or_default();
            assert!(!description.is_empty(), "{path} is not described");
            assert!(!description.replace("\n\n", "").contains('\n'), "{path}: {description}");
        }
    }

    #[test]
    fn rules_patterns_and_kinds_of_lists_survive() {
        let schema = schema();
        let at = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or_default();
        let api = "/properties/spec/properties/api";
        assert!(at("/x-kubernetes-validations/0/rule").as_str().is_some_and(|rule| rule.contains("metadata.name")));
        assert!(at("/properties/spec/x-kubernetes-validations").as_array().is_some_and(|rules| rules.len() > 10));
        assert!(at(&format!("{api}/x-kubernetes-validations")).is_array());
        let limit = at(&format!("{api}/properties/resources/properties/limits/additionalProperties"));
        assert_eq!(limit.get("x-kubernetes-int-or-string"), Some(&json!(true)));
        assert!(limit.get("pattern").is_some());
        assert_eq!(at(&format!("{api}/properties/port/maximum")).to_string(), "65535");
        assert_eq!(at(&format!("{api}/properties/env/x-kubernetes-list-map-keys")), json!(["name"]));
    }

    #[test]
    fn a_sentence_ends_before_a_capital_letter() {
        for (text, first) in [
            ("One.", "One."),
            ("No stop", "No stop"),
            ("Labels, e.g. a, v1.33 too. More of it.", "Labels, e.g. a, v1.33 too."),
            ("One.\n\nTwo.", "One."),
        ] {
            assert_eq!(super::first_sentence(text), first);
        }
    }

    #[test]
    fn descriptions_below_the_fields_of_kubernetes_types_go() {
        let described = |inner: Value| json!({"description": "d", "properties": inner});
        let mut definition = json!({"properties": {
            "affinity": described(json!({"nodeAffinity": described(json!({"terms": {"description": "d"}}))})),
            "tolerations": {"description": "d", "items": described(json!({"key": {"description": "d", "items": {"description": "d"}}}))},
        }});
        tidy(&mut definition);
        let at = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
        assert_eq!(at("/properties/affinity/properties/nodeAffinity/description"), Some("d"));
        assert_eq!(at("/properties/affinity/properties/nodeAffinity/properties/terms/description"), None);
        assert_eq!(at("/properties/tolerations/items/properties/key/description"), Some("d"));
        assert_eq!(at("/properties/tolerations/items/properties/key/items/description"), None);
    }
}
