//! Plays a workload with and without faults, and judges: by what an undisturbed run comes to, and by its history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use rorun_e2e::engine::Cache;
use rorun_e2e::fake_controllers::FakeControllers;
use rorun_e2e::scenarios::kit::project;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bucket::Bucket;
use super::canary;
use super::environment::{STACK, TestEnvironment};
use super::history::{Allowed, History};
use super::plan::{Call, Fault, Plan, always, numbered};
use super::snapshot::{Leaves, Reference, take};
use super::suite::{SuiteRun, Verdict};
use super::test_context::TestContext;
use super::workload::{Workload, prepare};

/// Cases side by side: each is an operator of its own, on few processors.
const AT_ONCE: usize = 4;
/// The message of the condition Ready when it is true.
const ALL_SERVES: &str = "everything that the spec asks for serves";
/// Runs without a fault to learn from.
const CLEAN_RUNS: usize = 3;
/// How often a plan is played whose request does not come.
const TRIES: usize = 3;

/// A workload, and the faults meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Case {
    /// The acts of the user.
    pub(super) workload: Workload,
    /// The faults.
    #[serde(flatten)]
    pub(super) plans: Plans,
    /// How often all of it goes wrong, one after the other.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub(super) times: usize,
}

/// One fault, or several of which each waits for the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Plans {
    /// One.
    Plan(Plan),
    /// Several.
    Plans(Vec<Plan>),
}

fn once() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_once(times: &usize) -> bool {
    *times == 1
}

impl Case {
    /// One fault.
    pub(super) fn one(workload: Workload, plan: Plan) -> Case {
        Case { workload, plans: Plans::Plan(plan), times: 1 }
    }

    /// Several.
    pub(super) fn several(workload: Workload, plans: Vec<Plan>) -> Case {
        Case { workload, plans: Plans::Plans(plans), times: 1 }
    }

    /// The faults in their order.
    pub(super) fn faults(&self) -> impl Iterator<Item = Plan> + '_ {
        let once: &[Plan] = match &self.plans {
            Plans::Plan(plan) => std::slice::from_ref(plan),
            Plans::Plans(plans) => plans,
        };
        std::iter::repeat_n(once, self.times).flatten().cloned()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plans: Vec<String> =
            self.faults().take(self.faults().count() / self.times.max(1)).map(|plan| plan.to_string()).collect();
        write!(formatter, "{:?}: {}", self.workload, plans.join(", then "))?;
        if self.times > 1 { write!(formatter, ", {} times", self.times) } else { Ok(()) }
    }
}

/// The plans that a suite found something with, which are played ever since.
pub(super) fn found(suite: &str) -> Result<Vec<Case>> {
    found_plans(suite)
}

/// As [`found`], of suites whose plans are of another kind.
pub(super) fn found_plans<C: DeserializeOwned>(suite: &str) -> Result<Vec<C>> {
    let folder = project().join("e2e/campaign/plans").join(suite);
    let mut cases = Vec::new();
    if !folder.is_dir() {
        return Ok(cases);
    }
    let mut paths = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    paths.sort();
    for path in paths {
        cases.push(read(&path)?);
    }
    Ok(cases)
}

fn read<C: DeserializeOwned>(path: &Path) -> Result<C> {
    let text = std::fs::read_to_string(path)?;
    serde_json::from_str(&text).with_context(|| format!("{} is no plan", path.display()))
}

/// So many of the cases, evenly.
pub(super) fn every(cases: Vec<Case>, wanted: usize) -> Vec<Case> {
    let step = cases.len().div_ceil(wanted.max(1)).max(1);
    cases.into_iter().step_by(step).collect()
}

/// The end of an undisturbed run of a workload, and its writes.
#[derive(Debug)]
pub(super) struct Learnt {
    /// Its end.
    pub(super) reference: Reference,
    /// Its writes, in the order in which they came first, each with the how-manieth of its like it is.
    pub(super) writes: Vec<(Call, usize)>,
    made: BTreeMap<String, usize>,
}

impl Learnt {
    /// A fault at a write.
    pub(super) fn at(&self, index: usize, fault: Fault) -> Option<Plan> {
        let (at, occurrence) = self.writes.get(index)?.clone();
        Some(Plan { at, occurrence, fault })
    }
}

/// Plays workloads beside an API server, and remembers how each goes when nothing goes wrong.
#[derive(Debug)]
pub struct CaseRunner {
    learnt: tokio::sync::Mutex<BTreeMap<Workload, Arc<Learnt>>>,
    environment: TestEnvironment,
    bucket: Bucket,
    _controllers: FakeControllers,
}

/// How a plan went.
pub(crate) struct Ran {
    /// What is left.
    pub(crate) leaves: Leaves,
    /// The writes, in their order.
    pub(crate) writes: Vec<Call>,
    /// How often each object was made.
    pub(crate) made: BTreeMap<String, usize>,
    /// Whether none of the faults happened.
    pub(crate) undisturbed: bool,
    /// What is not as promised.
    pub(crate) problems: Vec<String>,
}

impl CaseRunner {
    /// Starts the API server, the fake controllers and the bucket.
    pub(super) async fn open(cache: &Cache) -> Result<CaseRunner> {
        let environment = TestEnvironment::open(cache).await?;
        let controllers = FakeControllers::start(environment.client.clone(), Duration::ZERO);
        Ok(CaseRunner {
            learnt: tokio::sync::Mutex::default(),
            environment,
            bucket: Bucket::start().await?,
            _controllers: controllers,
        })
    }

    /// How a workload goes when nothing goes wrong. Its undisturbed runs are made, and judged, once for all suites.
    pub(super) async fn learn(&self, workload: Workload) -> Result<Arc<Learnt>> {
        let mut all = self.learnt.lock().await;
        if let Some(learnt) = all.get(&workload) {
            return Ok(Arc::clone(learnt));
        }
        let learnt = Arc::new(self.undisturbed(workload).await?);
        all.insert(workload, Arc::clone(&learnt));
        Ok(learnt)
    }

    async fn undisturbed(&self, workload: Workload) -> Result<Learnt> {
        let mut runs = Vec::new();
        for _ in 0..CLEAN_RUNS {
            let ran = self.play(workload, Vec::new()).await?;
            if !ran.problems.is_empty() {
                bail!("{workload:?} without a fault: {}", ran.problems.join("; "));
            }
            let ready = ran.leaves.iter().any(|(path, value)| path.starts_with("RorunStack/") && value == ALL_SERVES);
            if ready != workload.is_ready_at_the_end() {
                let not = if ready { "" } else { "not " };
                bail!("{workload:?} without a fault: the stack is {not}ready: {}", conditions(&ran.leaves));
            }
            runs.push(ran);
        }
        let leaves: Vec<Leaves> = runs.iter_mut().map(|ran| std::mem::take(&mut ran.leaves)).collect();
        let made = std::mem::take(&mut runs[0].made);
        let writes = always(runs.into_iter().map(|ran| numbered(ran.writes)));
        Ok(Learnt { reference: Reference::learn(&leaves), writes, made })
    }

    /// Plays one case, as a failure left it.
    pub(super) async fn again(&self, run: &SuiteRun<'_>, case: Case) -> Result<()> {
        let learnt = self.learn(case.workload).await?;
        self.play_all(run, &learnt, vec![case]).await
    }

    /// Plays cases, some at once.
    pub(super) async fn play_all(&self, run: &SuiteRun<'_>, learnt: &Learnt, cases: Vec<Case>) -> Result<()> {
        let mut playing = futures::stream::iter(cases).map(|case| self.judge(learnt, case)).buffer_unordered(AT_ONCE);
        while let Some(verdict) = playing.next().await {
            run.report(&verdict?)?;
        }
        Ok(())
    }

    async fn judge(&self, learnt: &Learnt, case: Case) -> Result<Verdict> {
        let mut ran = self.play(case.workload, case.faults().collect()).await?;
        // Even one that always came when it was learnt may be one status that this time was not worth telling.
        for _ in 1..TRIES {
            let well = ran.problems.is_empty()
                && learnt.reference.differences(&ran.leaves).is_empty()
                && ran.made == learnt.made;
            if !ran.undisturbed || !well {
                break;
            }
            ran = self.play(case.workload, case.faults().collect()).await?;
        }
        let mut problems = ran.problems;
        if ran.undisturbed {
            problems.push("the request that the plan names never came".to_owned());
        }
        let different = learnt.reference.differences(&ran.leaves).into_iter();
        problems.extend(different.map(|difference| format!("O1 {difference}")));
        let counted = ran.made.keys().chain(learnt.made.keys()).collect::<BTreeSet<_>>();
        let vanished: Vec<Plan> = case.faults().filter(|plan| plan.fault == Fault::Vanish).collect();
        let again = |what: &str| {
            vanished.iter().filter(|plan| format!("made {}/{}", plan.at.resource, plan.at.name) == what).count()
        };
        for what in counted {
            let made = ran.made.get(what).copied().unwrap_or_default();
            let wanted = learnt.made.get(what).copied().unwrap_or_default() + again(what);
            problems.extend((made != wanted).then(|| format!("O2 {what} {made} times, not {wanted}")));
        }
        Ok(Verdict { plan: case.to_string(), problems, replay: serde_json::to_value(&case)? })
    }

    async fn play(&self, workload: Workload, plans: Vec<Plan>) -> Result<Ran> {
        let CaseRunner { environment, bucket, .. } = self;
        let mark = tokio::task::block_in_place(|| environment.server.mark())?;
        let (mut test, mut problems) = (TestContext::open(environment).await?, Vec::new());
        let namespace = test.namespace.clone();
        prepare(environment, &namespace).await?;
        if let Some(before) = workload.before(&bucket.endpoint) {
            environment.apply(&namespace, &before).await?;
            problems.extend(test.settle(false).await?);
        }
        let begun = test.proxy.writes().len();
        test.proxy.arm(plans);
        workload.act(environment, &namespace, &bucket.endpoint).await?;
        problems.extend(test.settle(workload.is_end()).await?);
        problems.extend(test.proxy.problems());
        problems.extend(outside(&namespace, &test.proxy.writes()));
        problems.extend(bucket.changes().into_iter().map(|change| format!("O4 {change} of a bucket of the user")));
        let log = tokio::task::block_in_place(|| environment.server.events_since(mark))?;
        let history = History::of(&namespace, &log)?;
        let stack = environment.stacks(&namespace).get_opt(STACK).await?;
        let generation = stack.and_then(|stack| stack.metadata.generation);
        problems.extend(history.problems(Allowed { data_go: workload.is_end(), generation }));
        problems
            .extend(canary::problems(&environment.client, &namespace, &environment.log(&namespace), &history).await?);
        Ok(Ran {
            leaves: take(&environment.client, &namespace).await?,
            writes: test.proxy.writes().split_off(begun),
            made: history.made(),
            undisturbed: !test.proxy.has_fired() && test.proxy.fired() == 0,
            problems,
        })
    }
}

/// What stacks tell of themselves.
fn conditions(leaves: &Leaves) -> String {
    let of = |(path, value): (&String, &Value)| {
        let told = path.starts_with("RorunStack/") && path.contains("/conditions/") && path.ends_with("/message");
        told.then(|| format!("{path}: {value}"))
    };
    leaves.iter().filter_map(of).collect::<Vec<_>>().join("; ")
}

/// Writes where the operator has nothing to write.
pub(super) fn outside(namespace: &str, writes: &[Call]) -> Vec<String> {
    let outside = writes.iter().filter(|call| call.namespace != namespace);
    outside.map(|call| format!("O4 {call} in namespace {:?}", call.namespace)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(occurrence: usize) -> Plan {
        Plan { at: Call::any_write(), occurrence, fault: Fault::KillBefore }
    }

    #[test]
    fn a_case_is_read_as_it_is_written_whether_it_has_one_fault_or_more() {
        let mut case = Case::one(Workload::Create, plan(3));
        case.times = 20;
        for case in
            [case, Case::one(Workload::Create, plan(1)), Case::several(Workload::Delete, vec![plan(1), plan(2)])]
        {
            let text = serde_json::to_string(&case).expect("text");
            assert_eq!(serde_json::from_str::<Case>(&text).expect("a case"), case, "{text}");
        }
    }

    #[test]
    fn faults_come_as_often_as_the_case_says() {
        let mut case = Case::several(Workload::Create, vec![plan(1), plan(2)]);
        case.times = 2;
        let occurrences: Vec<usize> = case.faults().map(|plan| plan.occurrence).collect();
        assert_eq!(occurrences, [1, 2, 1, 2]);
        assert!(case.to_string().ends_with("2: KillBefore, 2 times"), "{case}");
    }

    #[test]
    fn plans_that_found_something_can_be_played() {
        assert!(found("writes").expect("plans").len() > 2);
        assert!(found("none").expect("no plans").is_empty());
    }
}
