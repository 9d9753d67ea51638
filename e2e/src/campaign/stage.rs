//! A run that goes on: an operator that is kept running, and how it is seen that it has come to rest.

use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::arena::{Arena, Operator, STACK};
use super::proxy::FaultProxy;
use super::snapshot::{Leaves, take};
use crate::engine::record::ProcessRecord;

/// After the fault, or without one after the start.
const CONVERGED_WITHIN: Duration = Duration::from_secs(15);
/// Longer than the first retries of the operator.
const QUIET: Duration = Duration::from_millis(1200);
const TICK: Duration = Duration::from_millis(20);

/// A run that goes on.
pub(super) struct Stage<'a> {
    pub(super) arena: &'a Arena,
    pub(super) namespace: &'a str,
    pub(super) proxy: &'a FaultProxy,
    pub(super) victim: Arc<Mutex<Option<ProcessRecord>>>,
    pub(super) operator: Option<Operator>,
    pub(super) problems: Vec<String>,
}

impl Stage<'_> {
    /// Keeps an operator running, until the stack's status speaks of its spec, or the stack is gone, and nothing is written
    /// for a while.
    pub(super) async fn settle(&mut self, gone: bool) -> Result<()> {
        let (mut deadline, mut fired) = (Instant::now() + CONVERGED_WITHIN, self.proxy.has_fired());
        let mut passwords = Leaves::new();
        loop {
            if !fired && self.proxy.has_fired() {
                (fired, deadline) = (true, Instant::now() + CONVERGED_WITHIN);
                passwords = self.passwords().await?;
            }
            if self.keep_running().await? && self.proxy.last_write().elapsed() > QUIET && self.is_current(gone).await? {
                break;
            }
            if Instant::now() > deadline {
                self.problems.push(format!("O3 no rest within {} s", CONVERGED_WITHIN.as_secs()));
                break;
            }
            tokio::time::sleep(TICK).await;
        }
        if !gone {
            let now = self.passwords().await?;
            let changed = passwords.iter().filter(|(path, value)| now.get(*path) != Some(value)).map(|(path, _)| path);
            self.problems.extend(changed.map(|path| format!("O4 {path} was made up again")));
        }
        Ok(())
    }

    /// Starts an operator if none runs. One that was killed is followed by another; one that ended otherwise is told.
    async fn keep_running(&mut self) -> Result<bool> {
        if let Some(operator) = &mut self.operator {
            let Some(status) = operator.child.try_wait()? else { return Ok(true) };
            if status.signal() != Some(9) {
                let log = tokio::fs::read_to_string(self.arena.log(self.namespace)).await.unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                self.problems.push(format!("O8 the operator ended by itself, {status}: {last}"));
            }
        }
        let operator = self.arena.operator(self.namespace, self.proxy)?;
        *lock(&self.victim) = Some(operator.record.clone());
        self.operator = Some(operator);
        self.proxy.touch();
        Ok(false)
    }

    async fn is_current(&self, gone: bool) -> Result<bool> {
        let stack = self.arena.stacks(self.namespace).get_opt(STACK).await.context("failed to read the stack")?;
        Ok(match stack {
            None => gone,
            Some(stack) => !gone && stack.data["status"]["observedGeneration"].as_i64() == stack.metadata.generation,
        })
    }

    /// The generated credentials, leaf by leaf.
    async fn passwords(&self) -> Result<Leaves> {
        let mut leaves = take(&self.arena.client, self.namespace).await?;
        leaves.retain(|path, _| path.contains("-credentials/data/"));
        Ok(leaves)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
