//! The children that the operator made for a stack, as the API server has them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Observed, Stack};

/// Every kind of child.
const KINDS: &str = "serviceaccounts,secrets,configmaps,persistentvolumeclaims,services,statefulsets,deployments,cronjobs,horizontalpodautoscalers,poddisruptionbudgets,ingresses";

impl Stack {
    /// The children, data that stay included.
    pub async fn children(&self) -> Result<Vec<Value>> {
        self.list(KINDS).await
    }

    /// The objects of some kinds (`deployments,services`) that bear the stack's labels. Data have one of their own.
    pub async fn list(&self, kinds: &str) -> Result<Vec<Value>> {
        let of = |label: &str| format!("{label}={}", self.name);
        let data = of("rorun.app/stack");
        // Another tool may have put the label of all others on data, too.
        let others = format!("{},!rorun.app/stack", of("app.kubernetes.io/instance"));
        let mut found = self.test_cluster().list(&self.namespace, kinds, &others).await?;
        found.extend(self.test_cluster().list(&self.namespace, kinds, &data).await?);
        Ok(found)
    }

    /// The objects that hold its data, by `Kind/name`: the uid of each, and the content of a Secret.
    pub async fn data(&self) -> Result<BTreeMap<String, String>> {
        let mut found = self.list("persistentvolumeclaims,secrets").await?;
        found.retain(|object| object["metadata"]["labels"]["rorun.app/retained"] == "true");
        let line = |object: &Value| format!("{} {}", object["metadata"]["uid"], object["data"]);
        Ok(found.iter().map(|object| (key(object), line(object))).collect())
    }

    /// Uid and generation of each child, by `Kind/name`: a child that is the same object and was not changed has both
    /// from before.
    pub async fn generations(&self) -> Result<BTreeMap<String, String>> {
        let children = self.children().await?;
        let line = |child: &Value| format!("{} {}", child["metadata"]["uid"], child["metadata"]["generation"]);
        Ok(children.iter().map(|child| (key(child), line(child))).collect())
    }

    /// The children by `Kind/name`, without the values that differ between two stacks of the same spec: names, uids, times,
    /// hashes, addresses and generated credentials.
    pub async fn shape(&self) -> Result<BTreeMap<String, Value>> {
        let children = self.children().await?;
        Ok(children.into_iter().map(|child| (key(&child).replace(&self.name, "STACK"), self.shape_of(child))).collect())
    }

    /// The uid of each pod by its name, of the stack or of one component.
    pub async fn pod_uids(&self, component: Option<&str>) -> Result<BTreeMap<String, String>> {
        let pods = self.pods(component).await?;
        let entry = |metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            (metadata.name.unwrap_or_default(), metadata.uid.unwrap_or_default())
        };
        Ok(pods.into_iter().map(|pod| entry(pod.metadata)).collect())
    }

    /// Waits until none of these pods of a component is left, as many others are there, and the stack is Ready: requests meet
    /// a pod that is going until it is gone.
    pub async fn wait_replaced(&self, component: &str, old: &BTreeMap<String, String>, limit: Duration) -> Result<()> {
        self.wait(&format!("the pods of {component} to be replaced"), limit, async || {
            let now = self.pod_uids(Some(component)).await?;
            let left = now.values().filter(|uid| old.values().any(|gone| gone == *uid)).count();
            Ok(Observed::when(left == 0 && now.len() == old.len(), format!("{} pods, {left} of them old", now.len())))
        })
        .await?;
        self.wait_ready(limit).await.map(drop)
    }

    fn shape_of(&self, mut child: Value) -> Value {
        let keys = |data: &Value| data.as_object().map(|data| data.keys().cloned().collect::<Vec<_>>());
        if child["kind"] == "Secret" {
            child["data"] = json!(keys(&child["data"]));
        }
        let labels = child["metadata"]["labels"].take();
        if let Some(parts) = child.as_object_mut() {
            parts.remove("status");
            parts.insert("metadata".to_owned(), json!({"labels": labels}));
        }
        if let Some(template) = child.pointer_mut("/spec/template/metadata/annotations") {
            *template = json!(keys(template));
        }
        if let Some(spec) = child.get_mut("spec").and_then(Value::as_object_mut) {
            for given in ["clusterIP", "clusterIPs", "volumeName"] {
                spec.remove(given);
            }
        }
        let text = child.to_string().replace(&self.namespace, "NAMESPACE").replace(&self.name, "STACK");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

fn key(child: &Value) -> String {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", part(&child["kind"]), part(&child["metadata"]["name"]))
}
