//! What a scenario works in: its namespaces on the cluster of the tests.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use super::documents::{Documents, example};
use super::{Authority, Certificate, Observed, Stack, TestCluster, until};

/// A run of a scenario. All objects of the scenario are in its namespaces, which are deleted when it ends.
#[derive(Debug)]
pub struct TestContext {
    test_cluster: Arc<TestCluster>,
    /// The namespace of the stack. Pods that are not restricted are refused in it.
    pub namespace: String,
    namespaces: Mutex<Vec<String>>,
}

impl Deref for TestContext {
    type Target = TestCluster;

    fn deref(&self) -> &TestCluster {
        &self.test_cluster
    }
}

impl TestContext {
    /// Makes the namespace of a scenario. Its name is new for each run, so an earlier one may still be going.
    pub async fn open(test_cluster: Arc<TestCluster>, scenario: &str) -> Result<TestContext> {
        let mut test = TestContext { test_cluster, namespace: String::new(), namespaces: Mutex::default() };
        test.namespace = test.namespace_called(scenario).await?;
        Ok(test)
    }

    /// One more namespace.
    pub async fn namespace_called(&self, name: &str) -> Result<String> {
        let body = serde_json::from_value(json!({
            "metadata": {
                "generateName": format!("{name}-"),
                "labels": {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/enforce-version": "latest",
                    "rorun.app/e2e": "scenario",
                },
            },
        }))?;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let made = namespaces.create(&PostParams::default(), &body).await.context("failed to make a namespace")?;
        let name = made.metadata.name.context("a namespace has a name")?;
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        Ok(name)
    }

    /// A host that no other scenario uses. It ends in `.localhost`, which every browser takes for this machine.
    pub fn host(&self, of: &str) -> String {
        format!("{of}.{}.localhost", self.namespace)
    }

    /// Applies an example of the project, with its stack as `change` leaves it. First gives it Ingress hosts of this test, and
    /// small pods: scenarios run side by side on one node.
    pub async fn apply_example(&self, file: &str, change: impl FnOnce(&mut Value)) -> Result<Stack> {
        let mut documents = self.small_example(file)?;
        documents.edit_stack(change)?;
        self.apply(&documents).await
    }

    /// An example of the project, with Ingress hosts of this test and small pods.
    pub fn small_example(&self, file: &str) -> Result<Documents> {
        let mut documents = self.example(file)?;
        documents.edit_stack(small)?;
        Ok(documents)
    }

    /// An example of the project, with Ingress hosts of this test.
    pub fn example(&self, file: &str) -> Result<Documents> {
        let mut documents = example(file)?;
        documents.edit_stack(|stack| self.own_hosts(stack))?;
        Ok(documents)
    }

    /// Applies documents in the namespace of this test; returns the stack among them.
    pub async fn apply(&self, documents: &Documents) -> Result<Stack> {
        let (manifest, stack) = documents.in_namespace(&self.namespace)?;
        self.apply_objects(&manifest).await?;
        Ok(self.stack(&stack))
    }

    /// Applies an object, or a `List` of them, as `kubectl apply` does.
    pub async fn apply_objects(&self, manifest: &Value) -> Result<()> {
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=rorun-e2e", "--filename=-"];
        self.kubectl_with(&apply, manifest.to_string()).await?;
        Ok(())
    }

    /// The stack of that name, whether it exists or not.
    pub fn stack(&self, name: &str) -> Stack {
        Stack::new(Arc::clone(&self.test_cluster), &self.namespace, name)
    }

    /// The stack of that name in another namespace of this test.
    pub fn stack_in(&self, namespace: &str, name: &str) -> Stack {
        Stack::new(Arc::clone(&self.test_cluster), namespace, name)
    }

    /// Makes or replaces a Secret in the namespace of this test.
    pub async fn secret(&self, name: &str, values: Value) -> Result<()> {
        let metadata = json!({"name": name, "namespace": self.namespace});
        self.apply_objects(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}))
            .await
    }

    /// Makes or replaces a Secret with a certificate.
    pub async fn tls_secret(&self, name: &str, certificate: &Certificate) -> Result<()> {
        let Certificate { certificate, key } = certificate;
        self.apply_objects(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate, "tls.key": key},
        }))
        .await
    }

    /// Makes or replaces a Secret with a certificate and the authority that signed it, as cert-manager makes it.
    pub async fn server_secret(&self, name: &str, certificate: &Certificate, authority: &Authority) -> Result<()> {
        let Certificate { certificate, key } = certificate;
        self.secret(name, json!({"tls.crt": certificate, "tls.key": key, "ca.crt": authority.pem()})).await
    }

    /// Waits for something in the namespace of this test.
    pub async fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        observe: impl AsyncFnMut() -> Result<Observed<T>>,
    ) -> Result<T> {
        until(&self.test_cluster, &self.namespace, what, limit, observe).await
    }

    /// The namespaces of this test.
    pub fn namespaces(&self) -> Vec<String> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Deletes the namespaces. A stack that retains its data retains them until its namespace is gone.
    pub async fn close(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        for name in self.namespaces() {
            let deleted = namespaces.delete(&name, &DeleteParams::background()).await;
            deleted.with_context(|| format!("failed to delete the namespace {name}"))?;
        }
        Ok(())
    }

    fn own_hosts(&self, stack: &mut Value) {
        let Some(ingress) = stack["spec"].get_mut("ingress") else { return };
        for (field, of) in [("host", "api"), ("adminHost", "admin"), ("ocrHost", "ocr")] {
            if ingress.get(field).is_some() {
                ingress[field] = json!(self.host(of));
            }
        }
    }
}

/// Lets several stacks fit on a node with two processors, where the control plane has asked for one of them.
fn small(stack: &mut Value) {
    let little = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
    let spec = &mut stack["spec"];
    for part in ["api", "ocr", "admin", "backup"] {
        if spec.get(part).is_some() {
            spec[part]["resources"] = little.clone();
        }
    }
    // A service that the spec leaves out is embedded in Development, with larger requests.
    for part in ["database", "redis", "bucket"] {
        let left_out = spec.get(part).is_none() && spec["environment"] == "Development";
        if left_out || spec[part].get("embedded").is_some() {
            spec[part]["embedded"]["resources"] = little.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_stack_is_made_small_and_nothing_is_added() {
        let mut stack = json!({"spec": {"environment": "Development", "api": {}, "redis": {"external": {}}}});
        small(&mut stack);
        let parts: Vec<_> = stack["spec"].as_object().expect("a map").keys().map(String::as_str).collect();
        assert_eq!(parts, ["api", "bucket", "database", "environment", "redis"]);
        assert_eq!(stack["spec"]["database"]["embedded"]["resources"]["requests"]["cpu"], "10m");
        assert_eq!(stack["spec"]["redis"], json!({"external": {}}));
    }
}
