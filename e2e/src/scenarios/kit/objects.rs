//! Questions about any object of the cluster.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::Value;

use super::TestCluster;

/// Whether a pod is ready.
pub fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl TestCluster {
    /// An object as JSON; null when it is not there. `kind` is what kubectl calls it: `deployment`, `secret`.
    pub async fn get(&self, namespace: &str, kind: &str, name: &str) -> Result<Value> {
        let get = ["get", "--namespace", namespace, kind, name, "--ignore-not-found", "--output=json"];
        let text = self.kubectl(&get).await?;
        Ok(if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// The objects of some kinds (`deployments,services`) that match a label selector, as JSON.
    pub async fn list(&self, namespace: &str, kinds: &str, selector: &str) -> Result<Vec<Value>> {
        let list = ["get", "--namespace", namespace, kinds, "--selector", selector, "--output=json"];
        let mut found: Value = serde_json::from_str(&self.kubectl(&list).await?)?;
        Ok(serde_json::from_value(found["items"].take())?)
    }

    /// The objects of any kind, for kinds that are known only at run time.
    pub fn dynamic(&self, namespace: &str, resource: &ApiResource) -> kube::Api<DynamicObject> {
        kube::Api::namespaced_with(self.client.clone(), namespace, resource)
    }
}
