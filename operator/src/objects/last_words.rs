//! What the containers of a pod said when they ended.

use serde_json::Value;

use super::at;

/// The reason of a container that was never made, or that the kubelet has lost.
const NOT_FOUND: &str = "ContainerStatusUnknown";

/// What a container said when it ended. Others beside ours may have ended too, and what they say is no JSON.
pub(super) fn said(pod: &Value) -> Option<&str> {
    let ended = |list: &'static str| {
        let statuses = at(pod, list).and_then(Value::as_array);
        let statuses = move || statuses.into_iter().flatten();
        let of = move |field: &'static str| {
            let ended = statuses().filter_map(move |status| at(status.get(field)?, "/terminated"));
            // Of a container that it does not find the kubelet says so in words of its own.
            let found = ended.filter(|ended| at(ended, "/reason").and_then(Value::as_str) != Some(NOT_FOUND));
            found.filter_map(|ended| at(ended, "/message")?.as_str())
        };
        of("state").chain(of("lastState")).collect::<Vec<_>>()
    };
    // Init containers, sidecars among them, say less than the containers that they are there for.
    let lists = [ended("/status/containerStatuses"), ended("/status/initContainerStatuses")];
    let told = |messages: &Vec<&str>| {
        messages.iter().position(|message| message.starts_with('{')).or((!messages.is_empty()).then_some(0))
    };
    lists.iter().find_map(|messages| Some(messages[told(messages)?]))
}
