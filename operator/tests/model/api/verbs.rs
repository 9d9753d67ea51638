//! What a write does to the store: create, apply, merge patch and delete, with their preconditions.

use rorun_operator::objects::{KINDS, ObjectKind};
use serde_json::{Value, json};

use super::{
    managers::{self, Writer},
    merge,
    schema::Schema,
    store::{Place, Store},
};

/// Why a request was refused: code, reason and message.
#[derive(Debug)]
pub struct Refusal(pub u16, pub &'static str, pub String);

/// What is written to, and by whom.
#[derive(Debug)]
pub struct Target {
    /// The object.
    pub place: Place,
    /// Its lists and maps.
    pub schema: Schema,
    /// Whether changes of the spec are counted.
    pub has_generation: bool,
    /// Whether `/status` is an endpoint of its own.
    pub has_status: bool,
    /// Who writes.
    pub writer: Writer,
}

impl Target {
    /// An object that a test writes itself.
    pub fn by_hand(place: &Place, manager: &str) -> Self {
        let (group, plural) = place.resource.split_once('/').unwrap_or_default();
        let known = KINDS.iter().find(|kind| kind.group == group && kind.plural == plural);
        let api_version = known.map_or_else(|| format!("{group}/v1alpha1"), ObjectKind::api_version);
        let writer = Writer { name: manager.to_owned(), operation: "Update", api_version, status: false };
        Self::new(group, plural, place.clone(), writer)
    }

    /// The same by server-side apply.
    pub fn applying(mut self) -> Self {
        self.writer.operation = "Apply";
        self
    }

    /// An object of a resource.
    pub fn new(group: &str, plural: &str, place: Place, writer: Writer) -> Self {
        const COUNTED: [&str; 6] =
            ["rorunstacks", "deployments", "statefulsets", "cronjobs", "ingresses", "poddisruptionbudgets"];
        let known = KINDS.iter().find(|kind| kind.group == group && kind.plural == plural);
        Self {
            schema: Schema::of(group),
            has_generation: COUNTED.contains(&plural),
            has_status: plural == "rorunstacks"
                || known.is_some_and(|kind| !matches!(kind.kind, "ServiceAccount" | "ConfigMap" | "Secret")),
            writer,
            place,
        }
    }
}

type Done = Result<(u16, Value), Refusal>;

impl Store {
    /// POST.
    pub fn create(&mut self, target: &Target, body: &Value) -> Done {
        if self.objects.contains_key(&target.place) {
            return Err(Refusal(409, "AlreadyExists", format!("\"{}\" already exists", target.place.name)));
        }
        let new = managers::updated(target.schema, &json!({}), self.begun(target, body.clone()), &target.writer);
        Ok((201, self.put(target.place.clone(), new)))
    }

    /// PATCH `application/apply-patch+yaml`.
    pub fn apply(&mut self, target: &Target, body: &Value, force: bool) -> Done {
        let Some(there) = self.objects.get(&target.place).cloned() else {
            if target.writer.status {
                return Err(not_found(&target.place));
            }
            if body.pointer("/metadata/uid").is_some() {
                return Err(conflict("uid mismatch: no existing object was found"));
            }
            let begun = self.begun(target, body.clone());
            let new = managers::applied(target.schema, &json!({"metadata": {}}), &begun, &target.writer, force);
            return Ok((201, self.put(target.place.clone(), new.map_err(|names| taken(&names))?)));
        };
        let new = managers::applied(target.schema, &there, &without_server_fields(body), &target.writer, force);
        let new = new.map_err(|names| taken(&names))?;
        unchanged(target, &there, body)?;
        Ok(self.replace(target, &there, new))
    }

    /// PATCH `application/merge-patch+json`.
    pub fn merge(&mut self, target: &Target, body: &Value) -> Done {
        let Some(there) = self.objects.get(&target.place).cloned() else { return Err(not_found(&target.place)) };
        unchanged(target, &there, body)?;
        let mut new = there.clone();
        merge::patch(&mut new, body);
        keep_unreachable(target, &there, &mut new);
        let new = managers::updated(target.schema, &there, new, &target.writer);
        Ok(self.replace(target, &there, new))
    }

    /// DELETE.
    pub fn delete(&mut self, place: &Place, options: &Value) -> Done {
        let Some(there) = self.objects.get(place).cloned() else { return Err(not_found(place)) };
        let wanted = json!({"metadata": options.get("preconditions").cloned().unwrap_or_default()});
        expected(&there, &wanted)?;
        if !is_held(&there) {
            self.remove(place);
            return Ok((200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})));
        }
        let mut new = there.clone();
        if there.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok((200, there));
        }
        new["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        new["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        if let Some(generation) = there.pointer("/metadata/generation").and_then(Value::as_i64) {
            new["metadata"]["generation"] = json!(generation + 1);
        }
        Ok((200, self.put(place.clone(), new)))
    }

    /// An object that is made, with what the server sets.
    fn begun(&self, target: &Target, mut new: Value) -> Value {
        if target.has_status {
            new.as_object_mut().map(|new| new.remove("status"));
        }
        let uid = self.uid();
        let metadata = &mut new["metadata"];
        metadata["namespace"] = json!(target.place.namespace);
        metadata["name"] = json!(target.place.name);
        metadata["uid"] = json!(uid);
        metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        if target.has_generation {
            metadata["generation"] = json!(1);
        }
        new
    }

    /// Keeps what changed, and removes what nothing holds any more. What is as before is not written.
    fn replace(&mut self, target: &Target, there: &Value, mut new: Value) -> (u16, Value) {
        keep_unreachable(target, there, &mut new);
        if target.has_generation && spec(there) != spec(&new) {
            let before = there.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
            new["metadata"]["generation"] = json!(before + 1);
        }
        if new == *there {
            return (200, new);
        }
        if new.pointer("/metadata/deletionTimestamp").is_some() && !is_held(&new) {
            self.remove(&target.place);
            return (200, new);
        }
        (200, self.put(target.place.clone(), new))
    }
}

/// Everything but metadata and status.
fn spec(object: &Value) -> Vec<(&String, &Value)> {
    let members = object.as_object().into_iter().flatten();
    members.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status")).collect()
}

fn is_held(object: &Value) -> bool {
    object.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|held| !held.is_empty())
}

/// What the endpoint does not reach stays: the status, or all but the status; and always what the server sets.
fn keep_unreachable(target: &Target, there: &Value, new: &mut Value) {
    let put_back = |new: &mut Value, member: &str| match there.get(member) {
        Some(before) => new[member] = before.clone(),
        None => drop(new.as_object_mut().map(|new| new.remove(member))),
    };
    if target.writer.status {
        let managed = new.pointer("/metadata/managedFields").cloned();
        let members: Vec<String> = new.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        for member in members.iter().filter(|member| *member != "status") {
            put_back(new, member);
        }
        if let Some(managed) = managed {
            new["metadata"]["managedFields"] = managed;
        }
    } else if target.has_status {
        put_back(new, "status");
    }
    for member in ["uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp"] {
        if let Some(before) = there["metadata"].get(member) {
            new["metadata"][member] = before.clone();
        }
    }
}

fn without_server_fields(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !matches!(name.as_str(), "uid" | "resourceVersion" | "managedFields"));
    }
    body
}

/// In a patch the version is a precondition, and the uid a field that cannot change; which a status write does not reach.
fn unchanged(target: &Target, there: &Value, body: &Value) -> Result<(), Refusal> {
    let version = json!({"metadata": {"resourceVersion": body.pointer("/metadata/resourceVersion")}});
    expected(there, &version)?;
    match body.pointer("/metadata/uid") {
        Some(uid) if !target.writer.status && *uid != there["metadata"]["uid"] => {
            Err(Refusal(422, "Invalid", "metadata.uid: field is immutable".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The uid and the version that a deletion names must be those of the object.
fn expected(there: &Value, wanted: &Value) -> Result<(), Refusal> {
    for member in ["uid", "resourceVersion"] {
        let pointer = format!("/metadata/{member}");
        let wanted = wanted.pointer(&pointer).and_then(Value::as_str).filter(|wanted| !wanted.is_empty());
        let found = there.pointer(&pointer).and_then(Value::as_str);
        if wanted.is_some() && wanted != found {
            return Err(conflict(&format!("{member} is {found:?} and not {wanted:?}")));
        }
    }
    Ok(())
}

fn conflict(message: &str) -> Refusal {
    Refusal(409, "Conflict", format!("the object has been modified: {message}"))
}

fn taken(names: &[String]) -> Refusal {
    Refusal(409, "Conflict", format!("Apply failed: conflicts with {}", names.join(", ")))
}

fn not_found(place: &Place) -> Refusal {
    Refusal(404, "NotFound", format!("{} \"{}\" not found", place.resource, place.name))
}
