//! What the statuses of all stacks say, and since when: by one watch, as it tells of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::template::StackName;

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The observations of a stack.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// When the status first reported a generation.
    pub(super) generations: HashMap<i64, Instant>,
    /// When everything that it needs had been made for the first time.
    pub(super) made: Option<Instant>,
    /// The newest generation, and whether the status says that it is ready.
    pub(super) now: (i64, bool),
}

/// A watch of all stacks; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Statuses {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stacks: Mutex<HashMap<StackName, Observed>>,
    changed: Notify,
}

impl Drop for Statuses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The resource of stacks.
pub(super) fn stack_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("rorun.app", "v1alpha1", "RorunStack");
    ApiResource::from_gvk_with_plural(&kind, "rorunstacks")
}

impl Statuses {
    /// Begins to watch.
    pub(super) fn watch(client: Client) -> Statuses {
        let shared = Arc::new(Shared::default());
        let seeing = Arc::clone(&shared);
        let api = Api::<DynamicObject>::all_with(client, &stack_resource());
        let events = watcher(api, watcher::Config::default()).default_backoff().touched_objects();
        let task = tokio::spawn(async move {
            let mut events = events.boxed();
            // The watcher reconnects after an error.
            loop {
                if let Ok(Some(stack)) = events.try_next().await {
                    seeing.see(&stack);
                }
            }
        });
        Statuses { shared, task }
    }

    /// Waits until all of the stacks are as asked for.
    pub(super) async fn until(
        &self,
        what: &str,
        (stacks, limit): (&[StackName], Duration),
        is: impl Fn(&Observed) -> bool,
    ) -> Result<()> {
        let mut left: Vec<&StackName> = stacks.iter().collect();
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                {
                    let seen = self.shared.stacks();
                    left.retain(|name| !seen.get(*name).is_some_and(&is));
                }
                if left.is_empty() {
                    return;
                }
                changed.await;
                // To look at all of them at each of their events would take time from who is measured.
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let ended = tokio::time::timeout(limit, wait).await;
        ended.with_context(|| format!("{} of {} stacks never were {what}", left.len(), stacks.len()))
    }

    /// The observations of a stack until now.
    pub(super) fn of(&self, stack: &StackName) -> Observed {
        self.shared.stacks().get(stack).cloned().unwrap_or_default()
    }
}

impl Shared {
    fn see(&self, stack: &DynamicObject) {
        let name = StackName {
            namespace: stack.metadata.namespace.clone().unwrap_or_default(),
            name: stack.metadata.name.clone().unwrap_or_default(),
        };
        let status = &stack.data["status"];
        let (generation, observed) = (stack.metadata.generation, status["observedGeneration"].as_i64());
        let mut stacks = self.stacks();
        let seen = stacks.entry(name).or_default();
        if let Some(observed) = observed {
            seen.generations.entry(observed).or_insert_with(Instant::now);
        }
        let current = observed.is_some() && observed == generation;
        if current && seen.made.is_none() && is_made(status) {
            seen.made = Some(Instant::now());
        }
        seen.now = (generation.unwrap_or_default(), current && is_true(condition(status, "Ready")));
        drop(stacks);
        self.changed.notify_waiters();
    }

    fn stacks(&self) -> MutexGuard<'_, HashMap<StackName, Observed>> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn is_true(condition: Option<&Value>) -> bool {
    condition.is_some_and(|condition| condition["status"] == "True")
}

/// Whether nothing is held back any more: the services answer, and so what needs them was made before this was written.
fn is_made(status: &Value) -> bool {
    let waits = |kind| condition(status, kind).is_none_or(|reported| reported["reason"] == "DependencyNotReady");
    ["DatabaseReady", "RedisReady", "BucketReady"].iter().all(|kind| is_true(condition(status, kind)))
        && !["ApiReady", "OcrReady"].into_iter().any(waits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stack_is_made_when_nothing_is_held_back() {
        let status = |data: &str, api: &str| {
            let data = ["DatabaseReady", "RedisReady", "BucketReady"].map(|kind| json!({"type": kind, "status": data}));
            let apps = ["ApiReady", "OcrReady"].map(|kind| json!({"type": kind, "status": "False", "reason": api}));
            json!({"conditions": data.into_iter().chain(apps).collect::<Vec<_>>()})
        };
        for (status, expected) in [
            (status("True", "Progressing"), true),
            (status("True", "DependencyNotReady"), false),
            (status("False", "Progressing"), false),
            (json!({}), false),
        ] {
            assert_eq!(is_made(&status), expected, "{status}");
        }
    }
}
