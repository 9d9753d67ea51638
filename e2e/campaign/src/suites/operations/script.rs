//! One pair of operations, from a stack that serves to the end of both. The operators are started again whenever a plan has killed
//! one, and every Job is ended but those that work on live data while the second operation waits for them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::ResourceExt;

use super::asked::{Asked, BEFORE};
use super::runner::Runner;
use super::{Case, Leader, Operation, spec};
use crate::candidate::{Candidate, until_standing_by};
use crate::fleet::Fleet;
use crate::jobs::{Jobs, OpenJob, is_live};
use crate::plan::Plan;
use crate::stack::Stack;
use crate::test_context::{TestContext, within, within_polled};
use crate::workload::prepare;

/// For each part of a pair, with the retries of an operator that was killed, and the lease of one that is gone.
const WITHIN: Duration = Duration::from_secs(40);
/// How often that is looked at: each look asks for all Jobs and for the stack, many times side by side.
const TICK: Duration = Duration::from_millis(100);
/// After the end of both.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// How long nothing else may begin while the second operation waits: longer than the first retries of the operator.
const WATCHED_FOR: Duration = Duration::from_secs(2);
/// The first release.
const IMAGE: &str = "rorun-api:1";

/// Who reconciles the stack.
pub(super) enum Operators<'a> {
    /// One, behind the proxy that plays the faults.
    One(Box<TestContext<'a>>),
    /// Two that lead by turns.
    Two(Fleet<'a>, Vec<Candidate<'a>>),
}

impl Operators<'_> {
    /// From now on this happens.
    fn arm(&self, plans: &[Plan]) {
        if let Operators::One(test) = self {
            test.proxy.arm(plans.iter().cloned());
        }
    }

    /// Starts again whoever has ended. Gives the problems.
    async fn tend(&mut self) -> Result<Vec<String>> {
        match self {
            Operators::One(test) => {
                test.restart_if_ended().await?;
                Ok(Vec::new())
            }
            Operators::Two(_, candidates) => {
                candidates.iter_mut().filter_map(|one| one.restart_if_ended().transpose()).collect()
            }
        }
    }

    /// Waits until nothing is written any more. Gives the problems.
    async fn settle(&mut self, gone: bool) -> Result<Vec<String>> {
        match self {
            Operators::One(test) => test.settle(gone).await,
            Operators::Two(fleet, _) => Ok(fleet.settle(SETTLED_WITHIN).await.into_iter().collect()),
        }
    }

    /// The log of the one that leads.
    pub(super) fn log(&self) -> PathBuf {
        match self {
            Operators::One(test) => test.environment.log(&test.namespace),
            Operators::Two(fleet, candidates) => {
                let name = candidates.last().map_or("", |candidate| candidate.name.as_str());
                fleet.environment.log(name)
            }
        }
    }
}

/// A pair that is being played.
pub(super) struct Script<'a> {
    case: &'a Case,
    /// The stack.
    pub(super) stack: Stack<'a>,
    /// Who reconciles it.
    pub(super) operators: Operators<'a>,
    /// Its namespace.
    pub(super) namespace: String,
    /// How many writes had come when the first operation was asked for.
    pub(super) begun: usize,
    /// The problems so far.
    pub(super) problems: Vec<String>,
    jobs: Jobs,
    /// What the Jobs do that are left running.
    held: Option<&'static str>,
}

impl<'a> Script<'a> {
    /// Operators and no stack yet.
    pub(super) async fn open(runner: &'a Runner, case: &'a Case) -> Result<Script<'a>> {
        let environment = &runner.environment;
        let (namespace, operators) = if case.leader.is_some() {
            let fleet = Fleet::open(environment).await?;
            let leader = Candidate::start(&fleet, 'a').await?;
            (fleet.namespace.clone(), Operators::Two(fleet, vec![leader]))
        } else {
            let test = TestContext::open(environment).await?;
            (test.namespace.clone(), Operators::One(Box::new(test)))
        };
        prepare(environment, &namespace).await?;
        Ok(Script {
            case,
            stack: Stack::of(environment, &namespace),
            operators,
            jobs: Jobs::of(&environment.client, &namespace),
            namespace: namespace.clone(),
            begun: 0,
            problems: Vec::new(),
            held: None,
        })
    }

    /// The stack serves, and another operator stands by if there are to be two.
    async fn serve(&mut self, endpoint: &str) -> Result<()> {
        self.stack.apply(&spec(endpoint, IMAGE)).await?;
        self.until("the stack serves", async |stack| stack.serves(IMAGE).await).await?;
        self.rest(false).await?;
        if let Operators::Two(fleet, candidates) = &mut self.operators {
            let other = Candidate::start(fleet, 'b').await?;
            until_standing_by(fleet.environment, &other).await?;
            candidates.push(other);
        }
        Ok(())
    }

    /// Plays it.
    pub(super) async fn play(&mut self, endpoint: &str) -> Result<()> {
        self.serve(endpoint).await?;
        let (first, second) = (self.case.first(), self.case.second());
        let uid = self.stack.get().await?.and_then(|stack| stack.uid()).context("no stack")?;
        if let Operators::One(test) = &self.operators {
            self.begun = test.proxy.writes().len();
        }
        self.operators.arm(&self.case.plans);
        let job = self.begin(first).await?;
        let jobs = self.jobs.count().await?;
        self.lose_leader()?;
        self.stack.ask(second).await?;
        if self.case.has_to_wait() {
            self.wait(second, job.as_ref()).await?;
        }
        self.held = None;
        self.until_both_are_done(first, second).await?;
        let is_gone = [first, second].iter().any(|asked| asked.operation == Operation::Deletion);
        self.until_no_job_runs().await?;
        self.rest(is_gone).await?;
        self.until_no_job_runs().await?;
        if first.operation == Operation::Deletion && self.jobs.count().await? != jobs {
            self.problems.push("O9 a Job began though the stack was being deleted".to_owned());
        }
        if is_gone {
            let left = self.stack.left_by(&uid).await?;
            self.problems.extend(left.iter().map(|child| format!("O4 {child} stays, and nobody owns it")));
        }
        Ok(())
    }

    /// Asks for the first operation, and waits until it goes on. Gives its Job on live data.
    async fn begin(&mut self, first: Asked) -> Result<Option<OpenJob>> {
        self.held = first.operation.step();
        if first.operation == Operation::Deletion {
            self.stack.back_up(BEFORE).await?;
            self.until_held_job_runs().await?;
        }
        self.stack.ask(first).await?;
        match first.operation {
            Operation::Hibernation => {
                self.until("the stack hibernates", async |stack| stack.is_asleep().await).await?;
                return Ok(None);
            }
            Operation::Deletion => {
                self.until("the deletion waits", async |stack| stack.is_terminating().await).await?;
            }
            Operation::Dump | Operation::Release | Operation::Restore => {}
        }
        self.until_held_job_runs().await.map(Some)
    }

    /// The second operation waits for the first, says so, and nothing else begins.
    async fn wait(&mut self, second: Asked, job: Option<&OpenJob>) -> Result<()> {
        let told = match (self.case.first, second.operation) {
            // What is asked of a stack that is being deleted has no status but that.
            (Operation::Deletion, Operation::Release | Operation::Hibernation) => self.case.first(),
            _ => second,
        };
        let words = self.case.words(job);
        let what = format!("{second:?} waits for {words:?}");
        self.until(&what, async |stack| stack.waits(told, &words).await).await?;
        self.find_leader()?;
        let is_terminating = [self.case.first, second.operation].contains(&Operation::Deletion);
        match &self.operators {
            Operators::Two(..) if is_terminating => {
                let other = async || Ok(!self.is_alone(job).await?);
                within(WATCHED_FOR, other).await?;
            }
            _ => self.rest(false).await?,
        }
        if !self.is_alone(job).await? {
            let open: Vec<String> = self.jobs.open().await?.into_iter().map(|open| open.name).collect();
            self.problems.push(format!("O9 the Jobs {open:?} run, not the first one alone"));
        }
        if self.stack.is_done(second).await? {
            self.problems.push("O9 the second operation did not wait".to_owned());
        }
        if !self.stack.waits(told, &words).await? {
            let said = self.stack.told(told).await?;
            self.problems.push(format!("O9 the second operation no longer says what it waits for: {said}"));
        }
        Ok(())
    }

    /// Whether of the Jobs on live data this one alone runs.
    async fn is_alone(&self, job: Option<&OpenJob>) -> Result<bool> {
        let open = self.jobs.open().await?;
        let live = open.iter().filter(|open| is_live(&open.step)).map(|open| &open.uid);
        Ok(live.eq(job.iter().map(|job| &job.uid)))
    }

    async fn until_both_are_done(&mut self, first: Asked, second: Asked) -> Result<()> {
        if first.operation == Operation::Deletion {
            return self.until("the stack is gone", async |stack| stack.is_done(first).await).await;
        }
        if first.operation == Operation::Hibernation && second.operation != Operation::Deletion {
            self.stack.wake().await?;
        }
        self.until(&format!("{second:?} is done"), async |stack| stack.is_done(second).await).await?;
        if second.operation == Operation::Hibernation {
            self.stack.wake().await?;
        }
        let lasts = match first.operation {
            // The other has taken its place, or its stack.
            Operation::Release => !matches!(second.operation, Operation::Release | Operation::Deletion),
            Operation::Restore => second.operation != Operation::Deletion,
            Operation::Dump => true,
            Operation::Hibernation | Operation::Deletion => false,
        };
        if lasts {
            self.until(&format!("{first:?} is done"), async |stack| stack.is_done(first).await).await?;
        }
        Ok(())
    }

    /// The leader no longer acts, as the plan says.
    fn lose_leader(&mut self) -> Result<()> {
        let (Operators::Two(_, candidates), Some(leader)) = (&mut self.operators, self.case.leader) else {
            return Ok(());
        };
        let first = candidates.first_mut().context("no leader")?;
        match leader {
            Leader::Frozen => first.record()?.pause(),
            Leader::Killed => first.kill(),
        }
    }

    /// The former leader is there again, beside the one that leads now.
    fn find_leader(&mut self) -> Result<()> {
        let (Operators::Two(_, candidates), Some(leader)) = (&mut self.operators, self.case.leader) else {
            return Ok(());
        };
        let first = candidates.first_mut().context("no leader")?;
        match leader {
            Leader::Frozen => first.record()?.go_on(),
            Leader::Killed => first.run(),
        }
    }

    /// Waits until nothing is written any more.
    async fn rest(&mut self, gone: bool) -> Result<()> {
        let problems = self.operators.settle(gone).await?;
        self.problems.extend(problems);
        Ok(())
    }

    async fn until_held_job_runs(&mut self) -> Result<OpenJob> {
        let held = self.held.context("this operation has no Job")?;
        let jobs = self.jobs.clone();
        let runs = async || anyhow::Ok(jobs.open().await?.into_iter().find(|job| job.step == held));
        self.until(&format!("a Job runs that does {held}"), async |_| Ok(runs().await?.is_some())).await?;
        runs().await?.context("its Job has ended by itself")
    }

    async fn until_no_job_runs(&mut self) -> Result<()> {
        let jobs = self.jobs.clone();
        self.until("no Job runs", async |_| Ok(jobs.open().await?.is_empty())).await
    }

    /// Plays until something is so.
    async fn until(&mut self, what: &str, is_so: impl AsyncFn(&Stack<'a>) -> Result<bool>) -> Result<()> {
        let Script { operators, problems, stack, jobs, held, .. } = self;
        let so = async || {
            problems.extend(operators.tend().await?);
            for job in jobs.open().await? {
                if *held != Some(job.step.as_str()) {
                    jobs.end(&job).await?;
                }
            }
            is_so(stack).await
        };
        if within_polled(TICK, WITHIN, so).await?.is_none() {
            let mut told = Vec::new();
            for asked in [self.case.first(), self.case.second()] {
                told.push(self.stack.told(asked).await?);
            }
            bail!("waited {} s in vain until {what}: {}", WITHIN.as_secs(), told.join(" | "));
        }
        Ok(())
    }
}
