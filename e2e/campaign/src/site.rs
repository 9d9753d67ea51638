//! A namespace with an operator of its own, on which a suite goes on from plan to plan.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use rorun_e2e::engine::record::ProcessRecord;
use serde_json::{Value, json};

use super::arena::{Arena, Operator, STACK};
use super::plan::Call;
use super::proxy::FaultProxy;
use super::snapshot::KINDS;
use super::stage::{Stage, lock};

const TICK: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_secs(30);

/// What else a proxy does when a plan says so.
pub(super) type Meanwhile = Box<dyn Fn() + Send + Sync>;

/// A namespace, the operator that watches it, and the proxy between that and the API server.
pub(super) struct Site<'a> {
    pub(super) arena: &'a Arena,
    /// Empty: the operator watches all namespaces.
    pub(super) namespace: String,
    pub(super) proxy: FaultProxy,
    victim: Arc<Mutex<Option<ProcessRecord>>>,
    operator: Option<Operator>,
}

impl<'a> Site<'a> {
    /// A new namespace. The operator is started by [`Site::settle`].
    pub(super) async fn open(arena: &'a Arena) -> Result<Site<'a>> {
        let namespace = arena.namespace().await?;
        Site::open_for(arena, namespace, arena.client.clone(), None).await
    }

    /// A namespace that is there already, or all. What the operator asks for is asked by way of this client; in place of
    /// a kill something else may happen.
    pub(super) async fn open_for(
        arena: &'a Arena,
        namespace: String,
        client: Client,
        meanwhile: Option<Meanwhile>,
    ) -> Result<Site<'a>> {
        let victim = Arc::new(Mutex::new(None::<ProcessRecord>));
        let kill = {
            let victim = Arc::clone(&victim);
            move || {
                if let Some(meanwhile) = &meanwhile {
                    return meanwhile();
                }
                let record = lock(&victim).take();
                if let Some(record) = record {
                    record.kill();
                }
            }
        };
        let proxy = FaultProxy::start(client, kill).await?;
        Ok(Site { arena, namespace, proxy, victim, operator: None })
    }

    /// Starts the operator if none runs, and waits until it has come to rest. Gives what was wrong.
    pub(super) async fn settle(&mut self, gone: bool) -> Result<Vec<String>> {
        let mut stage = Stage::new(self.arena, &self.namespace, &self.proxy, Arc::clone(&self.victim));
        stage.operator = self.operator.take();
        let settled = stage.settle(gone).await;
        let (operator, problems) = (stage.operator.take(), std::mem::take(&mut stage.problems));
        self.operator = operator;
        settled.map(|()| problems)
    }

    /// Starts the operator, and waits for nothing.
    pub(super) fn start(&mut self) -> Result<()> {
        let operator = self.arena.operator(&self.namespace, &self.proxy)?;
        *lock(&self.victim) = Some(operator.record.clone());
        self.operator = Some(operator);
        Ok(())
    }

    /// Ends the operator at once.
    pub(super) async fn kill(&mut self) -> Result<()> {
        lock(&self.victim).take();
        if let Some(mut operator) = self.operator.take() {
            operator.child.kill().await?;
        }
        Ok(())
    }

    /// Why the operator no longer runs; nothing if it does.
    pub(super) fn ended(&mut self) -> Result<Option<String>> {
        let Some(operator) = &mut self.operator else { return Ok(None) };
        Ok(operator.child.try_wait()?.map(|status| format!("O8 the operator ended by itself, {status}")))
    }

    /// The objects of a kind.
    pub(super) fn objects(&self, kind: &str) -> Result<Api<DynamicObject>> {
        objects(&self.arena.client, &self.namespace, kind)
    }

    /// The writes of children that came since there were so many writes.
    pub(super) fn writes_since(&self, begun: usize) -> Vec<Call> {
        let mut writes = self.proxy.writes();
        let writes = writes.split_off(begun.min(writes.len()));
        writes.into_iter().filter(|call| call.resource != "rorunstacks").collect()
    }

    /// Every child: kind, and object.
    pub(super) async fn children(&self) -> Result<Vec<(&'static str, DynamicObject)>> {
        children(&self.arena.client, &self.namespace).await
    }

    /// The conditions of the stack, without the times.
    pub(super) async fn conditions(&self) -> Result<Value> {
        let stack = self.arena.stacks(&self.namespace).get_opt(STACK).await?;
        let conditions = stack.and_then(|stack| stack.data.pointer("/status/conditions").cloned()).unwrap_or_default();
        let told = conditions.as_array().into_iter().flatten();
        let told = told.map(|one| json!([one["type"], one["status"], one["reason"], one["message"]]));
        Ok(told.collect())
    }
}

/// The objects of a kind in a namespace.
pub(super) fn objects(client: &Client, namespace: &str, kind: &str) -> Result<Api<DynamicObject>> {
    let (group, version, kind, plural) =
        KINDS.into_iter().find(|known| known.2 == kind).with_context(|| format!("{kind} is no kind of a child"))?;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Ok(Api::namespaced_with(client.clone(), namespace, &resource))
}

/// Every child in a namespace: kind, and object.
pub(super) async fn children(client: &Client, namespace: &str) -> Result<Vec<(&'static str, DynamicObject)>> {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=rorun-operator");
    let kinds = KINDS.into_iter().filter(|(group, ..)| *group != "rorun.app").map(|known| known.2);
    let lists = kinds.map(async |kind| {
        let found = objects(client, namespace, kind)?.list(&ours).await?.items;
        anyhow::Ok(found.into_iter().map(|object| (kind, object)).collect::<Vec<_>>())
    });
    Ok(futures::future::try_join_all(lists).await?.concat())
}

/// The plural of a kind.
pub(super) fn plural(kind: &str) -> &'static str {
    KINDS.into_iter().find(|known| known.2 == kind).map_or("", |known| known.3)
}

/// Waits until something is so; gives how long that took.
pub(super) async fn until(what: &str, is_so: impl AsyncFnMut() -> Result<bool>) -> Result<Duration> {
    within(PATIENCE, is_so).await?.with_context(|| format!("waited {} s in vain until {what}", PATIENCE.as_secs()))
}

/// Waits so long until something is so; gives how long that took, or nothing.
pub(super) async fn within(limit: Duration, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<Option<Duration>> {
    let begun = Instant::now();
    while !is_so().await? {
        if begun.elapsed() > limit {
            return Ok(None);
        }
        tokio::time::sleep(TICK).await;
    }
    Ok(Some(begun.elapsed()))
}

/// What a suite cannot go on from.
pub(super) fn all_well(what: &str, problems: &[String]) -> Result<()> {
    if !problems.is_empty() {
        bail!("{what}: {}", problems.join("; "));
    }
    Ok(())
}
