//! What all chains share: one API server, one operator of all namespaces, and the runs without a change.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use rorun_e2e::engine::Cache;
use rorun_e2e::fake_controllers::FakeControllers;
use serde_json::Value;

use super::bases::{Base, surroundings};
use super::chain_run::ChainRun;
use super::judge::Masks;
use super::schema::{Change, Schema};
use super::stand_in::Bucket;
use super::watched::WatchedNamespaces;
use crate::environment::{Operator, TestEnvironment};
use crate::proxy::FaultProxy;
use crate::sync::lock;

/// The name of the log of the operator.
const LOG: &str = "mutation";

/// The results of the changes of a place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    /// Refused at admission.
    pub(super) refused: usize,
    /// Taken.
    pub(super) stored: usize,
    /// Of those, the ones after which a component is not as it should be.
    pub(super) bad: usize,
    /// Of those, the ones that show in a child.
    pub(super) in_child: usize,
    /// Without a difference to the value before.
    pub(super) without: usize,
}

/// All that chains share.
pub(super) struct Shared {
    pub(super) namespaces: WatchedNamespaces,
    pub(super) bucket: Bucket,
    pub(super) schema: Schema,
    pub(super) surroundings: Vec<Value>,
    masks: BTreeMap<Base, Masks>,
    tallies: Mutex<BTreeMap<String, Count>>,
    operator: Mutex<(Option<Operator>, usize)>,
    proxy: FaultProxy,
    _controllers: FakeControllers,
    // The last to end.
    pub(super) environment: TestEnvironment,
}

impl Shared {
    /// Starts everything, and learns from runs without a change.
    pub(super) async fn open(cache: &Cache, clean_runs: usize) -> Result<Shared> {
        let environment = TestEnvironment::open(cache).await?;
        let mut shared = Shared {
            namespaces: WatchedNamespaces::watch(&environment.client),
            bucket: Bucket::start().await?,
            schema: Schema::read()?,
            surroundings: surroundings()?,
            masks: Base::ALL.into_iter().map(|base| (base, Masks::default())).collect(),
            tallies: Mutex::default(),
            operator: Mutex::default(),
            proxy: FaultProxy::start(environment.client.clone(), || {}).await?,
            _controllers: FakeControllers::start_with_autoscalers(environment.client.clone(), Duration::ZERO),
            environment,
        };
        let operator = shared.environment.operator_with(LOG, &shared.proxy, &[])?;
        lock(&shared.operator).0 = Some(operator);
        let masks: Vec<_> = {
            let learning = futures::stream::iter(Base::ALL).map(|base| shared.learn(base, clean_runs));
            learning.buffer_unordered(Base::ALL.len()).try_collect().await?
        };
        shared.masks.extend(masks);
        Ok(shared)
    }

    async fn learn(&self, base: Base, runs: usize) -> Result<(Base, Masks)> {
        let begun = futures::future::try_join_all((0..runs).map(|_| ChainRun::begin(self, base))).await?;
        let mut observed = Vec::new();
        for chain_run in begun {
            observed.push(chain_run.observed().clone());
            let (problems, _) = chain_run.end();
            if !problems.is_empty() {
                bail!("{base:?} without a change: {}", problems.join("; "));
            }
        }
        Ok((base, Masks::learn(&observed)))
    }

    /// The paths of a base that are not compared.
    pub(super) fn masks(&self, base: Base) -> &Masks {
        &self.masks[&base]
    }

    /// Counts the result of a change.
    pub(super) fn tally(&self, change: &Change, count: impl FnOnce(&mut Count)) {
        count(lock(&self.tallies).entry(change.place.clone()).or_default());
    }

    /// The results of the changes of each place.
    pub(super) fn tallies(&self) -> BTreeMap<String, Count> {
        lock(&self.tallies).clone()
    }

    /// How often the operator has ended by itself. One that has is followed by another.
    pub(super) fn ended(&self) -> usize {
        let mut operator = lock(&self.operator);
        if operator.0.as_mut().is_some_and(|operator| operator.child.try_wait().is_ok_and(|status| status.is_some())) {
            operator.1 += 1;
            operator.0 = self.environment.operator_with(LOG, &self.proxy, &[]).ok();
        }
        operator.1
    }

    /// The last lines that the operator logged about a namespace.
    pub(super) fn last_words(&self, namespace: &str) -> Vec<String> {
        let log = self.log().unwrap_or_default();
        let about: Vec<&str> = log.lines().filter(|line| line.contains(namespace)).collect();
        about
            .iter()
            .rev()
            .take(3)
            .map(|line| format!("logged: {}", line.chars().take(600).collect::<String>()))
            .collect()
    }

    /// The log of the operator.
    pub(super) fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.environment.log(LOG)).context("failed to read the log of the operator")
    }
}
