//! What is waited for while a plan is played, and what is done meanwhile.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{SECOND, Script, TICK, WITHIN};
use crate::suites::releases::Step;
use crate::test_context::within_polled;

impl<'a> Script<'a> {
    /// Whether the second release is at the step of the plan.
    pub(super) async fn is_at_the_step(&self) -> Result<bool> {
        let (step, release) = (self.case.step, self.stack.status("/release").await?);
        let record = if step == Step::Serving { &release["current"] } else { &release["target"] };
        let runs = !step.has_job() || self.jobs.open().await?.iter().any(|job| step.holds(job));
        Ok(runs && release["state"] == step.state() && record["api"] == SECOND)
    }

    pub(super) async fn stays_at_the_step(&mut self) -> Result<()> {
        if !self.is_at_the_step().await? {
            let release = self.stack.status("/release").await?;
            self.problems.push(format!("O10 the release did not stay where it was: it is {}", release["state"]));
        }
        Ok(())
    }

    /// The stack says that the annotation approves another release.
    pub(super) async fn says(&mut self, hash: &str) -> Result<()> {
        let (words, conditions) = (format!("it approves {hash}"), self.stack.conditions().await?);
        let is_said = conditions.iter().any(|[kind, _, _, message]| kind == "Ready" && message.contains(&words));
        if !is_said {
            self.problems.push(format!("O10 no condition says {words:?}: {conditions:?}"));
        }
        Ok(())
    }

    /// What outlives a stack, each with its uid.
    pub(super) async fn data(&self) -> Result<BTreeMap<String, Option<String>>> {
        let mut children = self.test.children().await?;
        children.retain(|(_, child)| child.labels().get("rorun.app/retained").is_some_and(|kept| kept == "true"));
        Ok(children.into_iter().map(|(kind, child)| (format!("{kind}/{}", child.name_any()), child.uid())).collect())
    }

    /// Waits until nothing is written any more.
    pub(super) async fn rest(&mut self, gone: bool) -> Result<()> {
        let problems = self.test.settle(gone).await?;
        self.problems.extend(problems);
        Ok(())
    }

    pub(super) async fn until_no_job_runs(&mut self) -> Result<()> {
        self.until("no Job runs", async |script| Ok(script.jobs.open().await?.is_empty())).await
    }

    /// Plays until something is so.
    pub(super) async fn until(&mut self, what: &str, is_so: impl AsyncFn(&Script<'a>) -> Result<bool>) -> Result<()> {
        let so = async || {
            self.tend().await?;
            is_so(self).await
        };
        if within_polled(TICK, WITHIN, so).await?.is_none() {
            let (release, conditions) = (self.stack.status("/release").await?, self.stack.conditions().await?);
            bail!("waited {} s in vain until {what}: {release} {conditions:?}", WITHIN.as_secs());
        }
        Ok(())
    }

    /// The operator runs, Jobs end, and what is meant to serve is approved.
    pub(super) async fn tend(&mut self) -> Result<()> {
        self.test.restart_if_ended().await?;
        for job in self.jobs.open().await? {
            if !self.held.is_some_and(|step| step.holds(&job)) {
                self.jobs.end(&job).await?;
            }
        }
        let Some(image) = self.approves else { return Ok(()) };
        let release = self.stack.status("/release").await?;
        let hash = release["target"]["hash"].as_str().unwrap_or_default();
        let awaits = release["state"] == "AwaitingApproval" && release["target"]["api"] == image;
        if awaits && self.approvals.insert(hash.to_owned(), image.to_owned()).is_none() {
            let approval: Value = json!({"rorun.app/approve": hash, "rorun.app/approved-by": "ada"});
            self.stack.annotate(approval).await?;
        }
        Ok(())
    }
}
