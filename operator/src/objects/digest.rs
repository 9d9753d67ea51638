//! A digest of what this operator desires of an object, and one of what it still owns of it: they are equal when the object is as
//! desired, so the cache needs no body to compare with.
//!
//! `managedFields` of the object lists what an apply set, until another manager sets it: a field that another manager changes is
//! no longer in the entry. So the operator compares just the values that the entry leads to, and ignores those of other managers
//! and the server's defaults (source: <https://kubernetes.io/docs/reference/using-api/server-side-apply/>, format:
//! structured-merge-diff, `fieldpath`).

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::quantity;
use crate::names::annotation;

/// The beginning of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 12]);

impl Digest {
    /// A digest as it is written.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 12];
        if text.len() != 24 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The digest of an object as it is to be sent: the same members in any order have the same one.
    pub fn of(object: &Value) -> Self {
        let mut bytes = Vec::with_capacity(4096);
        exact(object, &mut bytes);
        Self::of_bytes(&bytes)
    }

    /// The digest of anything that can be hashed, for parts that lie side by side.
    pub fn of_parts(parts: &impl Hash) -> Self {
        let mut bytes = Bytes(Vec::with_capacity(4096));
        parts.hash(&mut bytes);
        Self::of_bytes(&bytes.0)
    }

    /// The digest of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut digest = [0; 12];
        digest.copy_from_slice(&Sha256::digest(bytes)[..12]);
        Self(digest)
    }
}

/// All that a hasher is given.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn exact(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            into.push(b'{');
            for (key, member) in in_order(map) {
                into.extend_from_slice(key.as_bytes());
                into.push(0);
                exact(member, into);
            }
            into.push(b'}');
        }
        Value::Array(list) => {
            into.push(b'[');
            for item in list {
                exact(item, into);
            }
            into.push(b']');
        }
        scalar => {
            // Writing to memory cannot fail.
            let _ = serde_json::to_writer(&mut *into, scalar);
            into.push(0);
        }
    }
}

/// The members by their names, as a map of this kind has them already unless a feature of `serde_json` makes it another.
fn in_order(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let sorted = map.keys().is_sorted();
    let mut others: Vec<_> = if sorted { Vec::new() } else { map.iter().collect() };
    others.sort_unstable_by_key(|(key, _)| *key);
    map.iter().filter(move |_| sorted).chain(others)
}

/// The part of a value that counts.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// All of it.
    Whole,
    /// What the fields of a manager lead to.
    Of(&'a Map<String, Value>),
}

/// The digest of what is wanted: of an object as it is sent, without what identifies it.
pub fn wanted(object: &Value) -> Digest {
    let mut bytes = Vec::with_capacity(4096);
    top(object, Part::Whole, &mut bytes);
    Digest::of_bytes(&bytes)
}

/// The digest of what a manager still owns of an object, by the fields of its entry.
pub(super) fn owned(object: &Value, fields: &Value) -> Option<Digest> {
    let mut bytes = Vec::with_capacity(4096);
    top(object, Part::Of(fields.as_object()?), &mut bytes);
    Some(Digest::of_bytes(&bytes))
}

/// Of the metadata only what can be wanted counts: the rest says which object it is, or is the server's.
fn top(object: &Value, part: Part<'_>, into: &mut Vec<u8>) {
    let Some(members) = object.as_object() else { return };
    let metadata = object.get("metadata").and_then(Value::as_object);
    for name in ["annotations", "labels", "ownerReferences"] {
        let Some(value) = metadata.and_then(|metadata| metadata.get(name)) else { continue };
        let part = match part {
            Part::Whole => Part::Whole,
            Part::Of(fields) => {
                match inner(fields, "f:metadata").and_then(|fields| inner(fields, &format!("f:{name}"))) {
                    Some(fields) => within(fields),
                    None => continue,
                }
            }
        };
        let start = into.len();
        into.extend_from_slice(name.as_bytes());
        into.push(0);
        if !feed(value, part, into) {
            into.truncate(start);
        }
    }
    let rest = |key: &str| !matches!(key, "apiVersion" | "kind" | "metadata" | "status");
    feed_members(members, part, rest, into);
}

fn inner<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a Map<String, Value>> {
    fields.get(key)?.as_object()
}

/// A field without fields of its own is owned as a whole.
fn within(fields: &Map<String, Value>) -> Part<'_> {
    if fields.is_empty() { Part::Whole } else { Part::Of(fields) }
}

/// Adds a value in its canonical form. `false`: there is nothing of it.
fn feed(value: &Value, part: Part<'_>, into: &mut Vec<u8>) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => {
            let start = into.len();
            into.push(b'{');
            let any = feed_members(map, part, |key| key != annotation::APPLIED_HASH, into);
            into.push(b'}');
            // Wanted as a whole, an empty one means something: a volume in a folder of the pod's own.
            let counts = any || (matches!(part, Part::Whole) && map.is_empty());
            if !counts {
                into.truncate(start);
            }
            counts
        }
        Value::Array(items) => feed_items(items, part, into),
        scalar => {
            quantity::canonical(scalar, into);
            true
        }
    }
}

fn feed_members(
    members: &Map<String, Value>,
    part: Part<'_>,
    counts: impl Fn(&str) -> bool,
    into: &mut Vec<u8>,
) -> bool {
    let mut any = false;
    let mut field = String::new();
    for (key, member) in in_order(members) {
        if !counts(key) || is_omitted(key, member) {
            continue;
        }
        let part = match part {
            Part::Whole => Part::Whole,
            Part::Of(fields) => {
                field.clear();
                field.push_str("f:");
                field.push_str(key);
                match inner(fields, &field) {
                    Some(fields) => within(fields),
                    None => continue,
                }
            }
        };
        let start = into.len();
        into.extend_from_slice(key.as_bytes());
        into.push(0);
        if feed(member, part, into) {
            any = true;
        } else {
            into.truncate(start);
        }
    }
    any
}

/// Empty texts that the server does not store: the value of a variable and of a toleration, the prefix of variables. Those
/// of a label or of a Secret it does.
fn is_omitted(key: &str, value: &Value) -> bool {
    matches!(key, "value" | "prefix") && value.as_str() == Some("")
}

/// Items that are objects count in any order: most have a key, items of other managers may stand between them, and a manager that
/// changes the order takes ownership of the list. The order of texts and numbers matters.
fn feed_items(items: &[Value], part: Part<'_>, into: &mut Vec<u8>) -> bool {
    let mut digests: Vec<Vec<u8>> = Vec::with_capacity(items.len());
    let mut ordered = Vec::new();
    let entries = match part {
        Part::Whole => None,
        Part::Of(fields) => Some(entries(fields)),
    };
    for (index, item) in items.iter().enumerate() {
        let part = match &entries {
            None => Some(Part::Whole),
            Some(entries) => entries.iter().find(|entry| entry.of.is(index, item)).map(|entry| entry.part),
        };
        let Some(part) = part else { continue };
        if item.is_object() {
            let mut bytes = Vec::new();
            if feed(item, part, &mut bytes) {
                digests.push(bytes);
            }
        } else if feed(item, part, &mut ordered) {
            ordered.push(1);
        }
    }
    if digests.is_empty() && ordered.is_empty() {
        return false;
    }
    digests.sort_unstable();
    into.push(b'[');
    into.extend_from_slice(&ordered);
    for bytes in digests {
        into.extend_from_slice(&bytes);
    }
    into.push(b']');
    true
}

/// An entry for items of a list.
struct FieldsEntry<'a> {
    of: Which,
    part: Part<'a>,
}

/// Which items of a list an entry is about: `k:` names the keys of an object, `v:` is a value, `i:` an index.
enum Which {
    Keyed(Map<String, Value>),
    Equal(Value),
    At(usize),
}

impl Which {
    fn is(&self, index: usize, item: &Value) -> bool {
        match self {
            Self::Keyed(keys) => keys.iter().all(|(key, value)| item.get(key) == Some(value)),
            Self::Equal(value) => value == item,
            Self::At(at) => *at == index,
        }
    }
}

/// The entries of a list, read once for all of its items.
fn entries(fields: &Map<String, Value>) -> Vec<FieldsEntry<'_>> {
    let of = |name: &str| match name.split_once(':')? {
        ("k", keys) => serde_json::from_str(keys).ok().map(Which::Keyed),
        ("v", text) => serde_json::from_str(text).ok().map(Which::Equal),
        ("i", text) => text.parse().ok().map(Which::At),
        _ => None,
    };
    fields
        .iter()
        .filter_map(|(name, inner)| Some(FieldsEntry { of: of(name)?, part: within(inner.as_object()?) }))
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"rorun.app/applied-hash": "0"},
                "ownerReferences": [{"uid": "u", "name": "shop"}]},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "containers": [{"name": "api", "args": ["one", "two"], "cpu": "0.5", "env": [{"name": "E", "value": ""}]}],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "accessModes": ["ReadWriteOnce"],
            },
        })
    }

    fn fields() -> Value {
        json!({
            "f:metadata": {
                "f:labels": {"f:a": {}}, "f:annotations": {"f:rorun.app/applied-hash": {}},
                "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}},
            },
            "f:spec": {
                "f:selector": {},
                "f:containers": {"k:{\"name\":\"api\"}": {".": {}, "f:name": {}, "f:args": {}, "f:cpu": {},
                    "f:env": {"k:{\"name\":\"E\"}": {".": {}, "f:name": {}, "f:value": {}}}}},
                "f:volumes": {"k:{\"name\":\"tmp\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
                "f:accessModes": {"v:\"ReadWriteOnce\"": {}},
            },
        })
    }

    /// The same object as the server gives it back: with defaults, and with what others have added.
    fn stored() -> Value {
        let mut stored = deployment();
        stored["metadata"]["uid"] = json!("1");
        stored["metadata"]["labels"]["theirs"] = json!("x");
        stored["metadata"]["annotations"]["rorun.app/applied-hash"] = json!("1");
        stored["spec"]["replicas"] = json!(3);
        stored["spec"]["containers"] = json!([
            {"name": "sidecar", "image": "i"},
            {"name": "api", "image": "default", "args": ["one", "two"], "cpu": "500m", "env": [{"name": "E"}, {"name": "F", "value": "x"}]},
        ]);
        stored["status"] = json!({"replicas": 3});
        stored
    }

    #[test]
    fn what_is_owned_is_what_was_wanted() {
        assert_eq!(owned(&stored(), &fields()), Some(wanted(&deployment())));
    }

    #[rstest]
    #[case("/metadata/labels/a", json!("c"))]
    #[case("/metadata/ownerReferences/0/uid", json!("v"))]
    #[case("/metadata/ownerReferences/0/name", json!("other"))]
    #[case("/spec/selector/matchLabels/more", json!("x"))]
    #[case("/spec/containers/1/args", json!(["two", "one"]))]
    #[case("/spec/containers/1/cpu", json!("501m"))]
    #[case("/spec/containers/1/env/0/value", json!("x"))]
    #[case("/spec/containers/1/name", json!("other"))]
    #[case("/spec/volumes/0/emptyDir/medium", json!("Memory"))]
    #[case("/spec/accessModes/0", json!("ReadOnlyMany"))]
    fn a_value_that_is_owned_and_differs_is_seen(#[case] pointer: &str, #[case] value: Value) {
        let mut stored = stored();
        let (parent, member) = pointer.rsplit_once('/').expect("a parent");
        match stored.pointer_mut(parent).expect("it is there") {
            Value::Array(items) => items[member.parse::<usize>().expect("an index")] = value,
            parent => parent[member] = value,
        }
        assert_ne!(owned(&stored, &fields()), Some(wanted(&deployment())));
    }

    #[rstest]
    #[case("/f:metadata/f:labels", "f:a")]
    #[case("/f:spec", "f:selector")]
    #[case("/f:spec/f:volumes/k:{\"name\":\"tmp\"}", "f:emptyDir")]
    #[case("/f:spec/f:containers/k:{\"name\":\"api\"}", "f:args")]
    fn a_field_that_somebody_took_is_seen(#[case] parent: &str, #[case] field: &str) {
        let mut fields = fields();
        fields.pointer_mut(parent).and_then(Value::as_object_mut).expect("it is there").remove(field);
        assert_ne!(owned(&stored(), &fields), Some(wanted(&deployment())));
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(&json!({"a": 1, "b": [true, null]}));
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::of(&json!({"b": [true, null], "a": 1})), digest);
        assert_ne!(Digest::of(&json!({"b": [null, true], "a": 1})), digest);
        assert_ne!(Digest::of(&json!(["ab", "c"])), Digest::of(&json!(["a", "bc"])));
        assert_eq!(Digest::parse("é"), None);
    }
}
