//! Whether an object is already as it should be.

use std::fmt::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// A short hash of an object. Members are sorted, so that equal objects have equal hashes.
pub fn hash(object: &Value) -> String {
    let mut hash = Sha256::new();
    feed(object, &mut hash);
    hash.finalize()[..12].iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn feed(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            hash.update([b'{']);
            for (key, member) in members {
                hash.update(key.as_bytes());
                hash.update([0]);
                feed(member, hash);
            }
            hash.update([b'}']);
        }
        Value::Array(list) => {
            hash.update([b'[']);
            for item in list {
                feed(item, hash);
            }
            hash.update([b']']);
        }
        scalar => {
            hash.update(scalar.to_string().as_bytes());
            hash.update([0]);
        }
    }
}

/// Whether `live` holds all that `desired` says. Members and list entries that `desired` does not name are somebody else's:
/// defaults of the server, or another field manager's.
pub fn contains(live: &Value, desired: &Value) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => desired.iter().all(|(key, wanted)| match live.get(key) {
            None => is_empty(wanted) || is_omitted(key, wanted),
            Some(there) if ATOMIC.contains(&key.as_str()) => same_members(there, wanted) && contains(there, wanted),
            Some(there) => contains(there, wanted),
        }),
        (Value::Array(desired), Value::Array(live)) => lists_contain(live, desired),
        (Value::String(desired), Value::String(live)) => desired == live || same_quantity(desired, live),
        (Value::Number(desired), Value::String(live)) => same_quantity(&desired.to_string(), live),
        (desired, live) => desired == live,
    }
}

/// Maps that mean something as a whole (`x-kubernetes-map-type: atomic`): with one more label a selector selects nothing.
const ATOMIC: [&str; 3] = ["selector", "matchLabels", "nodeSelector"];

fn same_members(one: &Value, other: &Value) -> bool {
    one.as_object().map(serde_json::Map::len) == other.as_object().map(serde_json::Map::len)
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Empty texts that the server does not store: the value of a variable and of a toleration, the prefix of variables. Those
/// of a label or of a Secret it does.
fn is_omitted(key: &str, value: &Value) -> bool {
    matches!(key, "value" | "prefix") && value.as_str() == Some("")
}

/// Lists whose entries have a key of their own are maps to server-side apply: entries are found by it, and others may be
/// there. Every other list must be the same from end to end.
fn lists_contain(live: &[Value], desired: &[Value]) -> bool {
    // From the merge keys of the Kubernetes API: containers, volumes and env; mounts; container ports; service ports;
    // topology spread; owner references.
    const KEYS: [&str; 6] = ["name", "mountPath", "containerPort", "port", "topologyKey", "uid"];
    let key = KEYS.into_iter().find(|key| !desired.is_empty() && desired.iter().all(|item| item.get(key).is_some()));
    match key {
        Some(key) => desired
            .iter()
            .all(|wanted| live.iter().any(|there| there.get(key) == wanted.get(key) && contains(there, wanted))),
        None => live.len() == desired.len() && live.iter().zip(desired).all(|(there, wanted)| contains(there, wanted)),
    }
}

/// `0.5` and `500m` are the same: the server stores amounts in a canonical form.
fn same_quantity(one: &str, other: &str) -> bool {
    match (nanos(one), nanos(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// An amount in billionths (source of the suffixes: k8s.io/apimachinery, pkg/api/resource/suffix.go).
fn nanos(text: &str) -> Option<i128> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [(&str, u32); 10] =
        [("n", 0), ("u", 3), ("m", 6), ("", 9), ("k", 12), ("M", 15), ("G", 18), ("T", 21), ("P", 24), ("E", 27)];
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let factor = if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        1024_i128.checked_pow(u32::try_from(power).ok()? + 1)?.checked_mul(1_000_000_000)?
    } else if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        10_i128.checked_pow(*power)?
    } else {
        let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.trim_start_matches('+').parse().ok()?;
        10_i128.checked_pow(exponent.checked_add(9)?)?
    };
    Some(digits.checked_mul(factor)? / scale)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"a": 1}), json!({"a": 1, "b": 2}), true)]
    #[case(json!({"a": 1}), json!({"b": 2}), false)]
    #[case(json!({"emptyDir": {}}), json!({"emptyDir": {"medium": ""}}), true)]
    #[case(json!([{"name": "a", "v": 1}]), json!([{"name": "b"}, {"name": "a", "v": 1, "w": 2}]), true)]
    #[case(json!([{"name": "a", "v": 1}]), json!([{"name": "a", "v": 2}]), false)]
    #[case(json!(["a"]), json!(["a", "b"]), false)]
    #[case(json!({"cpu": "0.5"}), json!({"cpu": "500m"}), true)]
    #[case(json!({"memory": "1024Mi"}), json!({"memory": "1Gi"}), true)]
    #[case(json!({"memory": "1G"}), json!({"memory": "1Gi"}), false)]
    #[case(json!({"image": "a:1"}), json!({"image": "a:2"}), false)]
    #[case(json!({"x": "1e3"}), json!({"x": "1k"}), true)]
    #[case(json!({"selector": {"a": "b"}}), json!({"selector": {"a": "b", "c": "d"}}), false)]
    #[case(json!({"labels": {"a": "b"}}), json!({"labels": {"a": "b", "c": "d"}}), true)]
    #[case(json!([{"name": "a", "value": ""}]), json!([{"name": "a"}]), true)]
    #[case(json!({"data": {"KEY": ""}}), json!({"data": {}}), false)]
    fn live_contains_desired(#[case] desired: Value, #[case] live: Value, #[case] expected: bool) {
        assert_eq!(contains(&live, &desired), expected);
    }

    #[test]
    fn hashes_do_not_depend_on_the_order_of_members_but_on_that_of_lists() {
        assert_eq!(hash(&json!({"a": 1, "b": 2})), hash(&json!({"b": 2, "a": 1})));
        assert_ne!(hash(&json!([1, 2])), hash(&json!([2, 1])));
        assert_ne!(hash(&json!(["ab", "c"])), hash(&json!(["a", "bc"])));
    }
}
