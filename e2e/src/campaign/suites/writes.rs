//! Plays plans, and judges them: the end is that of a run in which nothing went wrong (O1), every object was made and deleted
//! as often (O2), the operator came to rest soon after (O3), made up no second password and deleted nothing that the spec
//! keeps (O4), and ended only when it was killed (O8).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use kube::api::DeleteParams;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::campaign::arena::{Arena, STACK};
use crate::campaign::plan::{Call, Fault, Plan};
use crate::campaign::proxy::FaultProxy;
use crate::campaign::snapshot::{Leaves, Reference, take};
use crate::campaign::stage::{Stage, lock};
use crate::campaign::suite::{Extent, Ground, Suite, Verdict};
use crate::engine::progress::Step;
use crate::engine::record::ProcessRecord;
use crate::scenarios::kit::project;

/// A crash or a refusal at every write.
pub(in crate::campaign) const SUITE: Suite = Suite {
    name: "writes",
    proves: "a crash or a refusal at any write of a stack's life leads to the same end, with nothing made twice",
    play: |ground| Box::pin(play_suite(ground)),
};

/// Every fault that a request can meet.
const FAULTS: &[Fault] = &[
    Fault::KillBefore,
    Fault::KillAfterCommit,
    Fault::KillAfterAnswer,
    Fault::ResetAfterCommit,
    Fault::Refuse(409),
    Fault::Refuse(429),
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::RefuseAfterCommit(504),
];
/// What is asked of every change.
const QUICK: &[Fault] = &[Fault::KillBefore, Fault::KillAfterCommit];
/// Plans that found something once, and are asked of every change since.
const FOUND: &str = "e2e/plans/writes";

/// Cases side by side: each is an operator of its own, on few processors.
const AT_ONCE: usize = 4;
/// Runs without a fault to learn from.
const CLEAN_RUNS: usize = 3;

/// What the user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Workload {
    /// Makes a stack.
    Create,
    /// Changes one that is settled: another image, a component less, another retention.
    Update,
    /// Deletes one with its data, as its spec says.
    Delete,
}

impl Workload {
    /// All of them.
    const ALL: [Workload; 3] = [Workload::Create, Workload::Update, Workload::Delete];

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
struct Case {
    /// What the user does.
    workload: Workload,
    /// What goes wrong.
    plan: Plan,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.workload, self.plan)
    }
}

/// What an undisturbed run of a workload looks like, and the writes in it.
#[derive(Debug)]
struct Learnt {
    /// Its end.
    reference: Reference,
    /// Its writes, in the order in which they came first.
    writes: Vec<(Call, usize)>,
    made: BTreeMap<String, usize>,
}

struct Ran {
    leaves: Leaves,
    writes: Vec<Call>,
    made: BTreeMap<String, usize>,
    fired: bool,
    problems: Vec<String>,
}

async fn play_suite(ground: &Ground<'_>) -> Result<()> {
    let arena = Arena::open(ground.cache).await?;
    if let Extent::Only(plan) = &ground.extent {
        let case: Case = serde_json::from_value(plan.clone()).context("this is no plan of this suite")?;
        let learnt = learn(&arena, case.workload).await?;
        return play_all(ground, &arena, &learnt, vec![case]).await;
    }
    let faults = if ground.extent == Extent::Quick { QUICK } else { FAULTS };
    for workload in Workload::ALL {
        let learnt = learn(&arena, workload).await?;
        let (compared, masked) = learnt.reference.size();
        let mut cases = plans(&learnt, workload, faults);
        cases.extend(
            found()?.into_iter().filter(|case| case.workload == workload && !faults.contains(&case.plan.fault)),
        );
        let what = format!("{workload:?}: {} plans, {} writes", cases.len(), learnt.writes.len());
        let step = Step::start(&what, &format!("{compared} values compared, {masked} differ by themselves"));
        play_all(ground, &arena, &learnt, cases).await?;
        step.done();
    }
    Ok(())
}

fn found() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(project().join(FOUND))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let case = serde_json::from_str(&text).with_context(|| format!("{} is no plan", path.display()))?;
        cases.push(case);
    }
    Ok(cases)
}

/// Learns how a workload goes when nothing goes wrong.
async fn learn(arena: &Arena, workload: Workload) -> Result<Learnt> {
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
fn plans(learnt: &Learnt, workload: Workload, faults: &[Fault]) -> Vec<Case> {
    let at = |(call, occurrence): &(Call, usize)| {
        let plan = |fault: &Fault| Plan { at: call.clone(), occurrence: *occurrence, fault: *fault };
        faults.iter().map(plan).collect::<Vec<_>>()
    };
    learnt.writes.iter().flat_map(at).map(|plan| Case { workload, plan }).collect()
}

/// Plays cases, some at once.
async fn play_all(ground: &Ground<'_>, arena: &Arena, learnt: &Learnt, cases: Vec<Case>) -> Result<()> {
    let mut playing = futures::stream::iter(cases).map(|case| judge(arena, learnt, case)).buffer_unordered(AT_ONCE);
    while let Some(verdict) = playing.next().await {
        ground.tell(&verdict?)?;
    }
    Ok(())
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
    Ok(Verdict { plan: case.to_string(), problems, replay: serde_json::to_value(&case)? })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_that_found_something_can_be_played() {
        let found = found().expect("plans");
        assert!(!found.is_empty());
        assert!(found.iter().all(|case| FAULTS.contains(&case.plan.fault)), "{found:?}");
    }
}
