//! The context of a plan: a namespace with an operator of its own, and the proxy between that and the API server.

use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use rorun_e2e::engine::record::ProcessRecord;
use serde_json::{Value, json};

use super::environment::{Operator, STACK, TestEnvironment};
use super::plan::Call;
use super::proxy::FaultProxy;
use super::snapshot::KINDS;
use super::sync::lock;

/// After the last fault, or without one after the start.
const CONVERGED_WITHIN: Duration = Duration::from_secs(10);
/// With all faults: several times the limit of a watch that sends nothing, and of a crash loop.
const DISTURBED_AT_MOST: Duration = Duration::from_mins(5);
/// Longer than the first retries of the operator.
const QUIET: Duration = Duration::from_millis(1200);
/// A condition says this of a service that has not answered yet.
const BEING_ASKED: &str = "is being asked whether it answers";
const SETTLE_TICK: Duration = Duration::from_millis(20);
/// How often the quiet has to be polled: a machine that stands still writes nothing either.
const POLLS: usize = 30;
const TICK: Duration = Duration::from_millis(15);
const TIMEOUT: Duration = Duration::from_secs(30);

/// The action of a proxy in place of a kill.
pub(super) type Meanwhile = Box<dyn Fn() + Send + Sync>;

/// A namespace, the operator that watches it, and the proxy between the operator and the API server.
pub(super) struct TestContext<'a> {
    pub(super) environment: &'a TestEnvironment,
    /// Empty: the operator watches all namespaces.
    pub(super) namespace: String,
    pub(super) proxy: FaultProxy,
    victim: Arc<Mutex<Option<ProcessRecord>>>,
    operator: Option<Operator>,
    problems: Vec<String>,
}

impl<'a> TestContext<'a> {
    /// A new namespace. The operator is started by [`TestContext::settle`].
    pub(super) async fn open(environment: &'a TestEnvironment) -> Result<TestContext<'a>> {
        let namespace = environment.namespace().await?;
        TestContext::open_for(environment, namespace, environment.client.clone(), None).await
    }

    /// A namespace that exists already, or all. The proxy forwards the operator's requests by this client; `meanwhile` replaces
    /// the kill.
    pub(super) async fn open_for(
        environment: &'a TestEnvironment,
        namespace: String,
        client: Client,
        meanwhile: Option<Meanwhile>,
    ) -> Result<TestContext<'a>> {
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
        Ok(TestContext { environment, namespace, proxy, victim, operator: None, problems: Vec::new() })
    }

    /// Keeps an operator running, until the stack's status speaks of its spec, or the stack is gone, and the operator writes
    /// nothing for a while. The time limit begins again with each fault, and when the last one is over. Returns the problems.
    pub(super) async fn settle(&mut self, gone: bool) -> Result<Vec<String>> {
        let begun = Instant::now();
        let (mut since, mut fired) = (begun, self.proxy.fired());
        let (mut before, mut polls) = (None, 0);
        loop {
            let disturbed = self.proxy.is_disturbing();
            if disturbed || fired != self.proxy.fired() {
                (since, fired) = (Instant::now(), self.proxy.fired());
            }
            // The operator acts on a delayed event when the event has come.
            let from = since.max(self.proxy.last_write());
            polls = if before == Some(from) { polls + 1 } else { 0 };
            before = Some(from);
            let quiet = from.elapsed();
            if self.restart_if_ended().await? && quiet > QUIET && polls >= POLLS && self.is_current(gone).await? {
                break;
            }
            if since.elapsed() > CONVERGED_WITHIN || begun.elapsed() > DISTURBED_AT_MOST {
                let why = if disturbed { "the fault does not end" } else { "no rest" };
                self.problems.push(format!("O3 {why} within {} s", CONVERGED_WITHIN.as_secs()));
                break;
            }
            tokio::time::sleep(SETTLE_TICK).await;
        }
        Ok(std::mem::take(&mut self.problems))
    }

    /// Starts an operator if none runs, also after one was killed; any other end of an operator is a problem. Returns whether
    /// one was running.
    pub(super) async fn restart_if_ended(&mut self) -> Result<bool> {
        if let Some(operator) = &mut self.operator {
            let Some(status) = operator.child.try_wait()? else { return Ok(true) };
            if status.signal() != Some(9) {
                let log = tokio::fs::read_to_string(self.environment.log(&self.namespace)).await.unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                self.problems.push(format!("O8 the operator ended by itself, {status}: {last}"));
            }
        }
        self.start()?;
        self.proxy.touch();
        Ok(false)
    }

    async fn is_current(&self, gone: bool) -> Result<bool> {
        let stack =
            self.environment.stacks(&self.namespace).get_opt(STACK).await.context("failed to read the stack")?;
        Ok(match stack {
            None => gone,
            Some(stack) => {
                let status = &stack.data["status"];
                let current = status["observedGeneration"].as_i64() == stack.metadata.generation;
                // The status has yet to say what the service answers.
                !gone && current && !status.to_string().contains(BEING_ASKED)
            }
        })
    }

    /// Starts the operator, and waits for nothing.
    pub(super) fn start(&mut self) -> Result<()> {
        let operator = self.environment.operator(&self.namespace, &self.proxy)?;
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
        objects(&self.environment.client, &self.namespace, kind)
    }

    /// The writes of children that came since there were so many writes.
    pub(super) fn writes_since(&self, begun: usize) -> Vec<Call> {
        let mut writes = self.proxy.writes();
        let writes = writes.split_off(begun.min(writes.len()));
        writes.into_iter().filter(|call| call.resource != "rorunstacks").collect()
    }

    /// Every child: kind, and object.
    pub(super) async fn children(&self) -> Result<Vec<(&'static str, DynamicObject)>> {
        children(&self.environment.client, &self.namespace).await
    }

    /// Waits so long for a condition with this reason whose message names the object; returns whether one came.
    pub(super) async fn reports(&self, reason: &str, object: &str, limit: Duration) -> Result<bool> {
        let reported = async || {
            let conditions = self.conditions().await?;
            let mut all = conditions.as_array().into_iter().flatten();
            Ok(all.any(|one| one[2] == reason && one[3].as_str().unwrap_or_default().contains(object)))
        };
        Ok(within(limit, reported).await?.is_some())
    }

    /// The conditions of the stack, without the times.
    pub(super) async fn conditions(&self) -> Result<Value> {
        let stack = self.environment.stacks(&self.namespace).get_opt(STACK).await?;
        let conditions = stack.and_then(|stack| stack.data.pointer("/status/conditions").cloned()).unwrap_or_default();
        let reported = conditions.as_array().into_iter().flatten();
        let reported = reported.map(|one| json!([one["type"], one["status"], one["reason"], one["message"]]));
        Ok(reported.collect())
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
    within(TIMEOUT, is_so).await?.with_context(|| format!("waited {} s in vain until {what}", TIMEOUT.as_secs()))
}

/// Waits so long until something is so; gives how long that took, or nothing.
pub(super) async fn within(limit: Duration, is_so: impl AsyncFnMut() -> Result<bool>) -> Result<Option<Duration>> {
    within_polled(TICK, limit, is_so).await
}

/// As [`within`], and asks only so often: for what asks the API server for much, beside others that do.
pub(super) async fn within_polled(
    tick: Duration,
    limit: Duration,
    mut is_so: impl AsyncFnMut() -> Result<bool>,
) -> Result<Option<Duration>> {
    let begun = Instant::now();
    while !is_so().await? {
        if begun.elapsed() > limit {
            return Ok(None);
        }
        tokio::time::sleep(tick).await;
    }
    Ok(Some(begun.elapsed()))
}

/// An error for problems that a suite cannot go on from.
pub(super) fn all_well(what: &str, problems: &[String]) -> Result<()> {
    if !problems.is_empty() {
        bail!("{what}: {}", problems.join("; "));
    }
    Ok(())
}
