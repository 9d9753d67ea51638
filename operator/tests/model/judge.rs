//! What must hold of everything that the operator did, and of the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::ByteString;
use rorun_operator::{
    api::v1alpha1::RorunStack,
    desired,
    names::{Component, ObjectName, ROLE_CREDENTIALS},
    objects::{ApplyPolicy, DesiredObject, KINDS, LiveObject, LiveSet, Role},
    stack::{self, CredentialState, Observed, SecretData},
};
use serde_json::Value;

use crate::{
    api::{Change, Place, Store},
    support::AGENT_IMAGE,
    world::{self, NAME, NAMESPACE, place, stack_place, stored},
};

/// Judges what was done, but for what users did: `by_hand` are the versions that they made.
pub fn history(store: &Store, by_hand: &BTreeSet<u64>) -> Result<(), String> {
    let uid = text(&store.objects[&stack_place()], "/metadata/uid");
    let mut there: BTreeMap<&Place, &Value> = BTreeMap::new();
    let mut known: BTreeMap<&Place, Vec<&Value>> = BTreeMap::new();
    for change in &store.history {
        if !by_hand.contains(&change.revision) {
            allowed(change, &uid, &there, &known).map_err(|why| format!("version {}: {why}", change.revision))?;
        }
        match &change.after {
            Some(after) => {
                there.insert(&change.place, after);
                known.entry(&change.place).or_default().push(&after["data"]);
            }
            None => drop(there.remove(&change.place)),
        }
    }
    Ok(())
}

fn allowed(
    change: &Change,
    uid: &str,
    there: &BTreeMap<&Place, &Value>,
    known: &BTreeMap<&Place, Vec<&Value>>,
) -> Result<(), String> {
    let Place { resource, name, .. } = &change.place;
    if *change.place.resource == *stack_place().resource {
        return status(change);
    }
    if resource.ends_with("events") {
        return Ok(());
    }
    let credentials = resource == "/secrets" && name.ends_with(ROLE_CREDENTIALS.as_str());
    match (&change.before, &change.after) {
        (Some(before), _) if !is_ours(before, uid) => Err(format!("{resource} {name} is foreign and was written")),
        (Some(_), None) if credentials || resource == "/persistentvolumeclaims" => {
            Err(format!("{resource} {name} is data and was deleted"))
        }
        (Some(before), Some(after)) if credentials && before["data"] != after["data"] => {
            Err(format!("the content of {name} was changed"))
        }
        (None, Some(after)) if credentials => {
            let volume = name.trim_end_matches(ROLE_CREDENTIALS.as_str()).trim_end_matches('-').to_owned();
            let volume = Place { resource: "/persistentvolumeclaims".to_owned(), name: volume, ..change.place.clone() };
            let again = known.get(&change.place).is_some_and(|all| all.contains(&&after["data"]));
            if there.contains_key(&volume) && !again {
                return Err(format!("{name} was made up though its volume was there"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A status speaks of no older spec than the one before it.
fn status(change: &Change) -> Result<(), String> {
    let seen = |object: &Option<Value>| {
        object.as_ref().and_then(|object| object.pointer("/status/observedGeneration")).and_then(Value::as_i64)
    };
    if seen(&change.after) < seen(&change.before) {
        return Err(format!("observedGeneration fell from {:?} to {:?}", seen(&change.before), seen(&change.after)));
    }
    let spec = |object: &Option<Value>| object.as_ref().map(|object| object["spec"].clone());
    if change.after.is_none() || spec(&change.before) != spec(&change.after) {
        return Err("the spec of the stack was written".to_owned());
    }
    Ok(())
}

fn is_ours(object: &Value, uid: &str) -> bool {
    let owner = object.pointer("/metadata/ownerReferences/0/uid").and_then(Value::as_str);
    let label = |key: &str| object["metadata"]["labels"][key].as_str();
    match owner {
        Some(owner) => owner == uid,
        None => {
            object["metadata"]["annotations"]["rorun.app/stack-uid"] == uid
                || (label("app.kubernetes.io/managed-by") == Some("rorun-operator")
                    && [label("rorun.app/stack"), label("app.kubernetes.io/instance")].contains(&Some(NAME)))
        }
    }
}

/// Judges the end: everything that is wanted is there as it is wanted, nothing else of ours is, and the status says so.
pub fn end(store: &Store) -> Result<(), String> {
    let cr = stored(store);
    let seen = cr.status.as_ref().and_then(|status| status.observed_generation);
    if seen != cr.metadata.generation {
        return Err(format!("the status speaks of {seen:?}, not of {:?}", cr.metadata.generation));
    }
    let uid = cr.metadata.uid.clone().unwrap_or_default();
    let observed = observed(store, &cr);
    let stack = stack::validate(&cr, &observed);
    if stack.suspend {
        return Ok(());
    }
    let live = live(store);
    let wanted = desired::desired(&stack, &live);
    // Where credentials cannot be stored, nothing that comes after them is made.
    let refused = |object: &&DesiredObject| {
        store.objects.get(&place(object)).is_some_and(|there| !can_be_ours(object, there, &uid))
    };
    let stopped = wanted.objects.iter().any(|object| object.policy == ApplyPolicy::CreateOnce && refused(&object));
    for object in &wanted.objects {
        let later = object.kind.rank > 1 || (object.kind.rank == 1 && object.policy != ApplyPolicy::CreateOnce);
        if (stopped && later) || refused(&object) {
            continue;
        }
        let Some(there) = store.objects.get(&place(object)) else { return Err(format!("{} is missing", object.key())) };
        if let Some(at) = differs(&object.body, there, String::new()) {
            return Err(format!("{} is not as wanted at {at}: {there:#}", object.key()));
        }
    }
    if stopped {
        return Ok(());
    }
    let keys: BTreeSet<_> = wanted.objects.iter().map(DesiredObject::key).collect();
    let held: BTreeSet<_> = wanted.waiting.keys().map(ToString::to_string).collect();
    let left = live.iter().find(|there| {
        let owned = there.owner.as_ref().is_some_and(|owner| owner.uid == uid);
        owned && !there.retained && !keys.contains(&there.key()) && !held.contains(there.component)
    });
    left.map_or(Ok(()), |left| Err(format!("{} is left over", left.key())))
}

/// An object of the name may be taken over: data by label or annotation, others by owner or, if they have none, by label.
fn can_be_ours(object: &DesiredObject, there: &Value, uid: &str) -> bool {
    let owned = there.pointer("/metadata/ownerReferences/0/uid").is_some();
    match object.policy {
        ApplyPolicy::Own if !owned => there["metadata"]["labels"]["app.kubernetes.io/instance"] == NAME,
        ApplyPolicy::Own => is_ours(there, uid),
        _ => !owned && is_ours(there, uid),
    }
}

/// Where something that is wanted is missing or other. Maps may hold more.
fn differs(wanted: &Value, there: &Value, at: String) -> Option<String> {
    match (wanted, there) {
        (Value::Object(wanted), Value::Object(there)) => wanted.iter().find_map(|(name, wanted)| {
            let at = format!("{at}/{name}");
            match there.get(name) {
                Some(there) => differs(wanted, there, at),
                None => (name != "apiVersion" && name != "kind").then_some(at),
            }
        }),
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => wanted
            .iter()
            .zip(there)
            .enumerate()
            .find_map(|(index, (wanted, there))| differs(wanted, there, format!("{at}/{index}"))),
        (wanted, there) => (wanted != there).then_some(at),
    }
}

/// What the operator would see of the store once its caches are current.
pub fn live(store: &Store) -> LiveSet {
    let children = KINDS.iter().filter(|kind| kind.role == Role::Child).flat_map(|kind| {
        let resource = format!("{}/{}", kind.group, kind.plural);
        let of_kind = store.objects.iter().filter(move |(place, _)| place.resource == resource);
        of_kind.filter_map(move |(_, object)| LiveObject::whole(kind, object.clone()))
    });
    children.filter(|live| live.labelled_ours && *live.instance == *NAME).map(Arc::new).collect()
}

fn observed(store: &Store, cr: &RorunStack) -> Observed {
    let namespace = &store.objects[&world::namespace_place()];
    let owner = format!("{}/{NAME}", text(namespace, "/metadata/uid"));
    let backup_owner = stack::backed_up(&cr.spec).then_some(owner);
    let mut observed = Observed { agent_image: AGENT_IMAGE.to_owned(), backup_owner, ..Observed::default() };
    for component in stack::embedded(cr) {
        let at = |resource: &str, name: ObjectName| {
            let place = Place { resource: resource.to_owned(), namespace: NAMESPACE.to_owned(), name: name.into() };
            store.objects.get(&place)
        };
        let secret = at("/secrets", ObjectName::with_role(NAME, component, ROLE_CREDENTIALS));
        let volume = at("/persistentvolumeclaims", ObjectName::of(NAME, component));
        let state = match (secret, volume) {
            (Some(secret), _) => CredentialState::Present(decoded(secret)),
            (None, Some(_)) => CredentialState::Lost,
            // They must have been made, but for those after which nothing was made.
            (None, None) => CredentialState::Minted(assumed(cr, component)),
        };
        observed.credentials.insert(component, state);
    }
    observed
}

fn assumed(cr: &RorunStack, component: Component) -> SecretData {
    match crate::support::all_there(cr).credentials.remove(&component) {
        Some(CredentialState::Present(data)) => data,
        _ => SecretData::new(),
    }
}

fn decoded(secret: &Value) -> SecretData {
    let data: BTreeMap<String, ByteString> = serde_json::from_value(secret["data"].clone()).unwrap_or_default();
    data.into_iter().map(|(key, value)| (key, value.0)).collect()
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
