//! The history of a run, which is the audit log, and what must hold at every moment of it, whatever goes wrong (O4): data are
//! not deleted unless the spec says so, generated values stay, a status never goes back nor promises too much, and nothing is
//! deleted that was not looked at.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rorun_e2e::engine::test_server::{AuditCall, parse_line};
use serde_json::Value;

use super::plan::same_in_each_run;

/// The end of the names of Secrets with generated values.
const GENERATED: &str = "-credentials";
/// The operator, as it calls itself.
const OPERATOR: &str = "rorun-operator";
const APPLIED_HASH: &str = "/metadata/annotations/rorun.app~1applied-hash";

/// All writes of a namespace, in the order of their answers.
#[derive(Clone, Debug, Default)]
pub(super) struct History(Vec<AuditCall>);

/// What the user allows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowed {
    /// The spec says that data go with the stack.
    pub(super) data_go: bool,
    /// The generation of the spec that counts at the end; none if the stack is gone.
    pub(super) generation: Option<i64>,
}

type Key<'a> = (&'a str, &'a str);

impl History {
    /// Reads the writes to a namespace out of a piece of the audit log.
    pub(super) fn of(namespace: &str, log: &str) -> Result<History> {
        let marked = format!("\"{namespace}\"");
        let mut writes = Vec::new();
        for line in log.lines().filter(|line| line.contains(&marked)) {
            let Some(call) = parse_line(line).context("failed to read the audit log")? else { continue };
            let carried_out = (200..300).contains(&call.code);
            if call.is_write() && carried_out && call.namespace == namespace && call.resource != "events" {
                writes.push(call);
            }
        }
        Ok(History(writes))
    }

    /// The writes.
    pub(super) fn writes(&self) -> &[AuditCall] {
        &self.0
    }

    /// How often the operator made and deleted each object.
    pub(super) fn made(&self) -> BTreeMap<String, usize> {
        let mut made = BTreeMap::new();
        for write in self.0.iter().filter(|write| by_operator(write) && write.subresource.is_empty()) {
            let what = match (write.verb.as_str(), write.code) {
                (_, 201) => "made",
                ("delete", _) => "deleted",
                _ => continue,
            };
            *made.entry(format!("{what} {}/{}", write.resource, same_in_each_run(&write.name))).or_default() += 1;
        }
        made
    }

    /// Generated values, as they are stored.
    pub(super) fn generated(&self) -> Vec<&str> {
        let bodies =
            self.0.iter().filter(|write| is_generated(write)).filter_map(|write| write.body["data"].as_object());
        bodies.flat_map(serde_json::Map::values).filter_map(Value::as_str).collect()
    }

    /// What was wrong at some moment.
    pub(super) fn problems(&self, allowed: Allowed) -> Vec<String> {
        let mut problems: Vec<String> = self.0.iter().filter_map(|write| problem(write, allowed)).collect();
        problems.extend(self.values_that_changed());
        problems.extend(self.statuses_that_fell());
        problems.extend(allowed.generation.map(|generation| self.promises(generation)).unwrap_or_default());
        problems
    }

    fn values_that_changed(&self) -> Vec<String> {
        let mut known = BTreeMap::<&str, &Value>::new();
        let mut problems = Vec::new();
        for write in self.0.iter().filter(|write| is_generated(write)) {
            let data = &write.body["data"];
            if write.verb == "delete" {
                known.remove(write.name.as_str());
            } else if data.is_object() && known.insert(&write.name, data).is_some_and(|before| before != data) {
                problems.push(format!("O4 secret/{} was made up again", write.name));
            }
        }
        problems
    }

    fn statuses_that_fell(&self) -> Vec<String> {
        let mut highest = BTreeMap::<(&str, Option<&str>), i64>::new();
        let mut problems = Vec::new();
        for (write, status) in self.statuses() {
            let observed = status["observedGeneration"].as_i64().unwrap_or_default();
            let uid = write.body.pointer("/metadata/uid").and_then(Value::as_str);
            let before = highest.entry((&write.name, uid)).or_insert(observed);
            if observed < *before {
                problems.push(format!("O4 observedGeneration fell from {before} to {observed}"));
            }
            *before = observed.max(*before);
        }
        problems
    }

    /// `Ready=True` of this generation, said before everything that it wants was there as it is in the end.
    fn promises(&self, generation: i64) -> Vec<String> {
        let wanted = self.0.iter().fold(BTreeMap::new(), apply);
        let mut there = BTreeMap::new();
        let mut problems = Vec::new();
        for write in &self.0 {
            there = apply(there, write);
            let status = &write.body["status"];
            if !is_status(write) || status["observedGeneration"].as_i64() != Some(generation) || !says_ready(status) {
                continue;
            }
            let lacking = wanted.iter().filter(|(key, hash)| there.get(*key) != Some(*hash));
            problems.extend(lacking.map(|((resource, name), _)| {
                let how = if there.contains_key(&(*resource, *name)) { "is old" } else { "is missing" };
                format!("O4 Ready=True while {resource}/{name} {how}")
            }));
        }
        problems
    }

    fn statuses(&self) -> impl Iterator<Item = (&AuditCall, &Value)> {
        self.0.iter().filter(|write| is_status(write)).map(|write| (write, &write.body["status"]))
    }
}

/// What the operator keeps there, each with the hash of what was applied last.
fn apply<'a>(mut there: BTreeMap<Key<'a>, &'a str>, write: &'a AuditCall) -> BTreeMap<Key<'a>, &'a str> {
    let key = (write.resource.as_str(), write.name.as_str());
    if !write.subresource.is_empty() || write.resource == "rorunstacks" {
        return there;
    }
    let hash = write.body.pointer(APPLIED_HASH).and_then(Value::as_str);
    match (write.verb.as_str(), hash) {
        ("delete", _) => drop(there.remove(&key)),
        (_, Some(hash)) if by_operator(write) => drop(there.insert(key, hash)),
        _ => {}
    }
    there
}

fn is_generated(write: &AuditCall) -> bool {
    write.resource == "secrets" && write.name.ends_with(GENERATED)
}

fn says_ready(status: &Value) -> bool {
    let conditions = status["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn by_operator(write: &AuditCall) -> bool {
    write.user_agent.starts_with(OPERATOR)
}

fn is_status(write: &AuditCall) -> bool {
    by_operator(write) && write.resource == "rorunstacks" && write.subresource == "status"
}

/// What is wrong with this write, whatever was before.
fn problem(write: &AuditCall, allowed: Allowed) -> Option<String> {
    let AuditCall { verb, resource, name, body, .. } = write;
    if is_status(write) && !body.pointer("/metadata/resourceVersion").is_some_and(Value::is_string) {
        return Some(format!("O4 a status of {name} was written to whichever stack has the name"));
    }
    if !by_operator(write) || !verb.starts_with("delete") {
        return None;
    }
    let of_data = is_generated(write) || resource == "persistentvolumeclaims";
    if of_data && !allowed.data_go {
        return Some(format!("O4 {resource}/{name} was deleted, and the spec does not say so"));
    }
    let exact = ["uid", "resourceVersion"].iter().all(|field| body["preconditions"][field].is_string());
    (!exact).then(|| format!("O4 {resource}/{name} was deleted, whichever it was"))
}

/// A write of the operator, as its tests make one. `place`: the resource, the name, the subresource.
#[cfg(test)]
pub(super) fn played(verb: &str, place: (&str, &str, &str), code: u16, body: Value) -> AuditCall {
    let (resource, name, subresource) = place;
    AuditCall {
        verb: verb.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        namespace: "n".to_owned(),
        user_agent: "rorun-operator/1".to_owned(),
        code,
        uri: String::new(),
        user: String::new(),
        at: jiff::Timestamp::UNIX_EPOCH,
        body,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(verb: &str, place: (&str, &str, &str), code: u16, body: &Value) -> String {
        let (resource, name, subresource) = place;
        let reference = json!({"resource": resource, "name": name, "namespace": "a", "subresource": subresource});
        json!({"stage": "ResponseComplete", "requestURI": "/", "verb": verb, "userAgent": "rorun-operator/1", "objectRef": reference,
               "responseStatus": {"code": code}, "requestObject": body})
        .to_string()
    }

    fn problems(events: &[String], data_go: bool) -> Vec<String> {
        let history = History::of("a", &events.join("\n")).expect("a log");
        history.problems(Allowed { data_go, generation: Some(2) })
    }

    fn deleted(resource: &str, name: &str, exactly: bool) -> String {
        let body = if exactly { json!({"preconditions": {"uid": "u", "resourceVersion": "1"}}) } else { json!({}) };
        event("delete", (resource, name, ""), 200, &body)
    }

    fn applied(resource: &str, name: &str, hash: &str, password: &str) -> String {
        let metadata = json!({"annotations": {"rorun.app/applied-hash": hash}});
        event("patch", (resource, name, ""), 201, &json!({"metadata": metadata, "data": {"password": password}}))
    }

    fn status(generation: i64, ready: &str) -> String {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        let status = json!({"observedGeneration": generation, "conditions": conditions});
        let metadata = json!({"uid": "u", "resourceVersion": "1"});
        event("patch", ("rorunstacks", "shop", "status"), 200, &json!({"metadata": metadata, "status": status}))
    }

    #[test]
    fn a_status_is_written_to_one_stack_and_no_other_of_its_name() {
        assert_eq!(problems(&[status(2, "False")], false), [""; 0]);
        assert_eq!(problems(&[status(2, "False").replace("resourceVersion", "version")], false).len(), 1);
    }

    #[test]
    fn data_are_deleted_only_if_the_spec_says_so_and_anything_only_if_it_was_looked_at() {
        assert_eq!(problems(&[deleted("services", "s", true)], false), [""; 0]);
        assert_eq!(problems(&[deleted("services", "s", false)], false).len(), 1);
        for (resource, name) in [("persistentvolumeclaims", "p"), ("secrets", "x-credentials")] {
            assert_eq!(problems(&[deleted(resource, name, true)], false).len(), 1);
            assert_eq!(problems(&[deleted(resource, name, true)], true), [""; 0]);
        }
    }

    #[test]
    fn what_is_generated_stays_until_it_is_deleted() {
        let secret = |password| applied("secrets", "x-credentials", "h", password);
        assert_eq!(problems(&[secret("a"), secret("a")], true), [""; 0]);
        assert_eq!(problems(&[secret("a"), secret("b")], true).len(), 1);
        assert_eq!(problems(&[secret("a"), deleted("secrets", "x-credentials", true), secret("b")], true), [""; 0]);
    }

    #[test]
    fn a_status_does_not_go_back_nor_promise_what_is_not_there() {
        let service = |hash| applied("services", "s", hash, "");
        assert_eq!(problems(&[service("h"), status(1, "True"), status(2, "True")], false), [""; 0]);
        assert_eq!(problems(&[service("h"), status(2, "False"), status(1, "False")], false).len(), 1);
        assert_eq!(problems(&[status(1, "True"), status(2, "False"), service("h"), status(2, "True")], false), [""; 0]);
        assert_eq!(problems(&[status(2, "True"), service("h")], false).len(), 1);
        assert_eq!(problems(&[service("g"), status(2, "True"), service("h")], false).len(), 1);
    }

    #[test]
    fn what_the_api_server_refused_and_what_others_have_written_does_not_count() {
        let refused = event("delete", ("persistentvolumeclaims", "p", ""), 409, &json!({}));
        let others = deleted("persistentvolumeclaims", "p", false).replace("rorun-operator", "kubectl");
        assert_eq!(problems(&[refused, others], false), [""; 0]);
        let history = History::of("a", &applied("services", "s", "h", "")).expect("a log");
        assert_eq!(history.made(), BTreeMap::from([("made services/s".to_owned(), 1)]));
    }
}
