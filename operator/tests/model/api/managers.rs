//! Who owns which field: `metadata.managedFields`.

use serde_json::{Value, json};

use super::{
    fields::{self, Set, Step, path},
    merge,
    schema::Schema,
};

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// `fieldManager`.
    pub name: String,
    /// `Apply` or `Update`.
    pub operation: &'static str,
    /// Of the request.
    pub api_version: String,
    /// Whether the status is written.
    pub status: bool,
}

/// Who owns the fields of an object that is applied to for the first time though it was there before.
const BEFORE: &str = "before-first-apply";

struct Entry {
    writer: Writer,
    set: Set,
}

/// An apply: what is there afterwards, or the managers that it would take a field from without force.
pub fn applied(
    schema: Schema,
    there: &Value,
    body: &Value,
    writer: &Writer,
    force: bool,
) -> Result<Value, Vec<String>> {
    let mut entries = read(there);
    if entries.is_empty() {
        let mut set = fields::compare(schema, &json!({}), there).changed;
        drop_ignored(&mut set, writer.status);
        let before = Writer { name: BEFORE.to_owned(), operation: "Update", ..writer.clone() };
        entries.push(Entry { writer: before, set });
    }
    let mut set = fields::of(schema, body);
    drop_ignored(&mut set, writer.status);
    let mut new = there.clone();
    merge::apply(schema, &mut new, body, &mut Vec::new());
    let last = entries.iter().position(|entry| entry.writer == *writer).map(|index| entries.remove(index).set);
    entries.push(Entry { writer: writer.clone(), set });
    if let Some(last) = last {
        let owned: Set = entries.iter().flat_map(|entry| fields::closure(&entry.set)).collect();
        for at in fields::closure(&last).difference(&owned).filter(|at| **at != path(&["metadata"])) {
            merge::remove(schema, &mut new, at);
        }
    }
    schema.drop_empty(&mut new);
    give_up(schema, (there, &new), &mut entries, writer, force)?;
    store(&mut new, entries);
    Ok(new)
}

/// Any other write: what is there afterwards.
pub fn updated(schema: Schema, there: &Value, mut new: Value, writer: &Writer) -> Value {
    schema.drop_empty(&mut new);
    let reset = new.pointer("/metadata/managedFields").and_then(Value::as_array).is_some_and(|all| *all == [json!({})]);
    let mut entries = if reset { Vec::new() } else { read(there) };
    // What nobody ever owned is not begun with, but for what is made.
    if entries.is_empty() && (reset || there.get("metadata").is_some()) {
        store(&mut new, entries);
        return new;
    }
    // Nobody is refused: only an apply without force is.
    let difference = give_up(schema, (there, &new), &mut entries, writer, true).unwrap_or_default();
    let index = entries.iter().position(|entry| entry.writer == *writer);
    let mut set = index.map(|index| entries.remove(index).set).unwrap_or_default();
    set.retain(|path| !difference.removed.contains(path));
    let mut changed = difference.changed;
    drop_ignored(&mut changed, writer.status);
    set.extend(changed);
    entries.push(Entry { writer: writer.clone(), set });
    store(&mut new, entries);
    new
}

/// What was changed is no longer the others', and what is gone is nobody's.
fn give_up(
    schema: Schema,
    (there, new): (&Value, &Value),
    entries: &mut [Entry],
    writer: &Writer,
    force: bool,
) -> Result<fields::Difference, Vec<String>> {
    let difference = fields::compare(schema, &bare(there), &bare(new));
    let mut refused = Vec::new();
    for entry in entries.iter_mut().filter(|entry| entry.writer != *writer) {
        if !force && !entry.set.is_disjoint(&difference.changed) {
            refused.push(entry.writer.name.clone());
        }
        entry.set.retain(|path| !difference.changed.contains(path) && !difference.removed.contains(path));
    }
    if refused.is_empty() { Ok(difference) } else { Err(refused) }
}

/// What nobody owns: what the server sets, and of a resource with a status what the request does not reach.
fn drop_ignored(set: &mut Set, status: bool) {
    const SERVER: [&str; 8] =
        ["name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"];
    set.retain(|at| {
        let Some(Step::Field(first)) = at.first() else { return false };
        match first.as_str() {
            "apiVersion" | "kind" => false,
            "metadata" if status => false,
            "metadata" => at.len() > 1 && !SERVER.iter().any(|name| *at == path(&["metadata", name])),
            "status" => status,
            _ => !status,
        }
    });
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
    }
    object
}

fn read(object: &Value) -> Vec<Entry> {
    let managed = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let entries = managed.into_iter().flatten().map(|entry| {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let writer = Writer {
            name: text("manager"),
            operation: if text("operation") == "Apply" { "Apply" } else { "Update" },
            api_version: text("apiVersion"),
            status: text("subresource") == "status",
        };
        Entry { writer, set: fields::from_v1(&entry["fieldsV1"]) }
    });
    entries.collect()
}

fn store(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.set.is_empty());
    entries.sort_by_key(|entry| (entry.writer.operation, entry.writer.name.clone(), entry.writer.status));
    let managed: Vec<Value> = entries
        .into_iter()
        .map(|entry| {
            let Writer { name, operation, api_version, status } = entry.writer;
            let mut told = json!({"manager": name, "operation": operation, "apiVersion": api_version,
                "fieldsType": "FieldsV1", "fieldsV1": fields::to_v1(&entry.set)});
            if status {
                told["subresource"] = json!("status");
            }
            told
        })
        .collect();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if !managed.is_empty() {
            metadata.insert("managedFields".to_owned(), Value::Array(managed));
        }
    }
}
