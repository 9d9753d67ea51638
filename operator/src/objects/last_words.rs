//! Which container of a pod failed, and what the containers of a pod said when they ended.

use serde_json::Value;

use super::{
    at,
    readiness::{int, text},
};
use crate::names::{Component, label};

/// The reason of a container that was never made, or that the kubelet has lost.
const NOT_FOUND: &str = "ContainerStatusUnknown";
/// The reason of a container that ended and is started anew later.
const CRASH_LOOP: &str = "CrashLoopBackOff";
/// Where a pod tells of its containers. Init containers, sidecars among them, say less than the containers that they are there for.
const LISTS: [&str; 2] = ["/status/containerStatuses", "/status/initContainerStatuses"];

/// What a container said when it ended. Of a workload it is the one that failed; of the pods of Jobs others beside ours may have ended
/// too, and what they say is no JSON.
pub(super) fn said(pod: &Value) -> Option<&str> {
    let failed = failed(pod);
    if let Some(failed) = failed.filter(|_| own(pod).is_some()) {
        return words(failed, "state").or_else(|| words(failed, "lastState"));
    }
    let ended = |list: &'static str| {
        let of = move |field: &'static str| statuses(pod, list).filter_map(move |status| words(status, field));
        of("state").chain(of("lastState")).collect::<Vec<_>>()
    };
    let told = |messages: &Vec<&str>| {
        messages.iter().position(|message| message.starts_with('{')).or((!messages.is_empty()).then_some(0))
    };
    LISTS.into_iter().map(ended).find_map(|messages| Some(messages[told(&messages)?]))
}

/// The status of the container that failed, now or the last time: between two tries of a crash loop it looks as if it ran. Of several it
/// is one that is not ready, and that of the workload itself before those beside it.
pub(super) fn failed(pod: &Value) -> Option<&Value> {
    let own = own(pod);
    let rank = |status: &&Value| {
        let is_ready = status.get("ready").and_then(Value::as_bool) == Some(true);
        (is_ready, own.is_none() || text(status, "/name") != own)
    };
    LISTS.into_iter().flat_map(|list| statuses(pod, list)).filter(|status| has_failed(status)).min_by_key(rank)
}

fn has_failed(status: &Value) -> bool {
    let with_a_code = |field: &str| {
        let code = status.get(field).and_then(|state| int(state, "/terminated/exitCode"));
        code.is_some_and(|code| code != 0)
    };
    is_in_a_loop(status) || with_a_code("state") || with_a_code("lastState")
}

/// Whether the kubelet waits before it starts a container anew that has ended again and again.
pub(super) fn is_in_a_loop(status: &Value) -> bool {
    text(status, "/state/waiting/reason") == Some(CRASH_LOOP)
}

/// The container that a pod of a workload is there for: it is named as the workload, also in the pod of a candidate.
fn own(pod: &Value) -> Option<&str> {
    let labels = at(pod, "/metadata/labels")?;
    let labelled = |key: &str| labels.get(key).and_then(Value::as_str);
    let named = labelled(label::NAME).and_then(|name| name.strip_prefix("rorun-"));
    let workloads = [Component::Api, Component::Ocr, Component::Admin].map(Component::as_str);
    named.or_else(|| labelled(label::COMPONENT)).filter(|own| workloads.contains(own))
}

fn statuses<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    at(pod, list).and_then(Value::as_array).into_iter().flatten()
}

/// The last words of a container. `field`: of this try, or of the one before.
fn words<'a>(status: &'a Value, field: &str) -> Option<&'a str> {
    let ended = at(status.get(field)?, "/terminated")?;
    // Of a container that it does not find the kubelet says so in words of its own.
    if text(ended, "/reason") == Some(NOT_FOUND) {
        return None;
    }
    text(ended, "/message")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn ended(code: i32, message: &str) -> Value {
        json!({"terminated": {"exitCode": code, "message": message}})
    }

    /// The containers of a candidate of the API, each with its name, its state and its last one; the one that is told, and its words.
    #[rstest]
    #[case::a_sidecar_that_ended_well(
        &[("aside", ended(0, "bye"), json!({})), ("api", json!({"waiting": {"reason": CRASH_LOOP}}), ended(1, "Error: no"))],
        Some("api"), Some("Error: no")
    )]
    #[case::a_sidecar_that_writes_json(
        &[("aside", ended(1, r#"{"level": "error"}"#), json!({})), ("api", json!({"running": {}}), ended(1, "Error: no"))],
        Some("api"), Some("Error: no")
    )]
    #[case::a_sidecar_that_fails(
        &[("api", json!({"running": {}}), json!({})), ("zipper", json!({"waiting": {"reason": CRASH_LOOP}}), ended(2, "no zip"))],
        Some("zipper"), Some("no zip")
    )]
    #[case::it_said_nothing(
        &[("aside", ended(0, "bye"), json!({})), ("api", json!({"terminated": {"exitCode": 137}}), json!({}))],
        Some("api"), None
    )]
    #[case::it_ends_well_again_and_again(
        &[("api", json!({"waiting": {"reason": CRASH_LOOP}}), ended(0, "done"))], Some("api"), Some("done")
    )]
    #[case::nothing_failed(&[("aside", ended(0, "bye"), json!({}))], None, Some("bye"))]
    fn of_a_workload_the_words_of_the_container_that_failed_are_told(
        #[case] containers: &[(&str, Value, Value)],
        #[case] told: Option<&str>,
        #[case] words: Option<&str>,
    ) {
        let status =
            |(name, state, last): &(&str, Value, Value)| json!({"name": name, "state": state, "lastState": last});
        let labels = json!({label::NAME: "rorun-api", label::COMPONENT: "smoke-test"});
        let statuses: Vec<_> = containers.iter().map(status).collect();
        let pod = json!({"metadata": {"labels": labels}, "status": {"containerStatuses": statuses}});
        assert_eq!((failed(&pod).and_then(|status| text(status, "/name")), said(&pod)), (told, words));
    }

    #[test]
    fn a_container_that_is_ready_again_is_told_after_one_that_is_not() {
        let statuses = json!([
            {"name": "api", "ready": true, "state": {"running": {}}, "lastState": ended(1, "long ago")},
            {"name": "zipper", "ready": false, "state": {"running": {}}, "lastState": ended(1, "just now")},
        ]);
        let labels = json!({label::COMPONENT: "api"});
        let pod = json!({"metadata": {"labels": labels}, "status": {"containerStatuses": statuses}});
        assert_eq!(said(&pod), Some("just now"));
    }
}
