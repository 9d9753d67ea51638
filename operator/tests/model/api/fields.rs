//! Sets of fields, as server-side apply keeps them: which an object has, how two objects differ, and their form in
//! `metadata.managedFields` (`fieldsV1`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::schema::{ListType, Schema};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A member of a map.
    Field(String),
    /// An entry of a keyed list: its keys, as JSON.
    Key(String),
    /// An entry of a set: itself, as JSON.
    Value(String),
}

/// The way to a field.
pub type Path = Vec<Step>;
/// Fields.
pub type Set = BTreeSet<Path>;

impl Step {
    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => Some(Self::Key(rest.to_owned())),
            "v" => Some(Self::Value(rest.to_owned())),
            _ => None,
        }
    }
}

/// A path of members.
pub fn path(members: &[&str]) -> Path {
    members.iter().map(|member| Step::Field((*member).to_owned())).collect()
}

/// `fieldsV1` of a set.
pub fn to_v1(set: &Set) -> Value {
    let mut root = json!({});
    for path in set {
        let mut at = &mut root;
        for (depth, step) in path.iter().enumerate() {
            if depth > 0 && set.contains(&path[..depth]) {
                at["."] = json!({});
            }
            let members = at.as_object_mut().expect("a map");
            at = members.entry(step.text()).or_insert_with(|| json!({}));
        }
    }
    root
}

/// The set of a `fieldsV1`.
pub fn from_v1(fields: &Value) -> Set {
    let mut set = Set::new();
    collect_v1(fields, &mut Vec::new(), &mut set);
    set
}

fn collect_v1(fields: &Value, path: &mut Path, set: &mut Set) {
    for (name, below) in fields.as_object().into_iter().flatten() {
        let Some(step) = Step::parse(name) else {
            set.insert(path.clone());
            continue;
        };
        path.push(step);
        if below.as_object().is_none_or(Map::is_empty) {
            set.insert(path.clone());
        } else {
            collect_v1(below, path, set);
        }
        path.pop();
    }
}

/// The set with all that is above its members.
pub fn closure(set: &Set) -> Set {
    set.iter().flat_map(|path| (1..=path.len()).map(|length| path[..length].to_vec())).collect()
}

/// What an applied object names.
pub fn of(schema: Schema, object: &Value) -> Set {
    let mut set = Set::new();
    collect(schema, object, &mut Vec::new(), &mut set);
    set
}

fn collect(schema: Schema, value: &Value, path: &mut Path, set: &mut Set) {
    match children(schema, value, path) {
        None => {
            set.insert(path.clone());
        }
        Some(below) => {
            for (step, child) in below {
                let entry = !matches!(step, Step::Field(_));
                path.push(step);
                if entry {
                    set.insert(path.clone());
                }
                if !matches!(path.last(), Some(Step::Value(_))) {
                    collect(schema, child, path, set);
                }
                path.pop();
            }
        }
    }
}

/// What is below a value. `None`: it is one value.
fn children<'a>(schema: Schema, value: &'a Value, path: &[Step]) -> Option<Vec<(Step, &'a Value)>> {
    match value {
        Value::Object(map) if map.is_empty() || schema.is_atomic_map(path) => None,
        Value::Object(map) => Some(map.iter().map(|(name, child)| (Step::Field(name.clone()), child)).collect()),
        Value::Array(list) => {
            let kind = schema.list(path);
            (kind != ListType::Atomic).then(|| list.iter().map(|item| (entry(kind, item), item)).collect())
        }
        _ => None,
    }
}

/// The step to an entry of a list.
pub fn entry(kind: ListType, item: &Value) -> Step {
    let ListType::Map(keys) = kind else { return Step::Value(item.to_string()) };
    let pairs = keys.iter().map(|(key, default)| {
        let value = item.get(key).cloned().unwrap_or_else(|| json!(default));
        format!("\"{key}\":{value}")
    });
    Step::Key(format!("{{{}}}", pairs.collect::<Vec<_>>().join(",")))
}

/// How a new object differs from the old one.
#[derive(Debug, Default)]
pub struct Difference {
    /// What is new or other.
    pub changed: Set,
    /// What is gone.
    pub removed: Set,
}

/// Compares two objects.
pub fn compare(schema: Schema, old: &Value, new: &Value) -> Difference {
    let mut difference = Difference::default();
    descend(schema, (Some(old), Some(new)), &mut Vec::new(), &mut difference);
    difference
}

fn descend<'a>(
    schema: Schema,
    (old, new): (Option<&'a Value>, Option<&'a Value>),
    path: &mut Path,
    difference: &mut Difference,
) {
    match (old, new) {
        (None, Some(_)) => difference.changed.insert(path.clone()),
        (Some(_), None) => difference.removed.insert(path.clone()),
        (Some(old), Some(new)) if old == new => return,
        _ => false,
    };
    let below = |value: Option<&'a Value>, path: &Path| value.and_then(|value| children(schema, value, path));
    let (before, after) = (below(old, path), below(new, path));
    if old.is_some() && new.is_some() && (before.is_none() && after.is_none()) {
        difference.changed.insert(path.clone());
        return;
    }
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let steps: BTreeSet<Step> = before.iter().chain(&after).map(|(step, _)| step.clone()).collect();
    for step in steps {
        let find = |list: &[(Step, &'a Value)]| list.iter().find(|(other, _)| *other == step).map(|(_, child)| *child);
        let (one, other) = (find(&before), find(&after));
        let leaf = matches!(step, Step::Value(_));
        path.push(step.clone());
        if leaf {
            match (one.is_some(), other.is_some()) {
                (false, true) => drop(difference.changed.insert(path.clone())),
                (true, false) => drop(difference.removed.insert(path.clone())),
                _ => {}
            }
        } else {
            descend(schema, (one, other), path, difference);
        }
        path.pop();
    }
}
