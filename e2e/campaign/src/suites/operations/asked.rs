//! What a user asks of a stack, where that is told to wait, and when it is done.

use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};

use super::jobs::{DUMP, MIGRATION, OpenJob, SWITCH};
use super::{Case, Operation};
use crate::environment::{STACK, TestEnvironment};
use crate::snapshot::{Leaves, spread, unnamed};
use crate::test_context::children;

/// The RorunBackup without which a deletion would be over at once.
pub(super) const BEFORE: &str = "before";
/// The kinds of what asks something of a stack.
pub(super) const REQUESTS: [&str; 2] = ["RorunBackup", "RorunRestore"];
const POINT: &str = "20261124T021500Z-x7k2p";

/// One of the two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// What it is.
    pub(super) operation: Operation,
    /// The name of the object that asks for it.
    pub(super) name: &'static str,
    /// The image of it, if it is a release.
    pub(super) image: &'static str,
}

impl Case {
    /// The one that is asked for first.
    pub(super) fn first(&self) -> Asked {
        Asked { operation: self.first, name: "first", image: "rorun-api:2" }
    }

    /// Whether the second operation has to wait: a hibernation keeps nobody from deleting a stack.
    pub(super) fn has_to_wait(&self) -> bool {
        (self.first, self.second) != (Operation::Hibernation, Operation::Deletion)
    }

    /// One of these names what the second operation waits for. `job`: that of the first on live data.
    pub(super) fn words(&self, job: Option<&OpenJob>) -> Vec<String> {
        let operation = match self.first {
            Operation::Restore => Some(format!("rorunrestore/{}", self.first().name)),
            Operation::Hibernation => Some("hibernates".to_owned()),
            Operation::Deletion => Some("is being deleted".to_owned()),
            Operation::Dump | Operation::Release => None,
        };
        job.map(|job| format!("job/{}", job.name)).into_iter().chain(operation).collect()
    }

    /// The one that is asked for while the first goes on.
    pub(super) fn second(&self) -> Asked {
        Asked { operation: self.second, name: "second", image: "rorun-api:3" }
    }
}

impl Operation {
    /// What its Job on live data does. A hibernation has none.
    pub(super) fn step(self) -> Option<&'static str> {
        match self {
            // The one that it waits for.
            Operation::Dump | Operation::Deletion => Some(DUMP),
            Operation::Release => Some(MIGRATION),
            Operation::Restore => Some(SWITCH),
            Operation::Hibernation => None,
        }
    }
}

/// The stack, and what beside it asks something of it.
pub(super) struct Stack<'a> {
    environment: &'a TestEnvironment,
    namespace: String,
}

impl<'a> Stack<'a> {
    /// That of a namespace.
    pub(super) fn of(environment: &'a TestEnvironment, namespace: &str) -> Stack<'a> {
        Stack { environment, namespace: namespace.to_owned() }
    }

    fn requests(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("rorun.app", "v1alpha1", kind));
        Api::namespaced_with(self.environment.client.clone(), &self.namespace, &resource)
    }

    async fn make(&self, kind: &str, name: &str, spec: Value) -> Result<()> {
        let request =
            json!({"apiVersion": "rorun.app/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.requests(kind).create(&PostParams::default(), &serde_json::from_value(request)?).await?;
        Ok(())
    }

    /// Makes it.
    pub(super) async fn apply(&self, spec: &Value) -> Result<()> {
        self.environment.apply(&self.namespace, spec).await
    }

    /// Asks for a recovery point.
    pub(super) async fn back_up(&self, name: &str) -> Result<()> {
        self.make("RorunBackup", name, json!({"stackRef": {"name": STACK}})).await
    }

    async fn change(&self, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.environment.stacks(&self.namespace).patch(STACK, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The user needs it again.
    pub(super) async fn wake(&self) -> Result<()> {
        self.change(json!({"hibernate": false})).await
    }

    /// Asks for an operation.
    pub(super) async fn ask(&self, asked: Asked) -> Result<()> {
        let stacks = self.environment.stacks(&self.namespace);
        match asked.operation {
            Operation::Dump => self.back_up(asked.name).await,
            Operation::Release => self.change(json!({"api": {"image": asked.image}})).await,
            Operation::Hibernation => self.change(json!({"hibernate": true})).await,
            Operation::Restore => {
                let uid = stacks.get(STACK).await?.uid().context("a stack without a uid")?;
                let spec = json!({"stackRef": {"name": STACK, "uid": uid}, "from": {"id": POINT}});
                self.make("RorunRestore", asked.name, spec).await
            }
            Operation::Deletion => {
                stacks.delete(STACK, &DeleteParams::background()).await?;
                Ok(())
            }
        }
    }

    /// The stack; nothing if it is gone.
    pub(super) async fn get(&self) -> Result<Option<DynamicObject>> {
        self.environment.stacks(&self.namespace).get_opt(STACK).await.context("failed to read the stack")
    }

    /// A part of the status of the stack.
    async fn status(&self, path: &str) -> Result<Value> {
        let stack = self.get().await?;
        Ok(stack.and_then(|stack| stack.data["status"].pointer(path).cloned()).unwrap_or_default())
    }

    /// Whether a release serves, and nothing else is on its way.
    pub(super) async fn serves(&self, image: &str) -> Result<bool> {
        let release = self.status("/release").await?;
        Ok(release["state"] == "Serving" && release["current"]["api"] == image)
    }

    /// The conditions of the stack, or of what asks something of it: type, status, reason and message.
    async fn conditions(&self, asked: Asked) -> Result<Vec<[String; 4]>> {
        let object = match asked.operation {
            Operation::Dump => self.requests("RorunBackup").get_opt(asked.name).await?,
            Operation::Restore => self.requests("RorunRestore").get_opt(asked.name).await?,
            Operation::Release | Operation::Hibernation | Operation::Deletion => self.get().await?,
        };
        let conditions = object.and_then(|object| object.data.pointer("/status/conditions").cloned());
        let conditions = conditions.unwrap_or_default();
        let told = |one: &Value| ["type", "status", "reason", "message"].map(|field| text(&one[field]));
        Ok(conditions.as_array().into_iter().flatten().map(told).collect())
    }

    /// Whether a hibernation is told to be there.
    pub(super) async fn is_asleep(&self) -> Result<bool> {
        let asked = Asked { operation: Operation::Hibernation, name: "", image: "" };
        let conditions = self.conditions(asked).await?;
        Ok(conditions.iter().any(|[kind, status, ..]| kind == "Hibernated" && status == "True"))
    }

    /// Whether the deletion is told to wait.
    pub(super) async fn is_terminating(&self) -> Result<bool> {
        let asked = Asked { operation: Operation::Deletion, name: "", image: "" };
        Ok(self.conditions(asked).await?.iter().any(|[kind, _, reason, _]| kind == "Ready" && reason == "Terminating"))
    }

    /// Whether an operation is told to wait, and for the other: by one of these words.
    pub(super) async fn waits(&self, asked: Asked, words: &[String]) -> Result<bool> {
        let conditions = self.conditions(asked).await?;
        let of_operation = |[kind, status, reason, message]: &&[String; 4]| match asked.operation {
            Operation::Dump | Operation::Restore => kind == "Complete" && status == "False",
            Operation::Hibernation => kind == "Hibernated" && status == "False",
            Operation::Deletion => kind == "Ready" && reason == "Terminating",
            Operation::Release => status == "False" && message.contains("release "),
        };
        let mut told = conditions.iter().filter(of_operation);
        Ok(told.any(|[.., message]| words.iter().any(|word| message.contains(word.as_str()))))
    }

    /// Whether an operation came to its end, and a good one.
    pub(super) async fn is_done(&self, asked: Asked) -> Result<bool> {
        let complete = async |kind: &str| {
            let request = self.requests(kind).get(asked.name).await?;
            anyhow::Ok(request.data.pointer("/status/phase").is_some_and(|phase| phase == "Complete"))
        };
        match asked.operation {
            Operation::Dump => complete("RorunBackup").await,
            Operation::Restore => complete("RorunRestore").await,
            Operation::Release => self.serves(asked.image).await,
            Operation::Hibernation => self.is_asleep().await,
            Operation::Deletion => Ok(self.get().await?.is_none()),
        }
    }

    /// What is told of an operation, for whoever looks for the reason of a failure.
    pub(super) async fn told(&self, asked: Asked) -> Result<String> {
        let mut told: Vec<String> = self.conditions(asked).await?.iter().map(|one| one.join(" ")).collect();
        told.push(format!("release {}", self.status("/release/state").await?));
        if let Operation::Dump | Operation::Restore = asked.operation {
            let stack = Asked { operation: Operation::Release, ..asked };
            told.extend(self.conditions(stack).await?.iter().map(|one| one.join(" ")));
        }
        Ok(told.join("; "))
    }

    /// What becomes of the requests, leaf by leaf.
    pub(super) async fn requests_told(&self, leaves: &mut Leaves) -> Result<()> {
        for kind in REQUESTS {
            for request in self.requests(kind).list(&ListParams::default()).await?.items {
                spread(&format!("{kind}/{}", request.name_any()), unnamed(kind, &request, &self.namespace)?, leaves);
            }
        }
        Ok(())
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

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
