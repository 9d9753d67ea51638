//! What the model of the core takes for the answers of the API server, beside those of a real one.

use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use rorun_operator::names::FIELD_MANAGER;
use serde_json::{Map, Value, json};

use crate::{
    answers::{Asked, Objects, Verb},
    server::Server,
};

const NAME: &str = "s-child";

/// What a request says of the object that it expects.
#[derive(Clone, Copy, Debug)]
enum Expects {
    Nothing,
    Absent,
    Uid,
    OtherUid,
    UidAndVersion,
    OtherUidAtVersion,
    OldVersion,
}

impl Expects {
    /// The members, for the object as the asked server has it.
    fn members(self, there: &Value) -> Map<String, Value> {
        let (uid, version) = (there["metadata"]["uid"].clone(), there["metadata"]["resourceVersion"].clone());
        let (uid, version) = (("uid", uid), ("resourceVersion", version));
        let other = ("uid", json!("00000000-0000-4000-8000-000000000000"));
        let members = match self {
            Self::Nothing => vec![],
            Self::Absent => vec![("resourceVersion", json!("1"))],
            Self::Uid => vec![uid],
            Self::OtherUid => vec![other],
            Self::UidAndVersion => vec![uid, version],
            Self::OtherUidAtVersion => vec![other, version],
            Self::OldVersion => vec![uid, ("resourceVersion", json!("2"))],
        };
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The requests, in an order in which each finds what it is about. The first body is applied, the second differs in a value, the
/// third leaves out a label and a member.
fn requests() -> Vec<(Verb, Expects, usize)> {
    vec![
        (Verb::Get, Expects::Nothing, 0),
        (Verb::Delete, Expects::OtherUid, 0),
        (Verb::Merge, Expects::OtherUid, 0),
        (Verb::Apply, Expects::OtherUid, 0),
        (Verb::Apply, Expects::Absent, 0),
        (Verb::Apply, Expects::Absent, 0),
        (Verb::Apply, Expects::Uid, 0),
        (Verb::Apply, Expects::Uid, 1),
        (Verb::Apply, Expects::UidAndVersion, 2),
        (Verb::Apply, Expects::OtherUid, 1),
        (Verb::Apply, Expects::OldVersion, 1),
        (Verb::Merge, Expects::OtherUidAtVersion, 1),
        (Verb::Merge, Expects::OldVersion, 1),
        (Verb::Get, Expects::Nothing, 0),
        (Verb::Delete, Expects::OtherUid, 0),
        (Verb::Delete, Expects::OldVersion, 0),
        (Verb::Delete, Expects::UidAndVersion, 0),
        (Verb::Get, Expects::Nothing, 0),
        (Verb::Apply, Expects::Nothing, 1),
    ]
}

fn bodies(kind: &str) -> [Value; 3] {
    let body = |labels: Value, data: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": NAME, "labels": labels}, "data": data});
    [
        body(json!({"a": "1", "b": "1"}), json!({"password": "MQ==", "other": "MQ=="})),
        body(json!({"a": "1", "b": "1"}), json!({"password": "Mg==", "other": "MQ=="})),
        body(json!({"a": "1"}), json!({"password": "Mg=="})),
    ]
}

/// The same requests get the same codes and leave the same object, with the same fields owned.
pub async fn the_answers_of_the_model_are_those_of_the_server(server: &Server) {
    let namespace = server.namespace("model").await;
    for (kind, plural) in [("Secret", "secrets"), ("ConfigMap", "configmaps")] {
        let mut objects = Objects { there: Map::new(), version: 1000, written: None };
        let path = format!("/api/v1/namespaces/{namespace}/{plural}/{NAME}");
        let (mut real, mut model) = (Value::Null, Value::Null);
        for (verb, expects, body) in requests() {
            let sent = |there: &Value| {
                if verb == Verb::Delete {
                    return json!({"preconditions": expects.members(there)});
                }
                let mut body = bodies(kind)[body].clone();
                body["metadata"].as_object_mut().unwrap().extend(expects.members(there));
                body
            };
            let one = send(&server.client(), verb, &path, &sent(&real)).await;
            let other = objects.answer(&Asked { verb, plural: plural.to_owned(), body: sent(&model) });
            assert_eq!(one.0, other.0, "{kind}: {verb:?} {expects:?}: {} {}", one.1, other.1);
            if one.0 < 300 && verb != Verb::Delete {
                assert_eq!(shown(&one.1), shown(&other.1), "{kind}: {verb:?} {expects:?}");
                let rewritten = |before: &Value, after: &Value| version(before) != version(after);
                assert_eq!(rewritten(&real, &one.1), rewritten(&model, &other.1), "{kind}: {verb:?} {expects:?}");
                (real, model) = (one.1, other.1);
            }
        }
    }
}

async fn send(client: &Client, verb: Verb, path: &str, body: &Value) -> (u16, Value) {
    let (method, kind, query) = match verb {
        Verb::Get => (Method::GET, "application/json", String::new()),
        Verb::Apply => {
            (Method::PATCH, "application/apply-patch+yaml", format!("?fieldManager={FIELD_MANAGER}&force=true"))
        }
        Verb::Merge => (Method::PATCH, "application/merge-patch+json", String::new()),
        Verb::Delete => (Method::DELETE, "application/json", String::new()),
    };
    let sent = if verb == Verb::Get { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(format!("{path}{query}")).header("Content-Type", kind);
    let answer = client.send(request.body(Body::from(sent)).unwrap()).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap())
}

fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

/// What the engine reads of an object: not what the server alone sets.
fn shown(object: &Value) -> Value {
    let entry = &object["metadata"]["managedFields"][0];
    json!([object["metadata"]["labels"], object["data"], entry["manager"], entry["operation"], entry["fieldsV1"]])
}
