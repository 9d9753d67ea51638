//! An operator whose caches differ from the API server: watches that lag, lose, repeat, end or stall, and caches of the past.

use std::collections::BTreeSet;

use anyhow::Result;
use rorun_e2e::engine::progress::Step;

use crate::plan::{Call, Fault, Plan};
use crate::play::{Case, CaseRunner, Learnt, every, found};
use crate::suite::{Extent, Play, Suite, SuiteRun};
use crate::workload::Workload;

const NAME: &str = "watches";

/// Stale caches, time travel, missed events, and watches that break.
pub(crate) const SUITE: Suite = Suite {
    name: NAME,
    proves: "whatever a watch delivers late, twice or never, the end is the same, and nothing is made or deleted twice",
    quick: true,
    play: Play::Cases(|run, runner| Box::pin(play_suite(run, runner))),
};

/// Until the operator has come to rest.
const LONG: usize = 1000;
/// While the operator is busy.
const SHORT: usize = 3;
/// How many of the plans are asked of every change.
const QUICK: usize = 32;

/// Faults of the watches of the resource of a write. Each such notification comes before another write of the stack: if
/// no other object's, the status's.
const AT_WRITES: [Fault; 6] = [
    Fault::Hold(LONG),
    Fault::Hold(SHORT),
    Fault::Miss(LONG),
    Fault::Miss(SHORT),
    Fault::KillIntoPast,
    Fault::KillIntoPastOfOne,
];
/// Faults of the first watch of a resource, or of all its watches from then on.
const FROM_THE_FIRST: [Fault; 3] = [Fault::Refuse(410), Fault::Refuse(500), Fault::Cut(1)];
/// Faults of the watches of a resource from its first write on.
const FROM_A_WRITE: [Fault; 3] = [Fault::Repeat, Fault::Cut(1), Fault::Cut(3)];

/// Data that vanish are gone: they are not made again, and that is no matter of watches.
const DATA: [&str; 3] = ["persistentvolumeclaims", "secrets", "rorunstacks"];

/// The workloads with writes of children: their creation, their change, and their deletion.
const WORKLOADS: [Workload; 3] = [Workload::Whole, Workload::Update, Workload::Delete];

async fn play_suite(run: &SuiteRun<'_>, runner: &CaseRunner) -> Result<()> {
    let quick = run.extent == Extent::Quick;
    for workload in WORKLOADS {
        let learnt = runner.learn(workload).await?;
        let mut cases = plans(workload, &learnt);
        if quick {
            cases = every(cases, QUICK / WORKLOADS.len());
        } else if workload == Workload::Whole {
            cases.retain(|case| !is_contained(case));
            // Each takes as long as the operator bears silence.
            cases.extend(at_firsts(workload, &learnt, &[Fault::Stall]));
        }
        let found = found(NAME)?.into_iter().filter(|case: &Case| case.workload == workload && !cases.contains(case));
        let found: Vec<Case> = found.collect();
        cases.extend(found);
        let step = Step::start(&format!("{workload:?}: {} plans", cases.len()), "watches that lag, lose or break");
        runner.play_all(run, &learnt, cases).await?;
        step.done();
    }
    Ok(())
}

/// Whether watches end early from a write of a creation on: they do so where they end early from the first watch on, too.
fn is_contained(case: &Case) -> bool {
    case.faults().all(|plan| plan.at.verb != "watch" && FROM_THE_FIRST.contains(&plan.fault))
}

fn plans(workload: Workload, learnt: &Learnt) -> Vec<Case> {
    let mut cases = Vec::new();
    let last = learnt.writes.len().saturating_sub(1);
    for index in 0..learnt.writes.len() {
        // The last write comes before no other: nothing can be done in ignorance of it, but to go back.
        let faults =
            AT_WRITES.into_iter().filter(|fault| index < last || !matches!(fault, Fault::Hold(_) | Fault::Miss(_)));
        cases.extend(faults.filter_map(|fault| learnt.at(index, fault)).map(|plan| Case::one(workload, plan)));
        if let (Some(then), Some(end)) = (learnt.at(index, Fault::Remember), learnt.at(last, Fault::KillIntoPast)) {
            // Counted from the other plan on.
            let since = learnt.writes[..=index].iter().filter(|(call, _)| *call == end.at).count();
            let end = Plan { occurrence: end.occurrence.saturating_sub(since), ..end };
            cases.extend((end.occurrence > 0).then(|| Case::several(workload, vec![then, end])));
        }
    }
    if workload.before("").is_none() {
        for resource in firsts(learnt).map(|index| learnt.writes[index].0.resource.clone()) {
            let at = Call { verb: "watch".to_owned(), resource, ..Call::default() };
            let one = |fault| Case::one(workload, Plan { at: at.clone(), occurrence: 1, fault });
            cases.extend(FROM_THE_FIRST.map(one));
        }
    }
    cases.extend(at_firsts(workload, learnt, &FROM_A_WRITE));
    if workload == Workload::Whole {
        let made = firsts(learnt).filter(|index| !DATA.contains(&learnt.writes[*index].0.resource.as_str()));
        let vanish = made.filter_map(|index| learnt.at(index, Fault::Vanish));
        cases.extend(vanish.map(|plan| Case::one(workload, plan)));
    }
    cases
}

fn at_firsts(workload: Workload, learnt: &Learnt, faults: &[Fault]) -> Vec<Case> {
    let at = |index| faults.iter().filter_map(move |fault| learnt.at(index, *fault));
    firsts(learnt).flat_map(at).map(|plan| Case::one(workload, plan)).collect()
}

/// The first write of each resource.
fn firsts(learnt: &Learnt) -> impl Iterator<Item = usize> {
    let mut observed = BTreeSet::new();
    (0..learnt.writes.len()).filter(move |index| observed.insert(&learnt.writes[*index].0.resource))
}
