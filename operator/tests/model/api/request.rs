//! What a request asks for.

use std::collections::HashMap;

use http::{Method, Request, header};
use rorun_operator::objects::{KINDS, ObjectKind};
use serde_json::{Value, json};

use super::{managers::Writer, store::Place, verbs::Target};

/// The verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object.
    Get,
    /// Many.
    List,
    /// Their changes.
    Watch,
    /// POST.
    Create,
    /// Server-side apply.
    Apply {
        /// Whether fields are taken from others.
        force: bool,
    },
    /// JSON merge patch.
    Merge,
    /// DELETE.
    Delete,
}

impl Verb {
    /// Whether something may change.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// A request. Lists and watches have no name, and of all namespaces an empty one.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The verb.
    pub verb: Verb,
    /// The object, or the resource.
    pub target: std::sync::Arc<Target>,
    /// What was sent.
    pub body: Value,
    /// `labelSelector`.
    pub selector: String,
    /// `resourceVersion` of a watch.
    pub revision: u64,
    /// `sendInitialEvents`: a watch that begins with what there is.
    pub lists_first: bool,
    /// `timeoutSeconds`.
    pub timeout: u64,
    metadata_only: bool,
    kind: String,
}

impl Asked {
    /// Reads a request.
    pub async fn read(request: Request<kube::client::Body>) -> Self {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.expect("a body in memory");
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let parameter = |name: &str| query.get(name).cloned().unwrap_or_default();
        let header =
            |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let location = Location::parse(parts.uri.path(), &body);
        let verb = match parts.method {
            Method::POST => Verb::Create,
            Method::DELETE => Verb::Delete,
            Method::PATCH if header(header::CONTENT_TYPE).contains("apply-patch") => {
                Verb::Apply { force: parameter("force") == "true" }
            }
            Method::PATCH => Verb::Merge,
            _ if parameter("watch") == "true" => Verb::Watch,
            _ if location.name.is_empty() => Verb::List,
            _ => Verb::Get,
        };
        let manager = parameter("fieldManager");
        let writer = Writer {
            name: if manager.is_empty() { "unknown".to_owned() } else { manager },
            operation: if matches!(verb, Verb::Apply { .. }) { "Apply" } else { "Update" },
            api_version: location.api_version.clone(),
            status: location.status,
        };
        Self {
            verb,
            kind: location.kind(&body),
            target: std::sync::Arc::new(location.target(writer)),
            body,
            selector: parameter("labelSelector"),
            revision: parameter("resourceVersion").parse().unwrap_or(0),
            lists_first: parameter("sendInitialEvents") == "true",
            timeout: parameter("timeoutSeconds").parse().unwrap_or(300),
            metadata_only: header(header::ACCEPT).contains("as=PartialObjectMetadata"),
        }
    }

    /// Whether a list or a watch is of this object.
    pub fn covers(&self, place: &Place) -> bool {
        let asked = &self.target.place;
        asked.resource == place.resource && (asked.namespace.is_empty() || asked.namespace == place.namespace)
    }

    /// An object as it was asked for.
    pub fn shown(&self, mut object: Value) -> Value {
        if object.get("kind").is_some_and(|kind| kind == "Status") {
            return object;
        }
        if self.metadata_only {
            return json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]});
        }
        object["apiVersion"] = json!(self.target.writer.api_version);
        object["kind"] = json!(self.kind);
        object
    }

    /// `apiVersion` and kind of a list.
    pub fn list_type(&self) -> (String, String) {
        if self.metadata_only {
            return ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned());
        }
        (self.target.writer.api_version.clone(), format!("{}List", self.kind))
    }
}

struct Location {
    group: String,
    api_version: String,
    plural: String,
    namespace: String,
    name: String,
    status: bool,
}

impl Location {
    /// `/api/v1/...` or `/apis/GROUP/VERSION/...`, then `[namespaces/NAMESPACE/]PLURAL[/NAME[/status]]`.
    fn parse(path: &str, body: &Value) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let group = if parts.next() == Some("apis") { parts.next().unwrap_or_default() } else { "" };
        let version = parts.next().unwrap_or_default();
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let mut rest: Vec<&str> = parts.collect();
        let mut namespace = String::new();
        if rest.len() > 2 && rest[0] == "namespaces" {
            namespace.push_str(rest[1]);
            rest.drain(..2);
        }
        let made = body.pointer("/metadata/name").and_then(Value::as_str).filter(|_| rest.len() == 1);
        let name = rest.get(1).copied().or(made).unwrap_or_default().to_owned();
        let plural = rest.first().copied().unwrap_or_default().to_owned();
        let status = rest.get(2) == Some(&"status");
        Self { group: group.to_owned(), api_version, plural, namespace, name, status }
    }

    fn known(&self) -> Option<&'static ObjectKind> {
        KINDS.iter().find(|kind| kind.group == self.group && kind.plural == self.plural)
    }

    fn kind(&self, body: &Value) -> String {
        let told = body.get("kind").and_then(Value::as_str).filter(|kind| *kind != "DeleteOptions");
        match self.known() {
            Some(known) => known.kind.to_owned(),
            None if self.plural == "rorunstacks" => "RorunStack".to_owned(),
            None => told.unwrap_or_default().to_owned(),
        }
    }

    fn target(self, writer: Writer) -> Target {
        let resource = format!("{}/{}", self.group, self.plural);
        let place = Place { resource, namespace: self.namespace, name: self.name };
        Target::new(&self.group, &self.plural, place, writer)
    }
}
