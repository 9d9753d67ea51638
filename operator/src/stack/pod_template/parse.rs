//! From JSON to the types of Kubernetes: what is unknown, of the wrong type, or means nothing in this merge is refused.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value};

use super::{Block, Refusal, Replaced};

/// The directive of strategic merge patches, and the only one of its values that is understood.
const PATCH: &str = "$patch";
const REPLACE: &str = "replace";

/// The blocks of a container that can be replaced as a whole.
const BLOCKS: [(&str, Block); 5] = [
    ("securityContext", Block::SecurityContext),
    ("startupProbe", Block::StartupProbe),
    ("readinessProbe", Block::ReadinessProbe),
    ("livenessProbe", Block::LivenessProbe),
    ("lifecycle", Block::Lifecycle),
];

/// The lists of containers.
pub(super) const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

/// A patch in the types of Kubernetes, as plain JSON without directives, and the blocks that it replaces.
pub(super) struct Parsed {
    pub(super) template: PodTemplateSpec,
    pub(super) plain: Value,
    pub(super) replaced: Vec<Replaced>,
}

/// Parses a patch.
pub(super) fn parse(patch: &Map<String, Value>) -> Result<Parsed, Refusal> {
    let mut plain = Value::Object(patch.clone());
    let replaced = replaced(&mut plain);
    has_plain_values(&plain, "")?;
    let typed = serde_path_to_error::deserialize::<_, PodTemplateSpec>(plain.clone());
    let wrong = |error: serde_path_to_error::Error<serde_json::Error>| {
        Refusal::new(format!(".{}", error.path()), wrong_type(&error.inner().to_string()))
    };
    let template = typed.map_err(wrong)?;
    let known = serde_json::to_value(&template).unwrap_or_default();
    is_known(&plain, &known, "")?;
    Ok(Parsed { template, plain, replaced })
}

/// What was expected, without the value: it may be a secret.
fn wrong_type(error: &str) -> String {
    let expected = error.rsplit_once(", expected ").map(|(_, expected)| expected.trim());
    match expected {
        Some(expected) => format!("it must be {expected} (kubectl explain pod)"),
        None => "it has the wrong type (kubectl explain pod)".to_owned(),
    }
}

/// Takes the directives out that are understood.
fn replaced(patch: &mut Value) -> Vec<Replaced> {
    let mut found = Vec::new();
    let Some(spec) = patch.get_mut("spec") else { return found };
    if takes_replace(spec.get_mut("securityContext")) {
        found.push(Replaced { container: None, block: Block::SecurityContext });
    }
    for list in CONTAINERS {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(name) = container.get("name").and_then(Value::as_str).map(str::to_owned) else { continue };
            for (field, block) in BLOCKS {
                if takes_replace(container.get_mut(field)) {
                    found.push(Replaced { container: Some(name.clone()), block });
                }
            }
        }
    }
    found
}

fn takes_replace(block: Option<&mut Value>) -> bool {
    let Some(members) = block.and_then(Value::as_object_mut) else { return false };
    let replaces = members.get(PATCH).and_then(Value::as_str) == Some(REPLACE);
    if replaces {
        members.remove(PATCH);
    }
    replaces
}

/// Neither `null`, which `kubectl apply` drops on the way, nor directives that this merge does not know.
fn has_plain_values(value: &Value, path: &str) -> Result<(), Refusal> {
    match value {
        Value::Null => Err(Refusal::new(
            path,
            "null removes nothing here: leave the field out; to leave out what the operator sets in a securityContext, a probe \
             or lifecycle, write `$patch: replace` in the block beside what it is to hold",
        )),
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            let path = member_path(path, key);
            if key.starts_with('$') {
                return Err(Refusal::new(
                    path,
                    "of the directives only `$patch: replace` is understood, in a securityContext, a probe or lifecycle",
                ));
            }
            has_plain_values(member, &path)
        }),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| has_plain_values(item, &item_path(path, index, item)))
        }
        _ => Ok(()),
    }
}

/// Whether nothing was lost on the way through the types.
fn is_known(value: &Value, known: &Value, path: &str) -> Result<(), Refusal> {
    match (value, known) {
        (Value::Object(members), Value::Object(known)) => members.iter().try_for_each(|(key, member)| {
            let path = member_path(path, key);
            let Some(known) = known.get(key) else {
                return Err(Refusal::new(path, "there is no such field in a pod template (kubectl explain pod)"));
            };
            is_known(member, known, &path)
        }),
        (Value::Array(items), Value::Array(known)) => items
            .iter()
            .zip(known)
            .enumerate()
            .try_for_each(|(index, (item, known))| is_known(item, known, &item_path(path, index, item))),
        _ => Ok(()),
    }
}

/// The path of a member, as users write it.
pub(super) fn member_path(path: &str, key: &str) -> String {
    format!("{path}.{key}")
}

/// The path of an item: by its name if it has one.
pub(super) fn item_path(path: &str, index: usize, item: &Value) -> String {
    match item.get("name").and_then(Value::as_str) {
        Some(name) => format!("{path}[{name}]"),
        None => format!("{path}[{index}]"),
    }
}
