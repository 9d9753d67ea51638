//! What a user asks of a stack, where that is told to wait, and when it is done.

use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use serde_json::{Value, json};

use super::{Case, Operation};
use crate::environment::STACK;
use crate::jobs::{DUMP, MIGRATION, OpenJob, SWITCH};
use crate::snapshot::{Leaves, spread, unnamed};
use crate::stack::{Condition, Stack, conditions_of};

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

/// What asks something of it, and what is told of that.
impl Stack<'_> {
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

    /// Asks for a recovery point.
    pub(super) async fn back_up(&self, name: &str) -> Result<()> {
        self.make("RorunBackup", name, json!({"stackRef": {"name": STACK}})).await
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
            Operation::Deletion => self.delete().await,
        }
    }

    /// The conditions of the stack, or of what asks something of it.
    async fn conditions_of(&self, asked: Asked) -> Result<Vec<Condition>> {
        let object = match asked.operation {
            Operation::Dump => self.requests("RorunBackup").get_opt(asked.name).await?,
            Operation::Restore => self.requests("RorunRestore").get_opt(asked.name).await?,
            Operation::Release | Operation::Hibernation | Operation::Deletion => self.get().await?,
        };
        Ok(object.as_ref().map(conditions_of).unwrap_or_default())
    }

    /// Whether a hibernation is told to be there.
    pub(super) async fn is_asleep(&self) -> Result<bool> {
        let conditions = self.conditions().await?;
        Ok(conditions.iter().any(|[kind, status, ..]| kind == "Hibernated" && status == "True"))
    }

    /// Whether the deletion is told to wait.
    pub(super) async fn is_terminating(&self) -> Result<bool> {
        Ok(self.conditions().await?.iter().any(|[kind, _, reason, _]| kind == "Ready" && reason == "Terminating"))
    }

    /// Whether an operation is told to wait, and for the other: by one of these words.
    pub(super) async fn waits(&self, asked: Asked, words: &[String]) -> Result<bool> {
        let conditions = self.conditions_of(asked).await?;
        let of_operation = |[kind, status, reason, message]: &&Condition| match asked.operation {
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
        let mut told: Vec<String> = self.conditions_of(asked).await?.iter().map(|one| one.join(" ")).collect();
        told.push(format!("release {}", self.status("/release/state").await?));
        if let Operation::Dump | Operation::Restore = asked.operation {
            told.extend(self.conditions().await?.iter().map(|one| one.join(" ")));
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
}
