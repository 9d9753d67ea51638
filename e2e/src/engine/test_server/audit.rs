//! The API server's audit log as a list of calls: how tests and benchmarks count what a controller does.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// What is logged: every call but those the API server makes to itself, once it is answered. Bodies are kept for
/// writes, so that a test that fails can say what was written.
pub(super) const POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: None
  users: ["system:apiserver"]
- level: Request
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
"#;

/// The same calls, without bodies.
pub(super) const LEAN_POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: None
  users: ["system:apiserver"]
- level: Metadata
"#;

/// A call that the API server has answered. A watch is answered when it ends, and is logged then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCall {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The plural, as in `deployments`; empty for paths that are no resource.
    pub resource: String,
    /// `status`, `scale` and so on; mostly empty.
    pub subresource: String,
    /// The object's name; empty for lists, and for creates that leave the name to the server.
    pub name: String,
    /// The object's namespace; empty for what has none.
    pub namespace: String,
    /// What the client called itself.
    pub user_agent: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// The path with its query, for telling apart what the other fields cannot.
    pub uri: String,
    /// Who called, as the API server knows them, or whom they called for.
    pub user: String,
    /// When the answer was complete.
    pub at: Timestamp,
    /// What a write sent; null where bodies are not logged.
    pub body: Value,
}

impl AuditCall {
    /// Whether the call may change something.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    user: User,
    /// In whose name that user asked.
    #[serde(default)]
    impersonated_user: Option<User>,
    #[serde(rename = "stageTimestamp", default)]
    at: Timestamp,
    #[serde(default)]
    request_object: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    name: String,
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

/// The calls in a piece of the log. A last line without its end is still being written and is left for the next time.
pub(in crate::engine) fn parse(log: &str) -> serde_json::Result<Vec<AuditCall>> {
    log.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| parse_line(line).transpose())
        .collect()
}

/// The call of one line; none if it was not answered.
pub fn parse_line(line: &str) -> serde_json::Result<Option<AuditCall>> {
    let event: Event = serde_json::from_str(line)?;
    let ObjectRef { resource, subresource, name, namespace } = event.object_ref;
    let call = AuditCall {
        verb: event.verb,
        resource,
        subresource,
        name,
        namespace,
        user_agent: event.user_agent,
        code: event.response_status.code,
        uri: event.uri,
        user: event.impersonated_user.unwrap_or(event.user).username,
        at: event.at,
        body: event.request_object,
    };
    Ok((event.stage == "ResponseComplete").then_some(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/shop/deployments/api/status?fieldManager=rorun","verb":"patch","user":{"username":"admin"},"sourceIPs":["127.0.0.1"],"userAgent":"rorun-operator/0.1","objectRef":{"resource":"deployments","namespace":"shop","name":"api","apiGroup":"apps","apiVersion":"v1","subresource":"status"},"responseStatus":{"metadata":{},"code":200}}"#;
    const HEALTH: &str =
        r#"{"stage":"ResponseComplete","requestURI":"/readyz","verb":"get","responseStatus":{"code":200}}"#;
    const PANIC: &str = r#"{"stage":"Panic","requestURI":"/readyz","verb":"get"}"#;

    #[test]
    fn reads_calls_and_leaves_a_line_that_is_being_written() {
        let calls = parse(&format!("{PATCH}\n{HEALTH}\n{PANIC}\n{{\"stage\":\"Resp")).expect("calls");
        assert_eq!(calls.len(), 2);
        let patch = &calls[0];
        assert!(patch.is_write());
        assert_eq!((patch.resource.as_str(), patch.subresource.as_str()), ("deployments", "status"));
        assert_eq!((patch.namespace.as_str(), patch.name.as_str(), patch.code), ("shop", "api", 200));
        assert_eq!(patch.user_agent, "rorun-operator/0.1");
        assert_eq!((calls[1].resource.as_str(), calls[1].uri.as_str()), ("", "/readyz"));
        assert!(!calls[1].is_write());
    }

    #[test]
    fn a_line_that_makes_no_sense_is_an_error() {
        parse("{}\n").expect_err("no event");
    }
}
