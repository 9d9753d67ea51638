//! The API server goes away and comes back, stands still with its etcd, or comes back with an older past. The operator is never
//! started again: it has to cope with the caches that it has.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rorun_e2e::engine::progress::Step;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::endpoint;
use crate::environment::{Operator, TestEnvironment};
use crate::fleet::{Fleet, on_this_thread};
use crate::proxy::FaultProxy;
use crate::snapshot::{Leaves, Reference};
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};

mod restore;

use restore::Undone;

/// Servers that end, stand still and go back.
pub(crate) const SUITE: Suite = Suite {
    name: "server",
    proves: "an API server that is killed, frozen or restored leads to what the stacks ask for, without a restart",
    quick: true,
    play: Play::Alone(|run| Box::pin(async move { on_this_thread(play_suite(run)) })),
};

/// After the fault is over.
const CONVERGED_WITHIN: Duration = Duration::from_secs(30);
/// How soon an operator says that its caches may be old, and that they are not any more.
const SAID_WITHIN: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(100);
/// Runs without a fault to learn from.
const CLEAN_RUNS: usize = 2;

/// The fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Plan {
    /// The API server is killed and started again, so often, while so many stacks are made.
    Restart { stacks: usize, times: usize },
    /// etcd stands still for so many seconds, while stacks are made, changed and deleted.
    Freeze { seconds: u64 },
    /// The API server is away until the operator says that it is not ready.
    Outage,
    /// etcd is restored from a backup that lacks the last change.
    Restore(Undone),
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Restart { stacks, times } => {
                write!(formatter, "the API server is killed {times} times while {stacks} stacks are made")
            }
            Plan::Freeze { seconds } => write!(formatter, "etcd is frozen for {seconds} s"),
            Plan::Outage => formatter.write_str("the API server is away for long"),
            Plan::Restore(undone) => write!(formatter, "etcd is restored: {undone:?}"),
        }
    }
}

/// An operator that is not started again, and its stacks.
struct OneOperator<'a> {
    fleet: Fleet<'a>,
    operator: Operator,
    _proxy: FaultProxy,
}

impl<'a> OneOperator<'a> {
    /// No stacks yet.
    async fn open(environment: &'a TestEnvironment) -> Result<OneOperator<'a>> {
        OneOperator::begin(Fleet::open(environment).await?).await
    }

    /// An operator for stacks that are there.
    async fn begin(fleet: Fleet<'a>) -> Result<OneOperator<'a>> {
        let proxy = FaultProxy::start(fleet.environment.client.clone(), || ()).await?;
        let operator = fleet.environment.operator(&fleet.namespace, &proxy)?;
        Ok(OneOperator { fleet, operator, _proxy: proxy })
    }

    /// Stops the operator where it stands.
    fn pause(&self) -> Result<()> {
        self.operator.record.pause()
    }

    /// Lets it go on.
    fn go_on(&self) -> Result<()> {
        self.operator.record.go_on()
    }

    /// A problem if the operator has ended.
    fn ended(&mut self) -> Result<Option<String>> {
        Ok(self.operator.child.try_wait()?.map(|status| format!("O8 the operator ended by itself, {status}")))
    }

    /// Waits until the operator answers with the status; a problem if it does not.
    async fn answers(&self, path: &str, status: u16) -> Option<String> {
        let (log, deadline) = (self.fleet.environment.log(&self.fleet.namespace), Instant::now() + SAID_WITHIN);
        loop {
            let answer = endpoint::ask(&log, path).await;
            if answer.as_ref().is_ok_and(|(code, _)| *code == status) {
                return None;
            }
            if Instant::now() > deadline {
                return Some(format!(
                    "O3 {path} does not answer {status} within {} s: {answer:?}",
                    SAID_WITHIN.as_secs()
                ));
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let environment = TestEnvironment::open(run.cache).await?;
    let plans = match &run.extent {
        Extent::Only(plan) => vec![serde_json::from_value(plan.clone()).context("this is no plan of this suite")?],
        Extent::Quick => plans(Plan::Restart { stacks: 4, times: 1 }, 5),
        Extent::Whole => plans(Plan::Restart { stacks: 50, times: 10 }, 10),
    };
    let (restores, others): (Vec<_>, Vec<_>) = plans.into_iter().partition(|plan| matches!(plan, Plan::Restore(_)));
    for plan in others {
        let step = Step::start(&plan.to_string(), "one operator, which is not started again");
        let problems = match plan {
            Plan::Restart { stacks, times } => restart(&environment, stacks, times).await?,
            Plan::Freeze { seconds } => freeze(&environment, Duration::from_secs(seconds)).await?,
            _ => outage(&environment).await?,
        };
        step.done();
        tell(run, &plan, problems)?;
    }
    let undone: Vec<Undone> = restores
        .into_iter()
        .filter_map(|plan| if let Plan::Restore(undone) = plan { Some(undone) } else { None })
        .collect();
    if !undone.is_empty() {
        let step = Step::start(&format!("etcd is restored: {} plans", undone.len()), "an operator for each");
        for (undone, problems) in restore::play(&environment, undone).await? {
            tell(run, &Plan::Restore(undone), problems)?;
        }
        step.done();
    }
    Ok(())
}

fn plans(restart: Plan, seconds: u64) -> Vec<Plan> {
    let restores = Undone::ALL.into_iter().map(Plan::Restore);
    [restart, Plan::Freeze { seconds }, Plan::Outage].into_iter().chain(restores).collect()
}

fn tell(run: &SuiteRun<'_>, plan: &Plan, problems: Vec<String>) -> Result<()> {
    run.report(&Verdict { plan: plan.to_string(), problems, replay: serde_json::to_value(plan)? })
}

fn spec(image: &str) -> Value {
    json!({
        "environment": "Development",
        "api": {"image": format!("rorun-api:{image}"), "autoscaling": {}},
        "ingress": {"host": "api.example.com"},
    })
}

fn name(index: usize) -> String {
    format!("shop-{index:02}")
}

/// Makes stacks, one after the other; `between` is called before each.
async fn make(fleet: &Fleet<'_>, stacks: usize, mut between: impl AsyncFnMut(usize) -> Result<()>) -> Result<()> {
    for index in 0..stacks {
        between(index).await?;
        fleet.apply(&name(index), &spec("1")).await?;
    }
    Ok(())
}

async fn restart(environment: &TestEnvironment, stacks: usize, times: usize) -> Result<Vec<String>> {
    let reference = learn(environment, async |fleet| make(fleet, stacks, async |_| Ok(())).await).await?;
    let mut play = OneOperator::open(environment).await?;
    let mark = tokio::task::block_in_place(|| environment.server.mark())?;
    let (mut problems, every) = (Vec::new(), stacks.div_ceil(times + 1).max(1));
    let mut passwords = Leaves::new();
    let fleet = &play.fleet;
    make(fleet, stacks, async |index| {
        if index > 0 && index % every == 0 && index / every <= times {
            passwords.extend(fleet.passwords().await?);
            tokio::task::block_in_place(|| environment.server.restart_apiserver())?;
        }
        Ok(())
    })
    .await?;
    problems.extend(play.fleet.settle(CONVERGED_WITHIN).await);
    problems.extend(made_up_again(&passwords, &play.fleet.passwords().await?));
    // A call that was answered when the server was killed may be missing in its log, so an object may have been made and is not
    // counted; one that was made twice is.
    let calls = tokio::task::block_in_place(|| environment.server.calls_since(mark))?;
    let twice = play.fleet.made(&calls).into_iter().filter(|(_, times)| *times > 1);
    problems.extend(twice.map(|(what, times)| format!("O2 {what} {times} times")));
    problems.extend(play.ended()?);
    problems.extend(differences(&reference, &play.fleet).await?);
    Ok(problems)
}

async fn freeze(environment: &TestEnvironment, frozen: Duration) -> Result<Vec<String>> {
    let reference = learn(environment, async |fleet| {
        before(fleet).await?;
        change(fleet).await
    })
    .await?;
    let mut play = OneOperator::open(environment).await?;
    before(&play.fleet).await?;
    let passwords = play.fleet.passwords().await?;
    environment.server.freeze_etcd()?;
    let thawed = async {
        tokio::time::sleep(frozen).await;
        environment.server.thaw_etcd()
    };
    tokio::try_join!(change(&play.fleet), thawed)?;
    let mut problems: Vec<String> = play.fleet.settle(CONVERGED_WITHIN).await.into_iter().collect();
    problems.extend(made_up_again(&passwords, &play.fleet.passwords().await?));
    problems.extend(play.ended()?);
    problems.extend(differences(&reference, &play.fleet).await?);
    Ok(problems)
}

/// Six stacks, settled.
async fn before(fleet: &Fleet<'_>) -> Result<()> {
    make(fleet, 6, async |_| Ok(())).await?;
    if let Some(problem) = fleet.settle(CONVERGED_WITHIN).await {
        bail!("before the fault: {problem}");
    }
    Ok(())
}

/// Changes two of them, deletes two, and makes two more, all at once.
async fn change(fleet: &Fleet<'_>) -> Result<()> {
    let acts = [0, 1, 6, 7].map(|index| async move { fleet.apply(&name(index), &spec("2")).await });
    let deletions = [2, 3].map(|index| async move { fleet.delete(&name(index)).await });
    tokio::try_join!(futures::future::try_join_all(acts), futures::future::try_join_all(deletions))?;
    Ok(())
}

/// The API server is killed. The operator lives on, and reports that its caches may be stale until it has listed again.
async fn outage(environment: &TestEnvironment) -> Result<Vec<String>> {
    let mut play = OneOperator::open(environment).await?;
    make(&play.fleet, 2, async |_| Ok(())).await?;
    let mut problems: Vec<String> = play.fleet.settle(CONVERGED_WITHIN).await.into_iter().collect();
    problems.extend(play.answers("/readyz", 200).await);
    let mark = tokio::task::block_in_place(|| environment.server.mark())?;
    tokio::task::block_in_place(|| environment.server.kill_apiserver())?;
    problems.extend(play.answers("/readyz", 503).await);
    problems.extend(play.answers("/healthz", 200).await);
    tokio::task::block_in_place(|| environment.server.start_apiserver())?;
    problems.extend(play.answers("/readyz", 200).await);
    problems.extend(play.fleet.settle(CONVERGED_WITHIN).await);
    let calls = tokio::task::block_in_place(|| environment.server.calls_since(mark))?;
    let written = calls.iter().filter(|call| call.is_write() && call.user_agent.starts_with("rorun-"));
    problems
        .extend(written.map(|call| format!("O3 {} {}/{} though nothing changed", call.verb, call.resource, call.name)));
    problems.extend(play.ended()?);
    Ok(problems)
}

/// The end of a run without a fault.
async fn learn(environment: &TestEnvironment, act: impl AsyncFn(&Fleet<'_>) -> Result<()>) -> Result<Reference> {
    let mut runs = Vec::new();
    for _ in 0..CLEAN_RUNS {
        let play = OneOperator::open(environment).await?;
        act(&play.fleet).await?;
        if let Some(problem) = play.fleet.settle(CONVERGED_WITHIN).await {
            bail!("without a fault: {problem}");
        }
        runs.push(play.fleet.leaves().await?);
    }
    Ok(Reference::learn(&runs))
}

/// The differences to that end, without times: two runs may agree on a time by chance.
async fn differences(reference: &Reference, fleet: &Fleet<'_>) -> Result<Vec<String>> {
    let leaves = fleet.leaves().await?;
    let different = reference.differences(&leaves).into_iter();
    let different =
        different.filter(|difference| !difference.contains("Timestamp: ") && !difference.contains("Time: "));
    Ok(different.map(|difference| format!("O1 {difference}")).collect())
}

fn made_up_again(before: &Leaves, after: &Leaves) -> Vec<String> {
    let changed = before.iter().filter(|(path, value)| after.get(*path) != Some(value));
    changed.map(|(path, _)| format!("O4 {path} was made up again")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorun_e2e::scenarios::kit::project;

    #[test]
    fn plans_that_found_something_are_played() {
        let played = plans(Plan::Restart { stacks: 1, times: 1 }, 1);
        for entry in std::fs::read_dir(project().join("e2e/campaign/plans/server")).expect("plans") {
            let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a plan");
            let plan: Plan = serde_json::from_str(&text).expect("a plan of this suite");
            assert!(played.contains(&plan), "{plan} is not played");
        }
    }
}
