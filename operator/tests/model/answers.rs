//! What the API server answers to the requests that the apply engine sends about the three children: get, server-side apply,
//! merge patch and delete of one object, with their preconditions. No lists, no watches, no defaults, no other kinds.
//! `tests/apiserver/model.rs` compares it with a real API server.

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};

/// What the engine asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The object.
    Get,
    /// A server-side apply with force.
    Apply,
    /// A JSON merge patch.
    Merge,
    /// A deletion.
    Delete,
}

/// A request about a child.
#[derive(Debug)]
pub struct Asked {
    /// The verb.
    pub verb: Verb,
    /// The plural name of the child's kind.
    pub plural: String,
    /// What was sent.
    pub body: Value,
}

impl Asked {
    /// Reads a request of the engine: `/api/v1/namespaces/NAMESPACE/PLURAL/NAME`.
    pub async fn read(request: Request<kube::client::Body>) -> Self {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.expect("a body in memory").to_bytes();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let verb = match parts.method {
            Method::GET => Verb::Get,
            Method::DELETE => Verb::Delete,
            Method::PATCH if kind.contains("apply-patch") => Verb::Apply,
            Method::PATCH => Verb::Merge,
            other => panic!("the engine sent {other} {}", parts.uri),
        };
        let plural = parts.uri.path().rsplit('/').nth(1).expect("a path with a name").to_owned();
        Self { verb, plural, body: serde_json::from_slice(&bytes).unwrap_or_default() }
    }
}

/// Code, and object or message.
pub type Answer = (u16, Value);

/// A child as it is, and its latest version. A write counts the versions of all children up, as etcd does.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The children that there are, by the plural names of their kinds.
    pub there: Map<String, Value>,
    /// The latest version.
    pub version: u64,
    /// Which child was written first, and what it became. `None` in it: it was deleted.
    pub written: Option<(String, Option<Value>)>,
}

impl Objects {
    /// Answers a request.
    pub fn answer(&mut self, asked: &Asked) -> Answer {
        let there = self.there.get(&asked.plural).cloned();
        match (asked.verb, there) {
            (Verb::Get, Some(there)) => (200, there),
            (Verb::Apply, None) => self.create(asked),
            (_, None) => refused(404, "not found"),
            (Verb::Apply, Some(there)) => self.apply(asked, &there),
            (Verb::Merge, Some(there)) => merged(&asked.body, &there),
            (Verb::Delete, Some(there)) => self.delete(asked, &there),
        }
    }

    /// To apply to a uid is to expect an object, while a version is compared with what there is alone.
    fn create(&mut self, asked: &Asked) -> Answer {
        if asked.body["metadata"].get("uid").is_some() {
            return refused(409, "uid mismatch: no object of the name exists");
        }
        let mut new = overlaid(json!({}), &asked.body);
        new["metadata"]["uid"] = json!(format!("uid-of-{}", self.version + 1));
        owned(&mut new, &asked.body);
        (201, self.put(&asked.plural, new))
    }

    fn apply(&mut self, asked: &Asked, there: &Value) -> Answer {
        if let Some(refusal) = unexpected(&asked.body, there) {
            return refusal;
        }
        let mut new = there.clone();
        if let Some(before) = own_fields(there) {
            let now = fields(&content(&asked.body));
            give_up(&mut new, before, &now);
        }
        new = overlaid(new, &asked.body);
        owned(&mut new, &asked.body);
        // What is as before is not written.
        if new == *there { (200, new) } else { (200, self.put(&asked.plural, new)) }
    }

    fn delete(&mut self, asked: &Asked, there: &Value) -> Answer {
        let expected = &asked.body["preconditions"];
        let differs = |member: &str| expected.get(member).is_some_and(|value| *value != there["metadata"][member]);
        if differs("uid") || differs("resourceVersion") {
            return refused(409, "the precondition is not met");
        }
        self.version += 1;
        self.there.remove(&asked.plural);
        self.written.get_or_insert((asked.plural.clone(), None));
        (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
    }

    fn put(&mut self, plural: &str, mut new: Value) -> Value {
        self.version += 1;
        new["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.there.insert(plural.to_owned(), new.clone());
        self.written.get_or_insert((plural.to_owned(), Some(new.clone())));
        new
    }
}

/// The version in a patch is a precondition, and the uid a field that cannot change.
fn unexpected(body: &Value, there: &Value) -> Option<Answer> {
    let differs = |member: &str| body["metadata"].get(member).is_some_and(|value| *value != there["metadata"][member]);
    if differs("resourceVersion") {
        return Some(refused(409, "the object has been modified"));
    }
    differs("uid").then(|| refused(422, "metadata.uid: field is immutable"))
}

/// The engine sends a merge patch with uid and version, after an apply that was refused for its uid, so it is refused, too.
fn merged(body: &Value, there: &Value) -> Answer {
    unexpected(body, there).unwrap_or_else(|| panic!("no child is reset: {body}"))
}

/// What the operator applied before and applies no longer goes.
fn give_up(object: &mut Value, before: &Value, now: &Value) {
    let Some(members) = object.as_object_mut() else { return };
    for (field, below) in before.as_object().into_iter().flatten() {
        let name = field.trim_start_matches("f:");
        match (now.get(field), members.get_mut(name)) {
            (Some(kept), Some(member)) => give_up(member, below, kept),
            (None, _) => drop(members.remove(name)),
            _ => {}
        }
    }
}

/// The body without what names the object, which nobody owns.
fn content(body: &Value) -> Value {
    let mut content = body.clone();
    for member in ["name", "namespace", "uid", "resourceVersion", "managedFields"] {
        content["metadata"].as_object_mut().map(|metadata| metadata.remove(member));
    }
    for member in ["apiVersion", "kind"] {
        content.as_object_mut().map(|content| content.remove(member));
    }
    content
}

fn overlaid(mut there: Value, body: &Value) -> Value {
    fn overlay(there: &mut Value, over: &Value) {
        match (there, over) {
            (Value::Object(there), Value::Object(over)) => {
                for (name, value) in over {
                    overlay(there.entry(name.clone()).or_insert(Value::Null), value);
                }
            }
            (there, over) => *there = over.clone(),
        }
    }
    let mut over = body.clone();
    // Compared, and never taken over.
    for member in ["uid", "resourceVersion", "managedFields"] {
        over["metadata"].as_object_mut().map(|metadata| metadata.remove(member));
    }
    overlay(&mut there, &over);
    there
}

/// `fieldsV1` of what is applied. The one list among the children's fields, their owner, is owned as a whole.
fn fields(value: &Value) -> Value {
    let members = value.as_object().into_iter().flatten();
    Value::Object(members.map(|(name, member)| (format!("f:{name}"), fields(member))).collect())
}

fn own_fields(object: &Value) -> Option<&Value> {
    object.pointer("/metadata/managedFields/0/fieldsV1")
}

fn owned(object: &mut Value, body: &Value) {
    object["metadata"]["managedFields"] = json!([{
        "manager": rorun_operator::names::FIELD_MANAGER, "operation": "Apply", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": fields(&content(body)),
    }]);
}

fn refused(code: u16, message: &str) -> Answer {
    let reason = match code {
        404 => "NotFound",
        422 => "Invalid",
        _ => "Conflict",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
        "message": message, "code": code});
    (code, status)
}

/// A conflict that has no cause.
pub fn conflict() -> Answer {
    refused(409, "a fault")
}

/// An answer on its way to the client.
pub fn response((code, body): &Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(*code).expect("a code");
    response
}
