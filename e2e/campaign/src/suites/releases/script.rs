//! One plan, from a stack that serves to the end of what came between. The operator is started again whenever it was killed, the user
//! approves what is meant to serve, and every Job is ended but the one of the step while the release is held there.

mod waits;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use rorun_e2e::fake_controllers::Held;
use serde_json::json;

use super::end::End;
use super::runner::Runner;
use super::{Case, Disturbance, Step, spec};
use crate::canary::TOKEN;
use crate::jobs::{DUMP, Jobs, MIGRATION, OpenJob, SMOKE_TEST};
use crate::plan::{Call, Fault, Plan};
use crate::stack::Stack;
use crate::test_context::TestContext;
use crate::workload::prepare;

/// The image that serves before.
pub(super) const FIRST: &str = "rorun-api:1";
/// That of the release that something comes between.
const SECOND: &str = "rorun-api:2";
/// Those that come after it.
const THIRD: &str = "rorun-api:3";
const FOURTH: &str = "rorun-api:4";
/// The Secret with the addresses of services outside.
pub(super) const OUTSIDE: &str = "outside";
/// For each part of a plan, with the retries of an operator that was killed, beside others on few processors.
const WITHIN: Duration = Duration::from_mins(2);
/// How often that is looked at: each look asks for all Jobs and for the stack, many times side by side.
const TICK: Duration = Duration::from_millis(100);
const API: &str = "shop-api";
/// The hash of no release.
const NO_RELEASE: &str = "0000000000";

impl Step {
    /// As the status names it.
    fn state(self) -> &'static str {
        match self {
            Step::AwaitingApproval => "AwaitingApproval",
            Step::BackingUp => "BackingUp",
            Step::Migrating => "Migrating",
            Step::Testing => "Testing",
            Step::RollingOut => "RollingOut",
            Step::Verifying => "Verifying",
            Step::Serving => "Serving",
        }
    }

    /// Whether it goes on until a Job ends.
    fn has_job(self) -> bool {
        matches!(self, Step::BackingUp | Step::Migrating | Step::Testing | Step::Verifying)
    }

    /// Whether this is its Job.
    fn holds(self, job: &OpenJob) -> bool {
        match self {
            Step::BackingUp => job.step == DUMP,
            Step::Migrating => job.step == MIGRATION,
            Step::Testing => job.step == SMOKE_TEST && job.asks_candidates(),
            Step::Verifying => job.step == SMOKE_TEST && !job.asks_candidates(),
            Step::AwaitingApproval | Step::RollingOut | Step::Serving => false,
        }
    }
}

/// A plan that is being played.
pub(super) struct Script<'a> {
    case: Case,
    /// The stack.
    pub(super) stack: Stack<'a>,
    /// The operator.
    pub(super) test: TestContext<'a>,
    /// The problems so far.
    pub(super) problems: Vec<String>,
    /// The hashes that the user has approved, each with its image.
    pub(super) approvals: BTreeMap<String, String>,
    jobs: Jobs,
    rollouts: Held,
    /// The step whose Job is left running.
    held: Option<Step>,
    /// The image whose release the user approves once it waits for that.
    approves: Option<&'static str>,
    /// The hash of the second release, once the spec is back at the first.
    withdrawn: Option<String>,
}

impl<'a> Script<'a> {
    /// An operator, and no stack yet.
    pub(super) async fn open(runner: &'a Runner, case: Case) -> Result<Script<'a>> {
        let environment = &runner.environment;
        let test = TestContext::open(environment).await?;
        let namespace = test.namespace.clone();
        prepare(environment, &namespace).await?;
        let urls = json!({
            "DATABASE_URL": format!("postgresql://rorun:{TOKEN}-4@127.0.0.1:5432/rorun?sslmode=disable"),
            "REDIS_URL": format!("redis://:{TOKEN}-5@127.0.0.1:6379"),
        });
        let outside: Secret = serde_json::from_value(json!({"metadata": {"name": OUTSIDE}, "stringData": urls}))?;
        Api::namespaced(environment.client.clone(), &namespace).create(&PostParams::default(), &outside).await?;
        Ok(Script {
            case,
            stack: Stack::of(environment, &namespace),
            jobs: Jobs::of(&environment.client, &namespace),
            test,
            problems: Vec::new(),
            approvals: BTreeMap::new(),
            rollouts: runner.held.clone(),
            held: None,
            approves: None,
            withdrawn: None,
        })
    }

    /// Plays it.
    pub(super) async fn play(&mut self, endpoint: &str) -> Result<()> {
        self.stack.apply(&spec(endpoint, self.case)).await?;
        self.serve(FIRST).await?;
        self.reach().await?;
        if let Some(image) = self.disturb().await? {
            self.finish(image).await?;
            self.is_as_asked(image).await?;
        }
        if let Some(hash) = self.withdrawn.clone() {
            self.approve_what_was_withdrawn(&hash).await?;
        }
        self.is_silent().await
    }

    /// The second release comes to the step, and stays there.
    async fn reach(&mut self) -> Result<()> {
        let step = self.case.step;
        self.held = Some(step);
        if step == Step::RollingOut {
            self.rollouts.hold(&self.test.namespace, API);
        }
        self.approves = (step != Step::AwaitingApproval).then_some(SECOND);
        self.ask(SECOND).await?;
        self.until(&format!("the release is {}", step.state()), async |script| script.is_at_the_step().await).await?;
        self.rest(false).await
    }

    /// What comes between. Gives the image that is to serve in the end; none if the stack is gone.
    async fn disturb(&mut self) -> Result<Option<&'static str>> {
        let image = match self.case.disturbance {
            Disturbance::Killed => {
                self.test.kill().await?;
                self.rest(false).await?;
                self.stays_at_the_step().await?;
                SECOND
            }
            Disturbance::KilledBefore(write) => return self.kill_at(write, Fault::KillBefore).await.map(Some),
            Disturbance::KilledAfter(write) => return self.kill_at(write, Fault::KillAfterCommit).await.map(Some),
            Disturbance::Back => {
                self.withdrawn = Some(self.hash_of_the_second().await?);
                self.ask(FIRST).await?;
                self.rest(false).await?;
                FIRST
            }
            Disturbance::Forward => {
                self.approves = Some(THIRD);
                self.ask(THIRD).await?;
                let is_approved = |script: &Script<'a>| script.approvals.values().any(|image| image == THIRD);
                self.until("the third release is approved", async |script| Ok(is_approved(script))).await?;
                self.rest(false).await?;
                THIRD
            }
            Disturbance::Deleted => {
                self.delete().await?;
                return Ok(None);
            }
            Disturbance::Two => {
                self.ask(THIRD).await?;
                self.ask(FOURTH).await?;
                FOURTH
            }
            Disturbance::WrongApproval => {
                self.annotate(NO_RELEASE).await?;
                self.rest(false).await?;
                self.stays_at_the_step().await?;
                if self.case.step == Step::AwaitingApproval {
                    self.says(NO_RELEASE).await?;
                }
                SECOND
            }
            Disturbance::WithdrawnApproval => {
                self.withdraw().await?;
                THIRD
            }
        };
        Ok(Some(image))
    }

    /// The step ends, and the operator at a write of that. From a release that serves the next one follows.
    async fn kill_at(&mut self, write: usize, fault: Fault) -> Result<&'static str> {
        self.test.proxy.arm([Plan { at: Call::any_write(), occurrence: write, fault }]);
        let image = if self.case.step == Step::Serving { THIRD } else { SECOND };
        if self.case.step == Step::Serving {
            self.ask(THIRD).await?;
        }
        self.finish(image).await?;
        if !self.test.proxy.has_fired() {
            self.problem("the request that the plan names never came");
        }
        Ok(image)
    }

    /// The user goes on to a third image, and approves the second then.
    async fn withdraw(&mut self) -> Result<()> {
        let withdrawn = self.hash_of_the_second().await?;
        self.approves = None;
        self.ask(THIRD).await?;
        let awaits = async |script: &Script<'a>| {
            let release = script.stack.status("/release").await?;
            Ok(release["state"] == "AwaitingApproval" && release["target"]["api"] == THIRD)
        };
        self.until("the third release waits for approval", awaits).await?;
        self.annotate(&withdrawn).await?;
        self.rest(false).await?;
        self.let_go();
        self.until_no_job_runs().await?;
        self.rest(false).await?;
        if !awaits(self).await? || !self.jobs.open().await?.is_empty() {
            self.problem("O10 an approval of a release that was withdrawn started something");
        }
        self.says(&withdrawn).await
    }

    /// The stack goes once no Job works on its data, and these stay.
    async fn delete(&mut self) -> Result<()> {
        let (before, uid) = (self.data().await?, self.stack.get().await?.and_then(|stack| stack.uid()));
        self.stack.delete().await?;
        let on_live_data = matches!(self.case.step, Step::BackingUp | Step::Migrating);
        if on_live_data {
            self.rest(false).await?;
            if self.stack.get().await?.is_none() {
                self.problem("O10 the stack was gone before the Job on its data had ended");
            }
        }
        self.let_go();
        self.until("the stack is gone", async |script| Ok(script.stack.get().await?.is_none())).await?;
        self.rest(true).await?;
        let after = self.data().await?;
        if after != before {
            self.problems.push(format!("O4 of the data {before:?} there are {after:?}"));
        }
        // A stack outside of Production has a volume and credentials.
        if !self.case.is_production() && before.len() < 2 {
            self.problems.push(format!("O4 the stack had no data to keep: {before:?}"));
        }
        let left = self.stack.left_by(&uid.context("a stack without a uid")?).await?;
        self.problems.extend(left.iter().map(|child| format!("O4 {child} stays, and nobody owns it")));
        Ok(())
    }

    /// Once the spec is back at what served, an approval of what was withdrawn starts nothing.
    async fn approve_what_was_withdrawn(&mut self, hash: &str) -> Result<()> {
        let before = self.jobs.count().await?;
        self.annotate(hash).await?;
        self.rest(false).await?;
        if self.jobs.count().await? > before {
            self.problem("O10 an approval of a release that was withdrawn started a Job");
        }
        self.is_as_asked(FIRST).await
    }

    /// Lets everything go on until the image serves, and nothing is left to be done.
    async fn finish(&mut self, image: &'static str) -> Result<()> {
        self.serve(image).await?;
        self.until_no_job_runs().await?;
        self.rest(false).await
    }

    async fn serve(&mut self, image: &'static str) -> Result<()> {
        self.approves = Some(image);
        self.let_go();
        self.until(&format!("{image} serves"), async |script| script.stack.serves(image).await).await
    }

    fn let_go(&mut self) {
        self.held = None;
        self.rollouts.let_go(&self.test.namespace, API);
    }

    async fn is_as_asked(&mut self, image: &str) -> Result<()> {
        let (release, conditions) = (self.stack.status("/release").await?, self.stack.conditions().await?);
        let deployments = self.test.children().await?.into_iter().filter(|(kind, _)| *kind == "Deployment");
        let deployments =
            deployments.map(|(_, child)| Ok(serde_json::to_value(&child)?)).collect::<Result<Vec<_>>>()?;
        let end = End { release: &release, conditions: &conditions, deployments: &deployments };
        self.problems.extend(end.problems(image));
        Ok(())
    }

    /// An operator that is started once more finds nothing to do.
    async fn is_silent(&mut self) -> Result<()> {
        let (before, gone) = (self.test.proxy.writes().len(), self.stack.get().await?.is_none());
        self.test.kill().await?;
        self.rest(gone).await?;
        let written = self.test.proxy.writes().split_off(before);
        self.problems.extend(written.iter().map(|call| format!("O3 {call} though nothing was left to be done")));
        Ok(())
    }

    async fn ask(&self, image: &str) -> Result<()> {
        self.stack.change(json!({"api": {"image": image}})).await
    }

    async fn annotate(&self, hash: &str) -> Result<()> {
        self.stack.annotate(json!({"rorun.app/approve": hash, "rorun.app/approved-by": "eve"})).await
    }

    /// The hash of the second release, which counts as approved from now on.
    async fn hash_of_the_second(&mut self) -> Result<String> {
        let release = self.stack.status("/release").await?;
        let records = [&release["target"], &release["current"]];
        let second = records.into_iter().find(|record| record["api"] == SECOND).context("no second release")?;
        let hash = second["hash"].as_str().context("a release without a hash")?.to_owned();
        self.approvals.insert(hash.clone(), SECOND.to_owned());
        Ok(hash)
    }

    fn problem(&mut self, text: &str) {
        self.problems.push(text.to_owned());
    }
}
