//! The state of a namespace at the moment of a failure, for a reader of the log who has no access to the cluster.

use std::fmt::Write;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams, LogParams};
use serde_json::Value;

use super::{TestCluster, ready};
use crate::engine::cluster::OPERATOR_NAMESPACE;

const EVENTS: usize = 15;
const LOG_LINES: usize = 15;

/// The stacks, pods and last events of a namespace, and the last lines that the operator logged about it.
pub async fn diagnose(test_cluster: &TestCluster, namespace: &str) -> String {
    let mut text = format!("--- the namespace {namespace}\n");
    let parts = [
        ("stacks", stacks(test_cluster, namespace).await),
        ("pods", pods(test_cluster, namespace).await),
        ("events", events(test_cluster, namespace).await),
        ("operator", operator(test_cluster, namespace).await),
    ];
    for (what, part) in parts {
        let lines = part.unwrap_or_else(|error| vec![format!("cannot be read: {error:#}")]);
        let _ = writeln!(text, "{what}:");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

async fn stacks(test_cluster: &TestCluster, namespace: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for stack in test_cluster.stacks(namespace).list(&ListParams::default()).await? {
        let generation = stack.metadata.generation.unwrap_or_default();
        let deleted = stack.metadata.deletion_timestamp.is_some();
        let status = &stack.data["status"];
        let observed = &status["observedGeneration"];
        let name = stack.metadata.name.unwrap_or_default();
        lines.push(format!("{name}: generation {generation}, observed {observed}, being deleted: {deleted}"));
        for condition in status["conditions"].as_array().into_iter().flatten() {
            let part = |field: &str| condition[field].as_str().unwrap_or_default();
            lines.push(format!("  {}={} {}: {}", part("type"), part("status"), part("reason"), part("message")));
        }
    }
    Ok(lines)
}

async fn pods(test_cluster: &TestCluster, namespace: &str) -> Result<Vec<String>> {
    let api = test_cluster.api::<Pod>(namespace);
    let mut lines = Vec::new();
    for pod in api.list(&ListParams::default()).await? {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        lines.push(format!("{name}: {phase}, ready: {}", ready(&pod)));
        let containers = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
        for container in containers.filter(|container| !container.ready) {
            let state = serde_json::to_string(&container.state)?;
            lines.push(format!("  {}: {} restarts, {state}", container.name, container.restart_count));
        }
        if !ready(&pod) && phase != "Succeeded" {
            lines.extend(log(&api, &name, 5).await.into_iter().map(|line| format!("  | {line}")));
        }
    }
    Ok(lines)
}

async fn events(test_cluster: &TestCluster, namespace: &str) -> Result<Vec<String>> {
    let mut events = test_cluster.api::<Event>(namespace).list(&ListParams::default()).await?.items;
    events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    let last = events.split_off(events.len().saturating_sub(EVENTS));
    let line = |event: Event| {
        let object = event.involved_object;
        let (kind, name) = (object.kind.unwrap_or_default(), object.name.unwrap_or_default());
        format!("{kind}/{name} {}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default())
    };
    Ok(last.into_iter().map(line).collect())
}

async fn operator(test_cluster: &TestCluster, namespace: &str) -> Result<Vec<String>> {
    let api = test_cluster.api::<Pod>(OPERATOR_NAMESPACE);
    let mut lines = Vec::new();
    for pod in api.list(&ListParams::default()).await? {
        let name = pod.metadata.name.unwrap_or_default();
        let said = log(&api, &name, 2000).await;
        let of_namespace: Vec<_> = said.iter().filter(|line| line.contains(namespace)).collect();
        // Lines about the whole operator help more than none.
        let chosen = if of_namespace.is_empty() { said.iter().collect() } else { of_namespace };
        let from = chosen.len().saturating_sub(LOG_LINES);
        lines.extend(chosen[from..].iter().map(|line| format!("{name} | {}", shorten(line))));
    }
    Ok(lines)
}

/// A JSON line without the fields that all lines share.
fn shorten(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else { return line.to_owned() };
    fields.retain(|name, _| !matches!(name.as_str(), "spans" | "span" | "target"));
    let values = fields.iter().map(|(name, value)| format!("{name}={value}"));
    values.collect::<Vec<_>>().join(" ")
}

async fn log(api: &Api<Pod>, pod: &str, lines: i64) -> Vec<String> {
    let params = LogParams { tail_lines: Some(lines), ..LogParams::default() };
    match api.logs(pod, &params).await {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(error) => vec![format!("no log: {error}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_told_without_its_spans() {
        let line = r#"{"level":"INFO","message":"status","target":"rorun","spans":[{"name":"reconcile"}]}"#;
        assert_eq!(shorten(line), r#"level="INFO" message="status""#);
        assert_eq!(shorten("no JSON"), "no JSON");
    }
}
