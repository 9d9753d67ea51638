//! A stack, as its user knows it: spec in, status out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Observed, TestCluster, until};

/// A stack by name.
#[derive(Clone, Debug)]
pub struct Stack {
    test_cluster: Arc<TestCluster>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A condition of a status.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Ready`, `DatabaseReady` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: String,
}

/// The status that the operator wrote.
#[derive(Clone, Debug)]
pub struct Status {
    /// The generation of the spec.
    pub generation: i64,
    /// The generation that the status speaks of; none before the first status.
    pub observed_generation: Option<i64>,
    /// The whole status.
    pub json: Value,
}

impl Status {
    /// The condition of a type.
    pub fn condition(&self, kind: &str) -> Option<Condition> {
        let conditions: Vec<Condition> = serde_json::from_value(self.json["conditions"].clone()).ok()?;
        conditions.into_iter().find(|condition| condition.kind == kind)
    }

    /// Whether the status speaks of the spec as it is now.
    pub fn is_current(&self) -> bool {
        self.observed_generation == Some(self.generation)
    }

    /// The row of a component.
    pub fn component(&self, name: &str) -> Option<&Value> {
        self.json["components"].as_array()?.iter().find(|row| row["name"] == name)
    }

    /// The condition of a type as one line.
    pub fn line(&self, kind: &str) -> String {
        let current = if self.is_current() { "" } else { " (of an earlier generation)" };
        match self.condition(kind) {
            Some(Condition { status, reason, message, .. }) => format!("{kind}={status} {reason}: {message}{current}"),
            None => format!("no condition {kind}{current}"),
        }
    }
}

impl Stack {
    /// The stack of that name, whether it exists or not.
    pub fn new(test_cluster: Arc<TestCluster>, namespace: &str, name: &str) -> Stack {
        Stack { test_cluster, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(super) fn test_cluster(&self) -> &TestCluster {
        &self.test_cluster
    }

    /// The name of a child: `<stack>-<part>`.
    pub fn child(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    /// The whole resource.
    pub async fn resource(&self) -> Result<Value> {
        let found = self.test_cluster.stacks(&self.namespace).get(&self.name).await;
        Ok(serde_json::to_value(found.with_context(|| format!("failed to read the stack {}", self.name))?)?)
    }

    /// The Secret `<stack>-connection`, by which the application finds its services.
    pub async fn connection(&self) -> Result<BTreeMap<String, String>> {
        let secret = self.test_cluster.api::<Secret>(&self.namespace).get(&self.child("connection")).await?;
        let data = secret.data.unwrap_or_default();
        Ok(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
    }

    /// The status.
    pub async fn status(&self) -> Result<Status> {
        let resource = self.resource().await?;
        Ok(Status {
            generation: resource["metadata"]["generation"].as_i64().unwrap_or_default(),
            observed_generation: resource["status"]["observedGeneration"].as_i64(),
            json: resource["status"].clone(),
        })
    }

    /// Changes the stack by a JSON merge patch, as `kubectl patch --type=merge` does.
    pub async fn patch(&self, patch: Value) -> Result<()> {
        let stacks = self.test_cluster.stacks(&self.namespace);
        let patched = stacks.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).with_context(|| format!("failed to patch the stack {}", self.name))
    }

    /// Changes the spec by a JSON merge patch.
    pub async fn patch_spec(&self, spec: Value) -> Result<()> {
        self.patch(json!({"spec": spec})).await
    }

    /// Deletes the stack and waits until it is gone.
    pub async fn delete(&self, limit: Duration) -> Result<()> {
        let stacks = self.test_cluster.stacks(&self.namespace);
        stacks.delete(&self.name, &DeleteParams::background()).await?;
        self.wait("the stack to be gone", limit, async || {
            Ok(Observed::when(stacks.get_opt(&self.name).await?.is_none(), "it is still there"))
        })
        .await
    }

    /// Waits until the stack is Ready, with its latest spec.
    pub async fn wait_ready(&self, limit: Duration) -> Result<Status> {
        let what = format!("the stack {} to be Ready", self.name);
        self.wait_status(&what, limit, |status| {
            status.is_current() && status.condition("Ready").is_some_and(|ready| ready.status == "True")
        })
        .await
    }

    /// Waits for a condition with this status and reason.
    pub async fn wait_condition(&self, kind: &str, status: &str, reason: &str, limit: Duration) -> Result<Condition> {
        let what = format!("{kind}={status} with the reason {reason}");
        let found = self.wait_observed(&what, limit, kind, |observed| {
            let condition = observed.condition(kind)?;
            let matches = observed.is_current() && condition.status == status && condition.reason == reason;
            matches.then_some(condition)
        });
        found.await
    }

    /// Waits until the status satisfies `holds`; a failure quotes the condition `Ready`.
    pub async fn wait_status(&self, what: &str, limit: Duration, holds: impl Fn(&Status) -> bool) -> Result<Status> {
        self.wait_observed(what, limit, "Ready", |status| holds(status).then(|| status.clone())).await
    }

    async fn wait_observed<T>(
        &self,
        what: &str,
        limit: Duration,
        told_by: &str,
        find: impl Fn(&Status) -> Option<T>,
    ) -> Result<T> {
        self.wait(what, limit, async || {
            let status = self.status().await?;
            Ok(find(&status).map_or_else(|| Observed::NotYet(status.line(told_by)), Observed::Met))
        })
        .await
    }

    /// Waits for an Event about the stack with this reason. It is written after the status.
    pub async fn wait_event(&self, reason: &str, limit: Duration) -> Result<()> {
        let selector = format!("involvedObject.kind=RorunStack,involvedObject.name={},reason={reason}", self.name);
        let events = self.test_cluster.api::<Event>(&self.namespace);
        self.wait(&format!("an Event with the reason {reason}"), limit, async || {
            let found = events.list(&ListParams::default().fields(&selector)).await?;
            Ok(Observed::when(!found.items.is_empty(), "there is none"))
        })
        .await
    }

    /// Waits for anything about the stack.
    pub async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        observe: impl AsyncFnMut() -> Result<Observed<T>>,
    ) -> Result<T> {
        until(&self.test_cluster, &self.namespace, what, limit, observe).await
    }

    /// The pods of the stack, or of one component.
    pub async fn pods(&self, component: Option<&str>) -> Result<Vec<Pod>> {
        let part = component.map(|name| format!(",app.kubernetes.io/component={name}")).unwrap_or_default();
        let labels = format!("app.kubernetes.io/instance={}{part}", self.name);
        let pods = self.test_cluster.api::<Pod>(&self.namespace).list(&ListParams::default().labels(&labels)).await?;
        Ok(pods.items)
    }

    /// The one pod of a component.
    pub async fn pod(&self, component: &str) -> Result<String> {
        let pods = self.pods(Some(component)).await?;
        let [pod] = &pods[..] else { bail!("{component} has {} pods, not one", pods.len()) };
        pod.metadata.name.clone().context("a pod has a name")
    }

    /// How often the containers of each pod were started again.
    pub async fn restarts(&self) -> Result<BTreeMap<String, i32>> {
        Ok(restarts(&self.pods(None).await?))
    }
}

/// How often the containers of each pod were started again, by the pod's name.
pub(super) fn restarts(pods: &[Pod]) -> BTreeMap<String, i32> {
    let count = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.into_iter().flatten().map(|status| status.restart_count).sum()
    };
    pods.iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), count(pod))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_an_earlier_generation_is_told_apart() {
        let json = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "well"}]});
        let status = Status { generation: 2, observed_generation: Some(1), json };
        assert!(!status.is_current());
        assert_eq!(status.line("Ready"), "Ready=True Ready: well (of an earlier generation)");
        assert_eq!(status.line("ApiReady"), "no condition ApiReady (of an earlier generation)");
    }
}
