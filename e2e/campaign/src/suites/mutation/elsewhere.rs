//! Fields and values whose effect is not in a child, each with the reason.

use serde_json::{Map, Value};

const UNSERVED: &str = "no cluster of this suite serves the kind of the Prometheus Operator";

/// Places of which no value shows in a child, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("environment", "admission refuses every other value"),
    ("database/embedded/version", "admission refuses every other value"),
    ("bucket/embedded/server", "admission refuses every other value"),
    ("bucket/versioning", "the operator writes it to the bucket"),
    ("backup/history", "it is about RorunBackups that the operator made"),
    ("verify/credentialsSecretRef", "the one Secret of this suite has the keys of the bucket"),
    ("backup/objectives/rto", "the status compares the last drill with it"),
    ("suspend", "it keeps everything as it is"),
    ("storage/size", "a volume without a disk cannot grow, and there are no disks here"),
    ("storage/storageClassName", "the class of a volume that is there stays what it is"),
    ("monitoring/labels", UNSERVED),
    ("monitoring/labels/{}", UNSERVED),
    ("monitoring/metricsPath", UNSERVED),
    ("monitoring/interval", UNSERVED),
];

/// What a field is when it is left out: writing it makes no difference.
const DEFAULTS: &[(&str, &str)] = &[
    ("deletionPolicy", r#""Retain""#),
    ("suspend", "false"),
    ("image/pullPolicy", r#""IfNotPresent""#),
    ("redis/embedded/resources/requests/memory", r#""64Mi""#),
    ("redis/embedded/storage/size", r#""1Gi""#),
    ("backup/retention/days", "30"),
    ("backup/retention/minimumKept", "7"),
    ("backup/timeZone", r#""Etc/UTC""#),
    ("region", r#""us-east-1""#),
    ("admin/health/path", r#""/""#),
    ("forcePathStyle", "true"),
    ("optional", "false"),
    ("fieldRef/apiVersion", r#""v1""#),
];

/// Paths within children that keep what they were first, and why nothing else is possible.
const KEPT: &[(&str, &str)] = &[
    ("PersistentVolumeClaim//spec/storageClassName", "Kubernetes takes a class once, and never lets it go"),
    ("PersistentVolumeClaim//spec/resources/requests/storage", "a volume never becomes smaller"),
];

/// Whether no child is expected to show a value of the place.
pub(super) fn is_elsewhere(place: &str) -> bool {
    ELSEWHERE.iter().any(|(end, _)| place.ends_with(end))
}

/// Whether a path of a child keeps what it was first.
pub(super) fn is_kept(path: &str) -> bool {
    KEPT.iter().any(|(kept, _)| *kept == path)
}

/// Whether two specs ask for the same, but for what is left out in one, and empty or at its default in the other.
pub(super) fn alike(one: &Value, other: &Value) -> bool {
    essential(one, "") == essential(other, "")
}

fn essential(value: &Value, place: &str) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| (name, member, format!("{place}/{name}")));
            let members = members.filter(|(_, member, place)| !is_default(member, place));
            let members = members.map(|(name, member, place)| (name.clone(), essential(member, &place)));
            members.filter(|(_, member)| !is_empty(member)).collect()
        }
        Value::Array(items) => items.iter().map(|item| essential(item, place)).collect(),
        scalar => scalar.clone(),
    }
}

fn is_default(value: &Value, place: &str) -> bool {
    let is = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|default| default == *value);
    DEFAULTS.iter().any(|(end, default)| place.ends_with(end) && is(default))
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_is_like_its_default_and_like_nothing_else() {
        let left_out = json!({"api": {"image": "a"}});
        assert!(alike(
            &left_out,
            &json!({"api": {"image": "a", "env": []}, "suspend": false, "image": {"pullPolicy": "IfNotPresent"}})
        ));
        assert!(!alike(&left_out, &json!({"api": {"image": "a"}, "suspend": true})));
    }
}
