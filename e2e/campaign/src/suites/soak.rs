//! Many stacks that change all the while, with random faults, and the state at the end: objects, memory and open
//! files.
//!
//! Chance is a number that is printed: `RORUN_SOAK_SEED` plays the same choices again, though not at the same requests.
//! `RORUN_SOAK_MINUTES` is how long it takes.

use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::api::DeleteParams;
use rorun_e2e::engine::progress::{Step, note};
use rorun_e2e::engine::record::ProcessRecord;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::environment::{Operator, TestEnvironment};
use crate::fleet::{Fleet, on_this_thread, with_retries};
use crate::plan::{Call, Fault, Plan};
use crate::proxy::FaultProxy;
use crate::snapshot::{Leaves, Reference};
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};
use crate::sync::lock;

mod sample;

use sample::{Chance, Sample};

/// Churn with faults by chance.
pub(crate) const SUITE: Suite = Suite {
    name: "soak",
    proves: "stacks that change all the while, under faults by chance, end as new ones of the same spec, with no file left open",
    quick: true,
    play: Play::Alone(|run| Box::pin(async move { on_this_thread(play_suite(run)) })),
};

const CHANGE_EVERY: Duration = Duration::from_secs(1);
/// Changes between two faults.
const FAULT_EVERY: usize = 3;
/// Changes between two restarts of the API server.
const RESTART_EVERY: usize = 30;
const CONVERGED_WITHIN: Duration = Duration::from_mins(1);
/// How many more files an operator may have open than one that has just settled: idle connections.
const FILES_MORE: usize = 20;

/// The faults of a write. The kills end half way, so that one process lives long enough to be measured.
const FAULTS: &[Fault] = &[
    Fault::ResetAfterCommit,
    Fault::Refuse(409),
    Fault::Refuse(429),
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::RefuseAfterCommit(504),
    Fault::DelayRequest(2000),
    Fault::DelayAnswer(2000),
    Fault::Hold(3),
    Fault::Miss(3),
    Fault::KillBefore,
    Fault::KillAfterCommit,
    Fault::KillAfterAnswer,
];
const KILLS: usize = 3;

/// How much, how long, and by which chance.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Soak {
    stacks: usize,
    seconds: u64,
    seed: u64,
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let setting = |name: &str| std::env::var_os(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
    let minutes = setting("RORUN_SOAK_MINUTES");
    let seed = setting("RORUN_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let soak = match &run.extent {
        Extent::Only(plan) => serde_json::from_value(plan.clone()).context("this is no plan of this suite")?,
        Extent::Quick => Soak { stacks: 10, seconds: minutes.map_or(25, |minutes| minutes * 60), seed },
        Extent::Whole => Soak { stacks: 200, seconds: minutes.unwrap_or(30) * 60, seed },
    };
    let environment = TestEnvironment::open(run.cache).await?;
    let what = format!("{} stacks change for {} s, seed {}", soak.stacks, soak.seconds, soak.seed);
    let step = Step::start(&what, "with faults by chance");
    let problems = play(&environment, soak).await?;
    step.done();
    run.report(&Verdict { plan: what, problems, replay: serde_json::to_value(soak)? })
}

fn name(index: usize) -> String {
    format!("shop-{index:03}")
}

fn spec(number: u64) -> Value {
    let mut spec = json!({
        "environment": "Development",
        "api": {"image": format!("rorun-api:{number}")},
        "database": {"embedded": {"image": format!("postgres:17.{number}")}},
        "redis": {"embedded": {"image": format!("valkey:{}", number / 2)}},
    });
    if number.is_multiple_of(3) {
        spec["ocr"] = json!({"image": "rorun-ai-service:1"});
    }
    spec
}

/// An operator that is started again when it was killed.
struct Churn<'a> {
    fleet: Fleet<'a>,
    proxy: FaultProxy,
    victim: Arc<Mutex<Option<ProcessRecord>>>,
    operator: Operator,
    specs: Vec<u64>,
    problems: Vec<String>,
}

impl<'a> Churn<'a> {
    async fn start(environment: &'a TestEnvironment, specs: Vec<u64>) -> Result<Churn<'a>> {
        let fleet = Fleet::open(environment).await?;
        let victim = Arc::new(Mutex::new(None::<ProcessRecord>));
        let kill = {
            let victim = Arc::clone(&victim);
            move || {
                if let Some(record) = lock(&victim).take() {
                    record.kill();
                }
            }
        };
        let proxy = FaultProxy::start(environment.client.clone(), kill).await?;
        let operator = environment.operator(&fleet.namespace, &proxy)?;
        *lock(&victim) = Some(operator.record.clone());
        let churn = Churn { fleet, proxy, victim, operator, specs, problems: Vec::new() };
        for (index, number) in churn.specs.iter().enumerate() {
            churn.fleet.apply(&name(index), &spec(*number)).await?;
        }
        if let Some(problem) = churn.fleet.settle(CONVERGED_WITHIN * 5).await {
            bail!("before the faults: {problem}");
        }
        Ok(churn)
    }

    /// A user changes a spec, or deletes a child.
    async fn change(&mut self, chance: &mut Chance) -> Result<()> {
        let index = chance.below(self.specs.len());
        if chance.below(4) == 0 {
            let services = self.fleet.api("Service")?;
            let gone = format!("{}-database", name(index));
            return with_retries(async || match services.delete(&gone, &DeleteParams::background()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                done => done.map(drop),
            })
            .await;
        }
        self.specs[index] += 1;
        self.fleet.apply(&name(index), &spec(self.specs[index])).await
    }

    /// Arms a random fault for one of the next writes. After an answer that lies, the operator is killed.
    fn harm(&self, chance: &mut Chance, with_kills: bool) {
        if self.proxy.is_disturbing() {
            return;
        }
        let faults = if with_kills { FAULTS } else { &FAULTS[..FAULTS.len() - KILLS] };
        let mut at = || Plan {
            at: Call::any_write(),
            occurrence: 1 + chance.below(3),
            fault: faults[chance.below(faults.len())],
        };
        let first = at();
        let then = Plan { occurrence: 1, fault: Fault::KillBefore, ..first.clone() };
        let lies = first.fault == Fault::RefuseAfterCommit(504) && with_kills;
        self.proxy.arm([first].into_iter().chain(lies.then_some(then)));
    }

    fn restart_if_ended(&mut self) -> Result<()> {
        let Some(status) = self.operator.child.try_wait()? else { return Ok(()) };
        if status.signal() != Some(9) {
            self.problems.push(format!("O8 the operator ended by itself, {status}"));
        }
        self.operator = self.fleet.environment.operator(&self.fleet.namespace, &self.proxy)?;
        *lock(&self.victim) = Some(self.operator.record.clone());
        Ok(())
    }
}

async fn play(environment: &TestEnvironment, soak: Soak) -> Result<Vec<String>> {
    let mut churn = Churn::start(environment, vec![0; soak.stacks]).await?;
    let (passwords, first) = (churn.fleet.passwords().await?, Sample::of(churn.operator.record.pid())?);
    let (mut chance, mut samples) = (Chance::new(soak.seed), Vec::new());
    let (begun, length, mut changes) = (Instant::now(), Duration::from_secs(soak.seconds), 0_usize);
    while begun.elapsed() < length {
        let round = Instant::now();
        let with_kills = begun.elapsed() < length / 2;
        churn.change(&mut chance).await?;
        changes += 1;
        if changes.is_multiple_of(FAULT_EVERY) {
            churn.harm(&mut chance, with_kills);
        }
        if changes % RESTART_EVERY == RESTART_EVERY / 2 {
            environment.server.restart_apiserver()?;
        }
        churn.restart_if_ended()?;
        // One that was killed in this moment has nothing to be measured.
        samples.extend(Sample::of(churn.operator.record.pid()).ok().filter(|_| !with_kills));
        tokio::time::sleep(CHANGE_EVERY.saturating_sub(round.elapsed())).await;
    }
    churn.proxy.arm([]);
    churn.restart_if_ended()?;
    let faults = churn.proxy.fired();
    churn.problems.extend(churn.fleet.settle(CONVERGED_WITHIN).await);
    let last = Sample::of(churn.operator.record.pid())?;
    note(&format!("{changes} changes, {faults} faults; {}", sample::reported(&first, &samples, &last)));
    if last.files > first.files + FILES_MORE {
        churn.problems.push(format!("O8 {} files are open, and {} were before", last.files, first.files));
    }
    let (leaves, again) = (churn.fleet.leaves().await?, churn.fleet.passwords().await?);
    let anew = passwords.iter().filter(|(path, value)| again.get(*path) != Some(value));
    churn.problems.extend(anew.map(|(path, _)| format!("O4 {path} was made up again")));
    churn.problems.extend(churn.proxy.problems());
    let Churn { specs, mut problems, operator, .. } = churn;
    drop(operator);
    problems.extend(differences(environment, &specs, &leaves).await?);
    Ok(problems)
}

/// Where the stacks are not as new ones of the same specs.
async fn differences(environment: &TestEnvironment, specs: &[u64], leaves: &Leaves) -> Result<Vec<String>> {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let fresh = Churn::start(environment, specs.to_vec()).await?;
        runs.push(fresh.fleet.leaves().await?);
    }
    let different = Reference::learn(&runs).differences_in_content(leaves).into_iter();
    Ok(different.map(|difference| format!("O1 {difference}")).collect())
}
