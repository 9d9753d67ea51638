//! The changes of a child by another client: of each field that the operator sets, and of the object as a whole.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Bar;

/// Something that is done to an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Case {
    /// Its kind and name.
    pub(super) object: String,
    /// The change, in words.
    pub(super) what: String,
    /// A change that was made and repaired just before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Value>,
    pub(super) act: Act,
    pub(super) bar: Bar,
}

/// The change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Act {
    /// One of these JSON patches: the first that the API server takes.
    Patch(Vec<Value>),
    /// Another field manager takes fields, by force.
    Take(Value),
    /// It is deleted.
    Delete,
    /// It is deleted, and a finalizer delays its end.
    DeleteHeld,
    /// While no operator runs, it is deleted, and another owner makes an object of the name.
    Replace(Value),
}

impl Case {
    pub(super) fn parts(&self) -> Result<(&str, &str)> {
        self.object.split_once('/').context("an object is a kind and a name")
    }
}

const HASH: &str = "/metadata/annotations/rorun.app~1applied-hash";
const DIGEST: &str = "/metadata/annotations/rorun.app~1credentials-digest";

/// All changes of one object: `sent` is the last apply of the operator, `there` the object at the API server.
pub(super) fn of(kind: &str, sent: &Value, there: &DynamicObject) -> Result<Vec<Case>> {
    let there = serde_json::to_value(there)?;
    let name = there.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let case = |what: &str, act: Act, bar: Bar| Case {
        object: format!("{kind}/{name}"),
        what: what.to_owned(),
        after: None,
        act,
        bar,
    };
    let mut cases = Vec::new();
    let retained = sent.pointer("/metadata/labels/rorun.app~1retained").is_some();
    let mut leaves = BTreeMap::new();
    spread("", sent, &mut leaves);
    leaves.retain(|path, _| there.pointer(path).is_some() && is_for_us(kind, path, retained));
    for path in leaves.keys() {
        let value = there.pointer(path).cloned().unwrap_or_default();
        let bar = match (is_key(path), value.is_object()) {
            (true, _) => Bar::Ours,
            // An empty object has no field to change; a field that is added belongs to its manager.
            (_, true) => Bar::Harmless,
            (false, false) => Bar::Repaired,
        };
        cases.push(case(&format!("{path} is changed"), Act::Patch(changed(path, &value)), bar));
        let removed = json!([{"op": "remove", "path": path}]);
        cases.push(case(&format!("{path} is removed"), Act::Patch(vec![removed]), Bar::Repaired));
    }
    let forged = json!({"op": "add", "path": HASH, "value": "0123456789abcdef01234567"});
    cases.push(case("its hash is forged", Act::Patch(vec![json!([forged])]), Bar::Repaired));
    for path in blinding(kind, &leaves) {
        let value = there.pointer(path).cloned().unwrap_or_default();
        let with = |other: Value| {
            let patches = changed(path, &value).into_iter().map(|patch| with_more(patch, other.clone()));
            Act::Patch(patches.collect())
        };
        cases.push(case(&format!("its hash is forged and {path} changed"), with(forged.clone()), Bar::Repaired));
        let disowned = json!({"op": "add", "path": "/metadata/managedFields", "value": [{}]});
        cases.push(case(&format!("nobody owns its fields and {path} changed"), with(disowned), Bar::Repaired));
        let unlabelled = json!({"op": "remove", "path": "/metadata/labels/app.kubernetes.io~1managed-by"});
        cases.push(case(&format!("it is unlabelled and {path} changed"), with(unlabelled), Bar::Repaired));
        let taken = nested(path, changed_value(path, &value));
        cases.push(case(&format!("another takes {path}"), Act::Take(taken), Bar::Repaired));
        cases.push(case(&format!("another shares {path}"), Act::Take(nested(path, value)), Bar::Harmless));
    }
    let of_stack = if retained { "rorun.app~1stack" } else { "app.kubernetes.io~1instance" };
    let mut twice =
        case("just after a repair it is said to be another's", Act::Patch(relabelled(of_stack)), Bar::Repaired);
    twice.after = relabelled("app.kubernetes.io~1name").pop();
    cases.push(twice);
    let clear = json!([{"op": "add", "path": "/metadata/managedFields", "value": [{}]}]);
    cases.push(case("nobody owns its fields", Act::Patch(vec![clear]), Bar::Harmless));
    cases.extend(metadata(&case, &there, retained));
    cases.extend(additions(kind, &case, &there));
    if !retained {
        cases.extend(ends(kind, &case, &there));
    } else if kind == "Secret" {
        cases.extend(credentials(&case));
    }
    Ok(cases)
}

/// A volume was made with them: nothing else opens it.
fn credentials(case: &dyn Fn(&str, Act, Bar) -> Case) -> Vec<Case> {
    let reported = |reason: &str| Bar::Reported(reason.to_owned());
    // The operator cannot know whether the values or the digest changed.
    let other = json!([{"op": "replace", "path": DIGEST, "value": "0123456789abcdef01234567"}]);
    let none = json!([{"op": "remove", "path": DIGEST}]);
    vec![
        case("it is deleted", Act::Delete, reported("CredentialsLost")),
        case("its digest is changed", Act::Patch(vec![other]), reported("CredentialsChanged")),
        case("its digest is removed", Act::Patch(vec![none]), Bar::Repaired),
    ]
}

/// It goes, in one way or another.
fn ends(kind: &str, case: &dyn Fn(&str, Act, Bar) -> Case, there: &Value) -> Vec<Case> {
    let foreign = foreign(kind, there);
    vec![
        case("it is deleted", Act::Delete, Bar::Repaired),
        case("it is deleted and kept by a finalizer", Act::DeleteHeld, Bar::Reported("Terminating".to_owned())),
        case("another of the name is made", Act::Replace(foreign), Bar::Reported("NameTaken".to_owned())),
    ]
}

/// Labels, owners and finalizers.
fn metadata(case: &dyn Fn(&str, Act, Bar) -> Case, there: &Value, retained: bool) -> Vec<Case> {
    let patch = |value: Value| Act::Patch(vec![value]);
    let mut cases = vec![
        case("its labels are taken off", patch(json!([{"op": "remove", "path": "/metadata/labels"}])), Bar::Repaired),
        case(
            "a finalizer is added",
            patch(json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/mine"]}])),
            Bar::Harmless,
        ),
        case(
            "a label is added",
            patch(json!([{"op": "add", "path": "/metadata/labels/team", "value": "a"}])),
            Bar::Harmless,
        ),
    ];
    if !retained && there.pointer("/metadata/ownerReferences").is_some() {
        let owners = "/metadata/ownerReferences";
        cases.push(case("its owner is taken off", patch(json!([{"op": "remove", "path": owners}])), Bar::Repaired));
        let uid = json!([{"op": "replace", "path": format!("{owners}/0/uid"), "value": "00000000-0000-0000-0000-000000000000"}]);
        cases.push(case("its owner is another", patch(uid), Bar::Reported("Terminating".to_owned())));
    }
    cases
}

/// Entries of lists that belong to the manager that adds them, and members of maps that mean something as a whole.
fn additions(kind: &str, case: &dyn Fn(&str, Act, Bar) -> Case, there: &Value) -> Vec<Case> {
    let add = |path: &str, value: Value| Act::Patch(vec![json!([{"op": "add", "path": path, "value": value}])]);
    let mut cases = Vec::new();
    let template = if kind == "CronJob" { "/spec/jobTemplate/spec/template" } else { "/spec/template" };
    let container = format!("{template}/spec/containers/0");
    if there.pointer(&container).is_some() {
        let variable = json!([{"name": "FOREIGN", "value": "1"}]);
        let has = there.pointer(&format!("{container}/env")).is_some();
        let act = if has {
            add(&format!("{container}/env/-"), variable[0].clone())
        } else {
            add(&format!("{container}/env"), variable)
        };
        cases.push(case("a variable is added", act, Bar::Harmless));
        cases.push(case(
            "a node selector is added",
            add(&format!("{template}/spec/nodeSelector"), json!({"a": "b"})),
            Bar::Either,
        ));
    }
    match kind {
        "Service" => {
            cases.push(case(
                "a port is added",
                add("/spec/ports/-", json!({"name": "foreign", "port": 9})),
                Bar::Harmless,
            ));
            cases.push(case("a label is added to its selector", add("/spec/selector/team", json!("a")), Bar::Repaired));
            cases.push(case("its selector is emptied", add("/spec/selector", json!({})), Bar::Repaired));
        }
        "Secret" | "ConfigMap" => {
            cases.push(case("a key is added", add("/data/FOREIGN", json!("eA==")), Bar::Harmless));
        }
        "Deployment" if there.pointer("/spec/replicas").is_some() => {
            cases.push(case("its replicas are changed", add("/spec/replicas", json!(7)), Bar::Either));
        }
        _ => {}
    }
    cases
}

fn foreign(kind: &str, there: &Value) -> Value {
    let mut foreign = json!({
        "apiVersion": there["apiVersion"], "kind": kind,
        "metadata": {"name": there.pointer("/metadata/name"), "annotations": {"example.com/mine": "yes"}},
    });
    for member in ["spec", "data", "type"] {
        if !there[member].is_null() {
            foreign[member] = there[member].clone();
        }
    }
    // Immutable fields differ, and values that the API server assigned are left out.
    if let Some(spec) = foreign["spec"].as_object_mut() {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
        if matches!(kind, "Deployment" | "StatefulSet") {
            foreign["spec"]["selector"] = json!({"matchLabels": {"mine": "yes"}});
            foreign["spec"]["template"]["metadata"] = json!({"labels": {"mine": "yes"}});
        }
    }
    foreign
}

fn spread(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(name, member)| spread(&format!("{path}/{}", escaped(name)), member, leaves));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, item)| spread(&format!("{path}/{index}"), item, leaves));
        }
        leaf => drop(leaves.insert(path.to_owned(), leaf.clone())),
    }
}

/// Names an object no longer has when they change, what other cases are about, and passwords, which are kept as they are:
/// a running server has them.
fn is_for_us(kind: &str, path: &str, retained: bool) -> bool {
    let elsewhere =
        ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/uid", "/metadata/resourceVersion"];
    let passwords = kind == "Secret" && retained && path.starts_with("/data");
    let named = elsewhere.contains(&path)
        || path == HASH
        || path == DIGEST
        || path.starts_with("/metadata/ownerReferences/0/uid");
    !passwords && !named
}

/// Whether an entry of a list is known by this field (`x-kubernetes-list-map-keys` and merge keys of the Kubernetes API).
fn is_key(path: &str) -> bool {
    const KEYS: [(&str, &[&str]); 7] = [
        ("ports", &["port", "containerPort", "protocol"]),
        ("env", &["name"]),
        ("volumeMounts", &["mountPath"]),
        ("volumes", &["name"]),
        ("containers", &["name"]),
        ("initContainers", &["name"]),
        ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ];
    let mut parts = path.rsplit('/');
    let (field, index, list) = (parts.next(), parts.next(), parts.next());
    index.is_some_and(|index| index.parse::<usize>().is_ok())
        && KEYS.iter().any(|(of, keys)| Some(*of) == list && field.is_some_and(|field| keys.contains(&field)))
}

/// A few fields to be changed together with what could hide it.
fn blinding<'a>(kind: &str, leaves: &'a BTreeMap<String, Value>) -> Vec<&'a str> {
    let ends: &[&str] = match kind {
        "Deployment" | "StatefulSet" => &["/containers/0/image", "/selector/matchLabels/app.kubernetes.io~1name"],
        "CronJob" => &["/spec/schedule", "/containers/0/image"],
        "Service" => &["/selector/app.kubernetes.io~1component", "/ports/0/targetPort", "/ports/0/name"],
        "Secret" => &["/data/DATABASE_URL", "/data/username"],
        "Ingress" => &["/rules/0/host"],
        "HorizontalPodAutoscaler" => &["/spec/maxReplicas"],
        "PodDisruptionBudget" => &["/spec/minAvailable", "/spec/maxUnavailable"],
        "ServiceAccount" => &["/automountServiceAccountToken"],
        _ => &["/metadata/labels/app.kubernetes.io~1version", "/metadata/labels/app.kubernetes.io~1name"],
    };
    leaves.keys().map(String::as_str).filter(|path| ends.iter().any(|end| path.ends_with(end))).collect()
}

/// JSON patches that change a value; which of them makes sense the API server knows.
fn changed(path: &str, value: &Value) -> Vec<Value> {
    others(path, value).into_iter().map(|other| json!([{"op": "replace", "path": path, "value": other}])).collect()
}

/// A JSON patch that changes a label.
fn relabelled(label: &str) -> Vec<Value> {
    vec![json!([{"op": "replace", "path": format!("/metadata/labels/{label}"), "value": "another"}])]
}

fn changed_value(path: &str, value: &Value) -> Value {
    others(path, value).into_iter().next().unwrap_or_default()
}

fn others(path: &str, value: &Value) -> Vec<Value> {
    const WORDS: &[&str] = &[
        "Always",
        "IfNotPresent",
        "Never",
        "OnFailure",
        "UDP",
        "TCP",
        "Allow",
        "Forbid",
        "Replace",
        "Exact",
        "Prefix",
        "ScheduleAnyway",
        "DoNotSchedule",
        "Recreate",
        "OrderedReady",
        "Parallel",
        "NodePort",
        "ClusterIP",
        "HTTPS",
        "Unconfined",
        "NET_ADMIN",
        "Percent",
        "Pods",
        "Min",
        "Max",
        "OnDelete",
        "Etc/UTC",
        "1 1 1 1 1",
        "memory",
        "cpu",
    ];
    match value {
        Value::Bool(yes) => vec![json!(!yes)],
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or_default();
            vec![json!(number + 1), json!(number - 1)]
        }
        Value::String(text) if path.starts_with("/data/") => vec![json!(flipped(text)), json!(format!("{text}x"))],
        Value::String(text) => {
            let mut others = vec![json!(format!("{text}x")), json!(format!("1{text}"))];
            others.extend(WORDS.iter().filter(|word| **word != text).map(|word| json!(word)));
            others
        }
        Value::Object(_) => vec![json!({"sizeLimit": "1Mi"}), json!({"x": "y"})],
        Value::Array(_) => vec![json!(["x"])],
        Value::Null => Vec::new(),
    }
}

/// The same text but for a bit of its first byte, in base64.
fn flipped(text: &str) -> String {
    let mut characters = text.chars();
    let first = match characters.next() {
        Some('A'..='Y' | 'a'..='y' | '0'..='8') => text.chars().next().and_then(|c| char::from_u32(u32::from(c) + 1)),
        Some(_) => Some('A'),
        None => return "eA==".to_owned(),
    };
    first.into_iter().chain(characters).collect()
}

fn with_more(mut patch: Value, other: Value) -> Value {
    if let Some(operations) = patch.as_array_mut() {
        operations.push(other);
    }
    patch
}

/// An object with one field, for server-side apply. Entries of lists are found by a name that is not known here: a path
/// through one is left out.
fn nested(path: &str, value: Value) -> Value {
    let parts: Vec<String> =
        path.trim_start_matches('/').split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
    if parts.iter().any(|part| part.parse::<usize>().is_ok()) {
        return Value::Null;
    }
    parts.into_iter().rev().fold(value, |inner, part| json!({part: inner}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_found_and_can_be_named() {
        let mut leaves = BTreeMap::new();
        let object = json!({"metadata": {"labels": {"a/b": "c"}}, "spec": {"ports": [{"port": 1}], "selector": {}}});
        spread("", &object, &mut leaves);
        let paths: Vec<&str> = leaves.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/metadata/labels/a~1b", "/spec/ports/0/port", "/spec/selector"]);
        assert!(paths.iter().all(|path| object.pointer(path).is_some()));
        assert_eq!(nested(paths[0], json!("d")), json!({"metadata": {"labels": {"a/b": "d"}}}));
        assert_eq!(nested(paths[1], json!(2)), Value::Null);
    }

    #[test]
    fn a_changed_value_is_another() {
        for value in [json!("eA=="), json!("zz"), json!("")] {
            assert!(others("/data/KEY", &value).iter().all(|other| *other != value), "{value}");
        }
        assert!(others("/spec/type", &json!("TCP")).iter().all(|other| *other != json!("TCP")));
        assert_eq!(others("/spec/paused", &json!(true)), [json!(false)]);
    }
}
