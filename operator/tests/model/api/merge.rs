//! Changes of objects: by server-side apply, and by JSON merge patch.

use serde_json::{Value, json};

use super::{
    fields::{Path, Step, entry},
    schema::{ListType, Schema},
};

/// Puts what is applied over what is there.
pub fn apply(schema: Schema, there: &mut Value, applied: &Value, path: &mut Path) {
    match (there, applied) {
        (Value::Object(there), Value::Object(applied)) if !schema.is_atomic_map(path) => {
            for (name, value) in applied {
                path.push(Step::Field(name.clone()));
                match there.get_mut(name) {
                    Some(before) => apply(schema, before, value, path),
                    None => drop(there.insert(name.clone(), value.clone())),
                }
                path.pop();
            }
        }
        (Value::Array(there), Value::Array(applied)) if schema.list(path) != ListType::Atomic => {
            let kind = schema.list(path);
            for item in applied {
                let step = entry(kind, item);
                match there.iter_mut().find(|before| entry(kind, before) == step) {
                    Some(before) => {
                        path.push(step);
                        apply(schema, before, item, path);
                        path.pop();
                    }
                    None => there.push(item.clone()),
                }
            }
        }
        (there, applied) => *there = applied.clone(),
    }
}

/// Takes a field out.
pub fn remove(schema: Schema, object: &mut Value, path: &[Step]) {
    let Some((last, above)) = path.split_last() else { return };
    let Some(parent) = find(schema, object, above) else { return };
    match (parent, last) {
        (Value::Object(map), Step::Field(name)) => drop(map.remove(name)),
        (Value::Array(items), step) => {
            let kind = schema.list(above);
            items.retain(|item| entry(kind, item) != *step);
        }
        _ => {}
    }
}

fn find<'a>(schema: Schema, object: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    let mut at = object;
    for (depth, step) in path.iter().enumerate() {
        at = match step {
            Step::Field(name) => at.get_mut(name)?,
            other => {
                let kind = schema.list(&path[..depth]);
                at.as_array_mut()?.iter_mut().find(|item| entry(kind, item) == *other)?
            }
        };
    }
    Some(at)
}

/// A JSON merge patch (RFC 7386).
pub fn patch(there: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *there = patch.clone();
        return;
    };
    if !there.is_object() {
        *there = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            there.as_object_mut().map(|there| there.remove(name));
        } else {
            self::patch(&mut there[name], value);
        }
    }
}
