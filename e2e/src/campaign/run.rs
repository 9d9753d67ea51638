//! Plays plans, and judges them: the end is that of a run in which nothing went wrong (O1), every object was made and deleted
//! as often (O2), the operator came to rest soon after (O3), made up no second password and deleted nothing that the spec
//! keeps (O4), and ended only when it was killed (O8).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use kube::api::DeleteParams;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arena::{Arena, Operator, STACK};
use super::plan::{Call, Fault, Plan};
use super::proxy::FaultProxy;
use super::snapshot::{Leaves, Reference, take};
use crate::engine::record::ProcessRecord;

/// Cases side by side: each is an operator of its own, on few processors.
const AT_ONCE: usize = 4;
/// After the fault, or without one after the start.
const CONVERGED_WITHIN: Duration = Duration::from_secs(15);
/// Longer than the first retries of the operator.
const QUIET: Duration = Duration::from_millis(1200);
const TICK: Duration = Duration::from_millis(20);
/// Runs without a fault to learn from.
const CLEAN_RUNS: usize = 3;

/// What the user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Workload {
    /// Makes a stack.
    Create,
    /// Changes one that is settled: another image, a component less, another retention.
    Update,
    /// Deletes one with its data, as its spec says.
    Delete,
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 3] = [Workload::Create, Workload::Update, Workload::Delete];

    fn before(self) -> Option<Value> {
        match self {
            Workload::Create => None,
            Workload::Update => Some(spec()),
            Workload::Delete => Some(deleting()),
        }
    }
}

fn spec() -> Value {
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1", "autoscaling": {}},
        "ocr": {"image": "rorun-ai-service:1"},
        "admin": {"image": "rorun-admin:1"},
        "ingress": {"host": "api.example.com", "adminHost": "admin.example.com"},
        "backup": {},
    })
}

fn changed() -> Value {
    let mut spec = spec();
    spec["admin"]["image"] = json!("rorun-admin:2");
    spec["backup"]["retention"] = json!({"days": 7});
    spec["ingress"] = json!({"host": "api.example.com"});
    spec["redis"] = json!({"embedded": {"resources": {"requests": {"memory": "128Mi"}}}});
    spec
}

fn deleting() -> Value {
    let mut spec = spec();
    spec["deletionPolicy"] = json!("Delete");
    spec["backup"] = Value::Null;
    spec
}

/// A plan, and what the user does meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Case {
    /// What the user does.
    pub workload: Workload,
    /// What goes wrong.
    pub plan: Plan,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.workload, self.plan)
    }
}

/// What came of a case.
#[derive(Debug)]
pub struct Verdict {
    /// Which.
    pub case: Case,
    /// What was wrong; nothing if all was well.
    pub problems: Vec<String>,
}

/// What an undisturbed run of a workload looks like, and the writes in it.
#[derive(Debug)]
pub struct Learnt {
    /// Its end.
    pub reference: Reference,
    /// Its writes, in the order in which they came first.
    pub writes: Vec<(Call, usize)>,
    made: BTreeMap<String, usize>,
}

struct Ran {
    leaves: Leaves,
    writes: Vec<Call>,
    made: BTreeMap<String, usize>,
    fired: bool,
    problems: Vec<String>,
}

/// Learns how a workload goes when nothing goes wrong.
pub async fn learn(arena: &Arena, workload: Workload) -> Result<Learnt> {
    let mut runs = Vec::new();
    for _ in 0..CLEAN_RUNS {
        let ran = play(arena, workload, None).await?;
        if !ran.problems.is_empty() {
            bail!("{workload:?} without a fault: {}", ran.problems.join("; "));
        }
        runs.push(ran);
    }
    let leaves: Vec<Leaves> = runs.iter_mut().map(|ran| std::mem::take(&mut ran.leaves)).collect();
    let first = runs.swap_remove(0);
    let mut met = BTreeMap::<Call, usize>::new();
    let writes = first.writes.into_iter().map(|call| {
        let like = Call { namespace: String::new(), ..call };
        let count = met.entry(like.clone()).or_default();
        *count += 1;
        (like, *count)
    });
    Ok(Learnt { reference: Reference::learn(&leaves), writes: writes.collect(), made: first.made })
}

/// Every fault at every write.
pub fn plans(learnt: &Learnt, workload: Workload, faults: &[Fault]) -> Vec<Case> {
    let at = |(call, occurrence): &(Call, usize)| {
        let plan = |fault: &Fault| Plan { at: call.clone(), occurrence: *occurrence, fault: *fault };
        faults.iter().map(plan).collect::<Vec<_>>()
    };
    learnt.writes.iter().flat_map(at).map(|plan| Case { workload, plan }).collect()
}

/// Plays cases, some at once; `told` hears of each as it ends.
pub async fn play_all(
    arena: &Arena,
    learnt: &Learnt,
    cases: Vec<Case>,
    mut told: impl FnMut(&Verdict),
) -> Result<Vec<Verdict>> {
    let mut playing = futures::stream::iter(cases).map(|case| judge(arena, learnt, case)).buffer_unordered(AT_ONCE);
    let mut verdicts = Vec::new();
    while let Some(verdict) = playing.next().await {
        let verdict = verdict?;
        told(&verdict);
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

async fn judge(arena: &Arena, learnt: &Learnt, case: Case) -> Result<Verdict> {
    let ran = play(arena, case.workload, Some(case.plan.clone())).await?;
    let mut problems = ran.problems;
    if !ran.fired {
        problems.push("the request that the plan names never came".to_owned());
    }
    problems.extend(learnt.reference.differences(&ran.leaves).into_iter().map(|difference| format!("O1 {difference}")));
    let counted = ran.made.keys().chain(learnt.made.keys()).collect::<BTreeSet<_>>();
    let times = |of: &BTreeMap<String, usize>, what: &str| of.get(what).copied().unwrap_or_default();
    let counted = counted.into_iter().filter(|what| times(&ran.made, what) != times(&learnt.made, what));
    problems.extend(
        counted.map(|what| format!("O2 {what} {} times, not {}", times(&ran.made, what), times(&learnt.made, what))),
    );
    Ok(Verdict { case, problems })
}

async fn play(arena: &Arena, workload: Workload, plan: Option<Plan>) -> Result<Ran> {
    let namespace = arena.namespace().await?;
    let mark = tokio::task::block_in_place(|| arena.bed.mark())?;
    let victim = Arc::new(Mutex::new(None::<ProcessRecord>));
    let kill = {
        let victim = Arc::clone(&victim);
        move || {
            if let Some(record) = lock(&victim).take() {
                record.kill();
            }
        }
    };
    let proxy = FaultProxy::start(arena.client.clone(), kill).await?;
    let mut stage = Stage { arena, namespace: &namespace, proxy: &proxy, victim, operator: None, problems: Vec::new() };
    let begun = match workload.before() {
        None => {
            proxy.arm(plan.clone());
            arena.apply(&namespace, &spec()).await?;
            0
        }
        Some(before) => {
            arena.apply(&namespace, &before).await?;
            stage.settle(false).await?;
            proxy.arm(plan.clone());
            let begun = proxy.writes().len();
            match workload {
                Workload::Delete => {
                    arena.stacks(&namespace).delete(STACK, &DeleteParams::background()).await?;
                }
                _ => arena.apply(&namespace, &changed()).await?,
            }
            begun
        }
    };
    stage.settle(workload == Workload::Delete).await?;
    let problems = stage.problems;
    let leaves = take(&arena.client, &namespace).await?;
    let calls = tokio::task::block_in_place(|| arena.bed.calls_since(mark))?;
    let mut made = BTreeMap::new();
    let of_operator = calls.iter().filter(|call| call.namespace == namespace && call.user_agent.starts_with("rorun-"));
    for call in of_operator.filter(|call| call.resource != "events" && call.subresource.is_empty()) {
        let what = match (call.verb.as_str(), call.code) {
            (_, 201) => "made",
            ("delete", 200..=299) => "deleted",
            _ => continue,
        };
        *made.entry(format!("{what} {}/{}", call.resource, call.name)).or_default() += 1;
    }
    let writes = proxy.writes().split_off(begun);
    Ok(Ran { leaves, writes, made, fired: proxy.has_fired(), problems })
}

/// A run that goes on.
struct Stage<'a> {
    arena: &'a Arena,
    namespace: &'a str,
    proxy: &'a FaultProxy,
    victim: Arc<Mutex<Option<ProcessRecord>>>,
    operator: Option<Operator>,
    problems: Vec<String>,
}

impl Stage<'_> {
    /// Keeps an operator running, until the stack's status speaks of its spec, or the stack is gone, and nothing is written
    /// for a while.
    async fn settle(&mut self, gone: bool) -> Result<()> {
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
