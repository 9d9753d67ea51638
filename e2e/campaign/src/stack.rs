//! The stack of a namespace, as a user sees and changes it.

use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::environment::{STACK, TestEnvironment};
use super::test_context::children;

/// Type, status, reason and message.
pub(super) type Condition = [String; 4];

/// The stack, and where it is.
pub(super) struct Stack<'a> {
    /// The API server.
    pub(super) environment: &'a TestEnvironment,
    /// Its namespace.
    pub(super) namespace: String,
}

impl<'a> Stack<'a> {
    /// That of a namespace.
    pub(super) fn of(environment: &'a TestEnvironment, namespace: &str) -> Stack<'a> {
        Stack { environment, namespace: namespace.to_owned() }
    }

    /// Makes it.
    pub(super) async fn apply(&self, spec: &Value) -> Result<()> {
        self.environment.apply(&self.namespace, spec).await
    }

    /// Changes fields of its spec.
    pub(super) async fn change(&self, spec: Value) -> Result<()> {
        self.patch(json!({"spec": spec})).await
    }

    /// Sets annotations.
    pub(super) async fn annotate(&self, annotations: Value) -> Result<()> {
        self.patch(json!({"metadata": {"annotations": annotations}})).await
    }

    async fn patch(&self, patch: Value) -> Result<()> {
        let stacks = self.environment.stacks(&self.namespace);
        stacks
            .patch(STACK, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context("failed to change the stack")?;
        Ok(())
    }

    /// Deletes it.
    pub(super) async fn delete(&self) -> Result<()> {
        self.environment.stacks(&self.namespace).delete(STACK, &DeleteParams::background()).await?;
        Ok(())
    }

    /// The stack; nothing if it is gone.
    pub(super) async fn get(&self) -> Result<Option<DynamicObject>> {
        self.environment.stacks(&self.namespace).get_opt(STACK).await.context("failed to read the stack")
    }

    /// A part of its status.
    pub(super) async fn status(&self, path: &str) -> Result<Value> {
        let stack = self.get().await?;
        Ok(stack.and_then(|stack| stack.data["status"].pointer(path).cloned()).unwrap_or_default())
    }

    /// Its conditions.
    pub(super) async fn conditions(&self) -> Result<Vec<Condition>> {
        Ok(self.get().await?.as_ref().map(conditions_of).unwrap_or_default())
    }

    /// Whether a release serves, and nothing else is on its way.
    pub(super) async fn serves(&self, image: &str) -> Result<bool> {
        let release = self.status("/release").await?;
        Ok(release["state"] == "Serving" && release["current"]["api"] == image)
    }

    /// Children that would stay though the stack is gone: a garbage collector takes what it owns, and the spec keeps the data.
    pub(super) async fn left_by(&self, uid: &str) -> Result<Vec<String>> {
        let mut left = children(&self.environment.client, &self.namespace).await?;
        left.retain(|(_, child)| {
            let retained = child.labels().get("rorun.app/retained").is_some_and(|retained| retained == "true");
            !retained && child.owner_references().iter().all(|owner| owner.uid != uid)
        });
        Ok(left.into_iter().map(|(kind, child)| format!("{kind}/{}", child.name_any())).collect())
    }
}

/// The conditions of an object.
pub(super) fn conditions_of(object: &DynamicObject) -> Vec<Condition> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |one: &Value| ["type", "status", "reason", "message"].map(|field| text(&one[field]));
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().map(told).collect()
}
