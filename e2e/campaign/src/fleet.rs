//! Several stacks of one namespace, and a user who tries again while the API server is away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use rorun_e2e::engine::AuditCall;
use serde_json::{Value, json};

use super::environment::TestEnvironment;
use super::plan::same_in_each_run;
use super::snapshot::{KINDS, Leaves, take};
use super::test_context::objects;

/// Longer than the first retries of the operator.
const QUIET: Duration = Duration::from_millis(1500);
const TICK: Duration = Duration::from_millis(100);
/// How often the quiet has to be polled: on a machine that stands still nothing changes either.
const POLLS: usize = 7;
/// For how long a user tries a request again.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The stacks of a namespace.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    pub(super) environment: &'a TestEnvironment,
    pub(super) namespace: String,
}

impl<'a> Fleet<'a> {
    /// None yet.
    pub(super) async fn open(environment: &'a TestEnvironment) -> Result<Fleet<'a>> {
        Ok(Fleet { environment, namespace: environment.namespace().await? })
    }

    /// Makes or changes a stack.
    pub(super) async fn apply(&self, name: &str, spec: &Value) -> Result<()> {
        let stack =
            json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": name}, "spec": spec});
        let (stacks, params) = (self.environment.stacks(&self.namespace), PatchParams::apply("user").force());
        with_retries(async || stacks.patch(name, &params, &Patch::Apply(&stack)).await.map(drop)).await
    }

    /// Deletes a stack.
    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        let stacks = self.environment.stacks(&self.namespace);
        with_retries(async || match stacks.delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => done.map(drop),
        })
        .await
    }

    /// Objects of a kind.
    pub(super) fn api(&self, kind: &str) -> Result<Api<DynamicObject>> {
        objects(&self.environment.client, &self.namespace, kind)
    }

    /// Waits until every status speaks of its spec and no object changes any more; a problem if that does not come.
    pub(super) async fn settle(&self, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        let (mut observed, mut since, mut polls) = (BTreeMap::new(), Instant::now(), 0);
        loop {
            let now = self.versions().await.unwrap_or_default();
            polls += 1;
            if now != observed {
                (observed, since, polls) = (now, Instant::now(), 0);
            }
            let current = self.are_current().await.unwrap_or(false);
            let quiet = since.elapsed() > QUIET && polls >= POLLS;
            if current && !observed.is_empty() && quiet {
                return None;
            }
            if Instant::now() > deadline {
                let what = if current { "objects still change" } else { "a status does not speak of its spec" };
                return Some(format!("O3 no rest within {} s: {what}", within.as_secs()));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Waits until nothing differs; gives what still does when that does not come.
    pub(super) async fn until_same(
        &self,
        within: Duration,
        differences: impl Fn(&Leaves) -> Vec<String>,
    ) -> Result<Vec<String>> {
        let deadline = Instant::now() + within;
        loop {
            let different = differences(&self.leaves().await?);
            if different.is_empty() || Instant::now() > deadline {
                return Ok(different);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// All there is, leaf by leaf. A server that has just begun may still refuse to list.
    pub(super) async fn leaves(&self) -> Result<Leaves> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match take(&self.environment.client, &self.namespace).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(TICK).await,
                leaves => return leaves,
            }
        }
    }

    /// The generated credentials, leaf by leaf.
    pub(super) async fn passwords(&self) -> Result<Leaves> {
        let mut leaves = self.leaves().await?;
        leaves.retain(|path, _| path.contains("-credentials/data/"));
        Ok(leaves)
    }

    /// What the operators have made and deleted since, by the audit log, with how often. Events are only told.
    pub(super) fn made(&self, calls: &[AuditCall]) -> BTreeMap<String, usize> {
        let mut made = BTreeMap::new();
        let ours = calls.iter().filter(|call| call.namespace == self.namespace);
        let by_operator = ours.filter(|call| call.user_agent.starts_with("rorun-"));
        for call in by_operator.filter(|call| call.resource != "events" && call.subresource.is_empty()) {
            let what = match (call.verb.as_str(), call.code) {
                (_, 201) => "made",
                ("delete", 200..=299) => "deleted",
                _ => continue,
            };
            *made.entry(format!("{what} {}/{}", call.resource, same_in_each_run(&call.name))).or_default() += 1;
        }
        made
    }

    async fn are_current(&self) -> Result<bool> {
        let stacks = self.environment.stacks(&self.namespace).list(&ListParams::default()).await?;
        Ok(stacks.iter().all(|stack| {
            let status = &stack.data["status"];
            let current = status["observedGeneration"].as_i64() == stack.metadata.generation;
            let reported = !status.to_string().contains("is being asked whether it answers");
            stack.metadata.deletion_timestamp.is_none() && current && reported
        }))
    }

    async fn versions(&self) -> Result<BTreeMap<String, Option<String>>> {
        let mut versions = BTreeMap::new();
        for (.., kind, _) in KINDS {
            let listed = self.api(kind)?.list_metadata(&ListParams::default()).await?;
            versions.extend(listed.items.into_iter().map(|object| {
                (format!("{kind}/{}", object.metadata.name.unwrap_or_default()), object.metadata.resource_version)
            }));
        }
        Ok(versions)
    }
}

/// Does it again until it is done: the API server may be away.
pub(super) async fn with_retries(mut act: impl AsyncFnMut() -> kube::Result<()>) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match act().await {
            Ok(()) => return Ok(()),
            Err(kube::Error::Api(status)) if (400..429).contains(&status.code) && status.code != 409 => {
                bail!("the API server refuses: {}", status.message);
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(TICK).await,
        }
    }
}

/// Plays to the end on this thread: the compiler cannot tell of asynchronous closures that they may be sent to another.
pub(super) fn on_this_thread<T>(play: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(play))
}
