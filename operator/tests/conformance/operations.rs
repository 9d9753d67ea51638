//! Random sequences of operations on one object, the same to both servers.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::pair::{Answer, Call, NAMESPACE, Pair};

/// Sequences for each kind.
const SEQUENCES: usize = 40;

/// A kind, and where it is.
#[derive(Clone, Copy, Debug)]
struct Kind {
    api_version: &'static str,
    name: &'static str,
    path: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind { api_version: "v1", name: "ConfigMap", path: "/api/v1/namespaces/conformance/configmaps" },
    Kind { api_version: "v1", name: "Secret", path: "/api/v1/namespaces/conformance/secrets" },
    Kind {
        api_version: "rorun.app/v1alpha1",
        name: "RorunStack",
        path: "/apis/rorun.app/v1alpha1/namespaces/conformance/rorunstacks",
    },
];

/// What the request says about the object that is there.
#[derive(Clone, Copy, Debug)]
enum Expects {
    Nothing,
    Uid,
    OtherUid,
    Version,
    OldVersion,
}

#[derive(Clone, Debug)]
enum Operation {
    Create(Value),
    Apply(&'static str, bool, Expects, Value),
    Merge(&'static str, Expects, Value),
    ApplyStatus(&'static str, Expects, Value),
    MergeStatus(Value),
    Forget,
    Delete(Expects),
}

/// Plays each sequence, comparing answer by answer.
pub async fn sequences_get_the_same_answers(pair: &Pair) {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let (mut calls, mut codes) = (0, std::collections::BTreeMap::<u16, u32>::new());
    for kind in KINDS {
        for number in 0..SEQUENCES {
            let sequence = vec(operations(kind), 4..14).new_tree(&mut runner).unwrap().current();
            let name = format!("object-{number}");
            let mut told = Vec::new();
            for operation in &sequence {
                let call = call(kind, &name, operation);
                told.push(format!("{} {} {}", call.method, call.path, call.body));
                let (real, model) = pair.call(&call).await;
                same(&told, &real, &model);
                let look = get(kind, &name);
                let (real_object, model_object) = pair.call(&look).await;
                same(&told, &real_object, &model_object);
                calls += 2;
                *codes.entry(real.0).or_default() += 1;
            }
        }
    }
    println!("{calls} answers were the same; of writes by code: {codes:?}");
    for code in [200, 201, 404, 409] {
        assert!(codes.contains_key(&code), "no operation was answered with {code}");
    }
}

fn same(told: &[String], real: &Answer, model: &Answer) {
    let (real, model) = ((real.0, masked(&real.1)), (model.0, masked(&model.1)));
    assert_eq!(
        real,
        model,
        "after\n{}\nreal:  {}\nmodel: {}",
        told.join("\n"),
        serde_json::to_string_pretty(&real.1).unwrap(),
        serde_json::to_string_pretty(&model.1).unwrap()
    );
}

/// Without what no two servers have in common. Of a refusal its code and reason; keyed lists in the order of their keys.
fn masked(answer: &Value) -> Value {
    if answer["kind"] == "Status" {
        return json!({"code": answer["code"], "reason": answer["reason"]});
    }
    let mut answer = answer.clone();
    if let Some(metadata) = answer.get_mut("metadata").and_then(Value::as_object_mut) {
        for member in ["uid", "resourceVersion", "creationTimestamp"] {
            metadata.remove(member);
        }
        if let Some(deleted) = metadata.get_mut("deletionTimestamp") {
            *deleted = json!("some time");
        }
        if let Some(Value::Array(managers)) = metadata.get_mut("managedFields") {
            for manager in managers.iter_mut() {
                manager.as_object_mut().unwrap().remove("time");
            }
            managers.sort_by_key(Value::to_string);
        }
    }
    sort(&mut answer);
    answer
}

fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(sort),
        Value::Array(list) => {
            list.iter_mut().for_each(sort);
            if list
                .iter()
                .all(|item| ["name", "type", "uid"].iter().any(|key| item.get(key).is_some()) || item.is_string())
            {
                list.sort_by_key(Value::to_string);
            }
        }
        _ => {}
    }
}

fn get(kind: Kind, name: &str) -> Call {
    let path = format!("{}/{name}", kind.path);
    Call { method: "GET", path: path.clone(), content: "", body: Value::Null, object: path }
}

fn call(kind: Kind, name: &str, operation: &Operation) -> Call {
    let object = format!("{}/{name}", kind.path);
    let typed = |content: &Value, expects: Expects| {
        let mut body = content.clone();
        body["apiVersion"] = json!(kind.api_version);
        body["kind"] = json!(kind.name);
        body["metadata"]["name"] = json!(name);
        body["metadata"]["namespace"] = json!(NAMESPACE);
        // The one default among these kinds.
        if kind.name == "Secret" {
            body["type"] = json!("Opaque");
        }
        expecting(body, expects)
    };
    let (method, path, content, body) = match operation {
        Operation::Create(content) => {
            ("POST", format!("{}?fieldManager=maker", kind.path), "application/json", typed(content, Expects::Nothing))
        }
        Operation::Apply(manager, force, expects, content) => {
            let path = format!("{object}?fieldManager={manager}&force={force}");
            ("PATCH", path, "application/apply-patch+yaml", typed(content, *expects))
        }
        Operation::Merge(manager, expects, patch) => {
            let at = format!("{object}?fieldManager={manager}");
            ("PATCH", at, "application/merge-patch+json", expecting(patch.clone(), *expects))
        }
        Operation::ApplyStatus(manager, expects, content) => {
            let path = format!("{object}/status?fieldManager={manager}&force=true");
            ("PATCH", path, "application/apply-patch+yaml", typed(content, *expects))
        }
        Operation::MergeStatus(patch) => {
            let at = format!("{object}/status?fieldManager=other");
            ("PATCH", at, "application/merge-patch+json", patch.clone())
        }
        Operation::Forget => {
            let patch = json!({"metadata": {"managedFields": [{}]}});
            ("PATCH", format!("{object}?fieldManager=forgetful"), "application/merge-patch+json", patch)
        }
        Operation::Delete(expects) => {
            let wanted = expecting(json!({}), *expects);
            let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": wanted["metadata"]});
            ("DELETE", object.clone(), "application/json", options)
        }
    };
    Call { method, path, content, body, object }
}

fn expecting(mut body: Value, expects: Expects) -> Value {
    let (member, value) = match expects {
        Expects::Nothing => return body,
        Expects::Uid => ("uid", "$uid"),
        Expects::OtherUid => ("uid", "11111111-1111-4111-8111-111111111111"),
        Expects::Version => ("resourceVersion", "$version"),
        Expects::OldVersion => ("resourceVersion", "1"),
    };
    body["metadata"][member] = json!(value);
    body
}

fn operations(kind: Kind) -> BoxedStrategy<Operation> {
    let expects = || {
        select(vec![
            Expects::Nothing,
            Expects::Nothing,
            Expects::Nothing,
            Expects::Uid,
            Expects::OtherUid,
            Expects::Version,
            Expects::OldVersion,
        ])
    };
    let manager = || select(vec!["rorun-operator", "user"]);
    let common = prop_oneof![
        2 => contents(kind).prop_map(Operation::Create),
        8 => (manager(), prop::bool::weighted(0.8), expects(), contents(kind))
            .prop_map(|(manager, force, expects, content)| Operation::Apply(manager, force, expects, content)),
        4 => (manager(), expects(), patches(kind))
            .prop_map(|(manager, expects, patch)| Operation::Merge(manager, expects, patch)),
        1 => Just(Operation::Forget),
        2 => expects().prop_map(Operation::Delete),
    ];
    if kind.name != "RorunStack" {
        return common.boxed();
    }
    prop_oneof![
        4 => common,
        1 => (manager(), expects(), statuses())
            .prop_map(|(manager, expects, status)| Operation::ApplyStatus(manager, expects, json!({"status": status}))),
        1 => statuses().prop_map(|status| Operation::MergeStatus(json!({"status": status}))),
    ]
    .boxed()
}

type Members = Vec<(&'static str, Option<&'static str>)>;

fn members() -> impl Strategy<Value = Members> {
    vec((select(vec!["a", "b", "c"]), option::weighted(0.8, select(vec!["x", "y"]))), 0..3)
}

/// As a map. Members without a value are left out, or taken out by a patch.
fn map(members: &Members, patch: bool) -> Value {
    let mut map = json!({});
    for (key, value) in members {
        // Values of a Secret are base64, which these are when they are of four letters.
        match value {
            Some(value) => map[*key] = json!(value.repeat(4)),
            None if patch => map[*key] = Value::Null,
            None => {}
        }
    }
    map
}

/// Metadata: labels, annotations, finalizers and owners, each there or not.
fn metadata(patch: bool) -> impl Strategy<Value = Value> {
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "22222222-2222-4222-8222-222222222222"});
    let finalizers = select(vec![json!([]), json!(["example.com/a"]), json!(["example.com/a", "example.com/b"])]);
    (option::of(members()), option::of(members()), option::weighted(0.3, finalizers), prop::bool::weighted(0.3))
        .prop_map(move |(labels, annotations, finalizers, owned)| {
            let mut metadata = json!({});
            // An empty map is one value to an apply, and the operator never sends one.
            for (member, members) in [("labels", labels), ("annotations", annotations)] {
                if let Some(members) = members.map(|members| map(&members, patch)).filter(|map| *map != json!({})) {
                    metadata[member] = members;
                }
            }
            if let Some(finalizers) = finalizers.filter(|finalizers| patch || *finalizers != json!([])) {
                metadata["finalizers"] = finalizers;
            }
            if owned {
                metadata["ownerReferences"] = json!([owner.clone()]);
            }
            metadata
        })
}

fn contents(kind: Kind) -> BoxedStrategy<Value> {
    if kind.name == "RorunStack" {
        return (metadata(false), specs())
            .prop_map(|(metadata, spec)| json!({"metadata": metadata, "spec": spec}))
            .boxed();
    }
    (metadata(false), members())
        .prop_map(|(metadata, data)| {
            let data = map(&data, false);
            if data == json!({}) { json!({"metadata": metadata}) } else { json!({"metadata": metadata, "data": data}) }
        })
        .boxed()
}

fn patches(kind: Kind) -> BoxedStrategy<Value> {
    if kind.name == "RorunStack" {
        return (metadata(true), select(vec!["one:1", "two:2"]))
            .prop_map(|(metadata, image)| json!({"metadata": metadata, "spec": {"api": {"image": image}}}))
            .boxed();
    }
    (metadata(true), members())
        .prop_map(|(metadata, data)| {
            let data = map(&data, true);
            if data == json!({}) { json!({"metadata": metadata}) } else { json!({"metadata": metadata, "data": data}) }
        })
        .boxed()
}

/// Specs with a map and a keyed list.
fn specs() -> impl Strategy<Value = Value> {
    let env = vec((select(vec!["A", "B", "C"]), select(vec!["1", "2"])), 0..3);
    (select(vec!["one:1", "two:2"]), env, members(), option::of(1..3)).prop_map(|(image, env, labels, replicas)| {
        let mut spec = json!({"environment": "Development", "api": {"image": image}});
        let env: std::collections::BTreeMap<_, _> = env.into_iter().collect();
        if !env.is_empty() {
            let env: Vec<_> = env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            spec["api"]["env"] = json!(env);
        }
        let labels = map(&labels, false);
        if labels != json!({}) {
            spec["api"]["podLabels"] = labels;
        }
        if let Some(replicas) = replicas {
            spec["api"]["replicas"] = json!(replicas);
        }
        spec
    })
}

fn statuses() -> impl Strategy<Value = Value> {
    let condition = |kind: &'static str| {
        select(vec!["True", "False"]).prop_map(move |status| {
            json!({"type": kind, "status": status, "reason": "Some", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
        })
    };
    (option::of(condition("Ready")), option::of(condition("ApiReady")), 1..3).prop_map(|(ready, api, seen)| {
        let conditions: Vec<Value> = [ready, api].into_iter().flatten().collect();
        json!({"observedGeneration": seen, "conditions": conditions})
    })
}
