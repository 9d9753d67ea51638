//! What a run starts from and what users do in it: a stack, and its children in any state.

use rorun_operator::{api::v1alpha1::RorunStack, objects::DesiredObject};
use serde_json::{Value, json};

use crate::{
    api::{Place, Store, Target},
    support::{self, stack},
};

/// The namespace and the name of the stack.
pub const NAMESPACE: &str = "shop";
/// The name of the stack.
pub const NAME: &str = "rorun";
const OTHER_UID: &str = "99999999-9999-4999-8999-999999999999";

/// In which state a child is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is not there.
    Absent,
    /// It is as it should be, but for the hash.
    Right,
    /// Something in it is other.
    Changed,
    /// It has lost its labels.
    Unlabelled,
    /// An object of the name is there that is nobody's.
    Foreign,
    /// It belongs to an earlier stack of the name.
    Former,
}

/// What users and accidents do while the operator works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another spec.
    Edit(usize),
    /// A child is deleted.
    Delete(usize),
    /// A child is changed.
    Change(usize),
    /// A child loses its labels.
    Unlabel(usize),
    /// Every watch ends.
    Cut,
    /// Every watch ends, and cannot go on from where it was.
    Expire,
    /// Watches tell nothing for a while.
    Hold,
    /// Watches tell again.
    Release,
    /// The operator is killed.
    Kill,
}

/// The specs that runs go through.
pub const SPECS: usize = 6;

/// One of them.
pub fn spec(number: usize) -> Value {
    let fixture = match number {
        0 => stack(NAME),
        1 => stack(NAME)
            .with_all_workloads()
            .set("ingress", json!({"host": "api.example.com", "adminHost": "admin.example.com"})),
        2 => stack(NAME)
            .with_all_workloads()
            .set("admin.autoscaling", json!({"minReplicas": 2}))
            .set("backup", json!({})),
        3 => stack(NAME)
            .with_all_workloads()
            .set("admin.replicas", json!(3))
            .set("admin.env", json!([{"name": "A", "value": "1"}])),
        4 => stack(NAME).set("api.autoscaling", json!({"maxReplicas": 4})).set("api.podLabels", json!({"team": "a"})),
        _ => stack(NAME).with_all_workloads().set("suspend", json!(true)),
    };
    fixture.0["spec"].clone()
}

/// A stack, as the API server stores it, with the children that it would want.
pub fn children(spec: &Value) -> Vec<DesiredObject> {
    let manifest =
        json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": NAME}, "spec": spec});
    support::objects(&support::Fixture(manifest).build())
}

/// The place of the stack.
pub fn stack_place() -> Place {
    Place { resource: "rorun.app/rorunstacks".to_owned(), namespace: NAMESPACE.to_owned(), name: NAME.to_owned() }
}

/// The place of the namespace, whose uid tells backups apart.
pub fn namespace_place() -> Place {
    Place { resource: "/namespaces".to_owned(), namespace: String::new(), name: NAMESPACE.to_owned() }
}

/// The place of a child.
pub fn place(object: &DesiredObject) -> Place {
    let resource = format!("{}/{}", object.kind.group, object.kind.plural);
    Place { resource, namespace: NAMESPACE.to_owned(), name: object.name.clone() }
}

/// The stack that is stored.
pub fn stored(store: &Store) -> RorunStack {
    serde_json::from_value(store.objects[&stack_place()].clone()).expect("a stack")
}

/// A store with a stack of a generation, and its children in some states.
pub fn begin(number: usize, generation: i64, starts: &[Start]) -> Store {
    let mut store = Store::default();
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    store.apply(&target(&namespace_place(), "user").applying(), &namespace, true).expect("a namespace");
    let made = json!({"metadata": {"name": NAME, "generation": generation}, "spec": spec(number)});
    let made = store.apply(&target(&stack_place(), "user").applying(), &made, true).expect("a stack").1;
    store.objects.get_mut(&stack_place()).expect("the stack")["metadata"]["generation"] = json!(generation);
    let uid = made["metadata"]["uid"].as_str().expect("a uid").to_owned();
    for (object, start) in children(&spec(number)).iter().zip(starts.iter().cycle()) {
        if let Some(body) = found(object, *start, &uid) {
            store.apply(&target(&place(object), "rorun-operator").applying(), &body, true).expect("a child");
        }
    }
    store
}

/// Who writes what, by hand.
pub fn target(place: &Place, manager: &str) -> Target {
    Target::by_hand(place, manager)
}

fn found(object: &DesiredObject, start: Start, uid: &str) -> Option<Value> {
    let mut body = object.body.clone();
    let owner = |uid: &str| {
        json!([{"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "name": NAME, "uid": uid, "controller": true,
            "blockOwnerDeletion": true}])
    };
    let retained = object.policy != rorun_operator::objects::ApplyPolicy::Own;
    if retained {
        body["metadata"]["annotations"]["rorun.app/stack-uid"] = json!(uid);
    } else {
        body["metadata"]["ownerReferences"] = owner(uid);
    }
    match start {
        Start::Absent => return None,
        Start::Right => {}
        Start::Changed => change(&mut body),
        Start::Unlabelled => drop(body["metadata"].as_object_mut()?.remove("labels")),
        Start::Foreign => body["metadata"] = json!({"name": object.name}),
        Start::Former if retained => body["metadata"]["annotations"]["rorun.app/stack-uid"] = json!(OTHER_UID),
        Start::Former => body["metadata"]["ownerReferences"] = owner(OTHER_UID),
    }
    Some(body)
}

/// Makes something in an object other: a label, and a field that the operator sets.
pub fn change(body: &mut Value) {
    body["metadata"]["labels"]["app.kubernetes.io/part-of"] = json!("something-else");
    for (at, other) in [
        ("/spec/replicas", json!(7)),
        ("/spec/template/spec/containers/0/image", json!("other:1")),
        ("/spec/schedule", json!("1 1 1 1 1")),
        ("/spec/selector/app.kubernetes.io~1name", json!("other")),
        ("/spec/maxReplicas", json!(99)),
        ("/spec/rules", json!([])),
        ("/data/DATABASE_URL", json!("b3RoZXI=")),
        ("/automountServiceAccountToken", json!(true)),
    ] {
        if let Some(field) = body.pointer_mut(at) {
            *field = other;
        }
    }
}
