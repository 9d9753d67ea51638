//! Nothing secret leaves the Secrets (O8): the campaign searches for their values in everything that a user without a right to them
//! may read: logs, Events, statuses, metrics, and all other objects with the arguments of their pods.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::history::History;
use super::snapshot::{Leaves, take};

/// What every value that the user keeps secret contains.
pub(super) const TOKEN: &str = "canary-of-the-user";
/// Shorter values, such as the name of a user, are no secret.
const SHORTEST: usize = 12;

/// Looks for secrets where none must be.
pub(super) async fn problems(client: &Client, namespace: &str, log: &Path, history: &History) -> Result<Vec<String>> {
    let mut secrets: BTreeSet<String> = history.generated().into_iter().filter_map(decoded).collect();
    let stored = Api::<Secret>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
    let values = stored.items.into_iter().flat_map(|secret| secret.data.unwrap_or_default().into_values());
    secrets.extend(values.filter_map(|value| String::from_utf8(value.0).ok()).filter(|text| text.contains(TOKEN)));
    secrets.insert(TOKEN.to_owned());
    let mut places = objects(&take(client, namespace).await?);
    let events = Api::<Event>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
    places.push(("events".to_owned(), serde_json::to_string(&events.items)?));
    let log = tokio::fs::read_to_string(log).await.context("failed to read the log of the operator")?;
    let mut problems = Vec::new();
    match metrics(&log).await {
        Some(text) => places.push(("metrics".to_owned(), text)),
        None => problems.push("O8 the operator does not show its metrics".to_owned()),
    }
    places.push(("the log".to_owned(), log));
    let found = places.into_iter().filter(|(_, text)| secrets.iter().any(|secret| holds(text, secret)));
    problems.extend(found.map(|(place, _)| format!("O8 a secret in {place}")));
    Ok(problems)
}

fn holds(text: &str, secret: &str) -> bool {
    let encoded = json!(ByteString(secret.as_bytes().to_vec()));
    secret.len() >= SHORTEST
        && (text.contains(secret) || encoded.as_str().is_some_and(|encoded| text.contains(encoded)))
}

fn decoded(value: &str) -> Option<String> {
    let bytes: ByteString = serde_json::from_value(Value::String(value.to_owned())).ok()?;
    String::from_utf8(bytes.0).ok()
}

/// Every object but Secrets.
fn objects(leaves: &Leaves) -> Vec<(String, String)> {
    let others = leaves.iter().filter(|(path, _)| !path.starts_with("Secret/"));
    others.map(|(path, value)| (path.clone(), value.to_string())).collect()
}

/// What the operator that runs now shows; nothing if none answers.
async fn metrics(log: &str) -> Option<String> {
    let address = log.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let field = line.get("address").or_else(|| line.pointer("/fields/address"))?;
        field.as_str().map(str::to_owned)
    })?;
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_as_it_is_and_as_it_is_stored() {
        let secret = "0123456789abcdef";
        assert!(holds("url=postgres://u:0123456789abcdef@h", secret));
        assert!(holds("data: MDEyMzQ1Njc4OWFiY2RlZg==", secret));
        assert!(!holds("url=postgres://u:REDACTED@h", secret));
        assert_eq!(decoded("MDEyMzQ1Njc4OWFiY2RlZg==").as_deref(), Some(secret));
    }

    #[test]
    fn what_a_secret_itself_holds_is_no_leak() {
        let leaf = |path: &str| (path.to_owned(), json!(TOKEN));
        let leaves = Leaves::from([leaf("Secret/a/data/b"), leaf("Deployment/a/spec/b")]);
        assert_eq!(objects(&leaves).len(), 1);
    }
}
