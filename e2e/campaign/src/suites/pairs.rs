//! More than one crash: two in a row, and an operator that never lives for long.

use anyhow::Result;
use rorun_e2e::engine::progress::Step;

use crate::plan::{Call, Fault, Plan};
use crate::play::{Case, CaseRunner, Learnt, every};
use crate::suite::{Extent, Play, Suite, SuiteRun};
use crate::workload::Workload;

/// Two crashes, and crash loops.
pub(crate) const SUITE: Suite = Suite {
    name: "pairs",
    proves: "two crashes in a row, or one after every few writes, lead to the same end, with nothing made twice",
    quick: true,
    play: Play::Cases(|run, runner| Box::pin(play_suite(run, runner))),
};

const CRASHES: [Fault; 3] = [Fault::KillBefore, Fault::KillAfterCommit, Fault::KillAfterAnswer];
/// How many writes after the first crash the second may be.
const APART: usize = 6;
/// Pairs of all workloads, and those that are asked of every change.
const PAIRS: usize = 200;
const QUICK: usize = 8;
/// After how many writes an operator in a crash loop is killed.
const LIVES: [usize; 4] = [1, 2, 3, 7];
/// How often, at most: a loop ends before if nothing is left to be written.
const DEATHS: usize = 20;

async fn play_suite(run: &SuiteRun<'_>, runner: &CaseRunner) -> Result<()> {
    let mut learnt = Vec::new();
    for workload in Workload::ALL {
        learnt.push((workload, runner.learn(workload).await?));
    }
    let pairs: Vec<Case> = learnt.iter().flat_map(|(workload, learnt)| pairs(*workload, learnt)).collect();
    let quick = run.extent == Extent::Quick;
    let mut cases = every(pairs, if quick { QUICK } else { PAIRS });
    cases.extend(Workload::ALL.into_iter().flat_map(loops).filter(|case| !quick || case.workload == Workload::Whole));
    for (workload, learnt) in &learnt {
        let cases: Vec<Case> = cases.iter().filter(|case| case.workload == *workload).cloned().collect();
        let step = Step::start(&format!("{workload:?}: {} plans", cases.len()), "pairs of crashes, and crash loops");
        runner.play_all(run, learnt, cases).await?;
        step.done();
    }
    Ok(())
}

/// A crash at every write, and another a few writes later.
fn pairs(workload: Workload, learnt: &Learnt) -> Vec<Case> {
    let mut cases = Vec::new();
    for index in 0..learnt.writes.len() {
        for occurrence in 1..=APART.min(learnt.writes.len() - index - 1) {
            for first in CRASHES {
                let second = CRASHES[(index + occurrence) % CRASHES.len()];
                let second = Plan { at: Call::any_write(), occurrence, fault: second };
                cases.extend(learnt.at(index, first).map(|first| Case::several(workload, vec![first, second])));
            }
        }
    }
    cases
}

/// Crashes without end.
fn loops(workload: Workload) -> impl Iterator<Item = Case> {
    let ends = LIVES
        .into_iter()
        .map(|life| (life, Fault::KillAfterCommit))
        .chain([(1, Fault::KillBefore), (3, Fault::KillBefore)]);
    ends.map(move |(occurrence, fault)| {
        let mut case = Case::one(workload, Plan { at: Call::any_write(), occurrence, fault });
        case.times = DEATHS;
        case
    })
}
