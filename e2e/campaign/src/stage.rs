//! A run that goes on: an operator that is kept running, and how it is seen that it has come to rest.

use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rorun_e2e::engine::record::ProcessRecord;

use super::arena::{Arena, Operator, STACK};
use super::proxy::FaultProxy;

/// After the last fault, or without one after the start.
const CONVERGED_WITHIN: Duration = Duration::from_secs(10);
/// With all faults: several times the limit of a watch that tells nothing, and of a crash loop.
const DISTURBED_AT_MOST: Duration = Duration::from_mins(5);
/// Longer than the first retries of the operator.
const QUIET: Duration = Duration::from_millis(1200);
/// What a condition says of a service that was not heard of yet.
const BEING_ASKED: &str = "is being asked whether it answers";
const TICK: Duration = Duration::from_millis(20);
/// How often it has to be looked while it is quiet: when all stands still, nothing is written either.
const LOOKS: usize = 30;

/// A run that goes on.
pub(super) struct Stage<'a> {
    pub(super) arena: &'a Arena,
    pub(super) namespace: &'a str,
    pub(super) proxy: &'a FaultProxy,
    pub(super) victim: Arc<Mutex<Option<ProcessRecord>>>,
    pub(super) operator: Option<Operator>,
    pub(super) problems: Vec<String>,
}

impl<'a> Stage<'a> {
    /// A run whose operator is not started yet. The proxy is to kill the victim.
    pub(super) fn new(
        arena: &'a Arena,
        namespace: &'a str,
        proxy: &'a FaultProxy,
        victim: Arc<Mutex<Option<ProcessRecord>>>,
    ) -> Stage<'a> {
        Stage { arena, namespace, proxy, victim, operator: None, problems: Vec::new() }
    }

    /// Keeps an operator running, until the stack's status speaks of its spec, or the stack is gone, and nothing is written
    /// for a while. The time that this may take begins again with each fault, and when the last one is over.
    pub(super) async fn settle(&mut self, gone: bool) -> Result<()> {
        let begun = Instant::now();
        let (mut since, mut fired) = (begun, self.proxy.fired());
        let (mut before, mut looks) = (None, 0);
        loop {
            let disturbed = self.proxy.is_disturbing();
            if disturbed || fired != self.proxy.fired() {
                (since, fired) = (Instant::now(), self.proxy.fired());
            }
            // What was held back is acted upon when it has come.
            let from = since.max(self.proxy.last_write());
            looks = if before == Some(from) { looks + 1 } else { 0 };
            before = Some(from);
            let quiet = from.elapsed();
            if self.keep_running().await? && quiet > QUIET && looks >= LOOKS && self.is_current(gone).await? {
                break;
            }
            if since.elapsed() > CONVERGED_WITHIN || begun.elapsed() > DISTURBED_AT_MOST {
                let why = if disturbed { "the fault does not end" } else { "no rest" };
                self.problems.push(format!("O3 {why} within {} s", CONVERGED_WITHIN.as_secs()));
                break;
            }
            tokio::time::sleep(TICK).await;
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
            Some(stack) => {
                let status = &stack.data["status"];
                let current = status["observedGeneration"].as_i64() == stack.metadata.generation;
                // What a service answers is still to come, and then to be told.
                !gone && current && !status.to_string().contains(BEING_ASKED)
            }
        })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
