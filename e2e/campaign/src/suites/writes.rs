//! One fault at each write: of the creation of a stack, of a change to a settled one, and of its deletion.

use anyhow::Result;
use rorun_e2e::engine::progress::Step;

use crate::plan::Fault;
use crate::play::{Case, CaseRunner, Learnt, found};
use crate::suite::{Extent, Play, Suite, SuiteRun};
use crate::workload::Workload;

const NAME: &str = "writes";

/// A crash or a refusal at every write.
pub(crate) const SUITE: Suite = Suite {
    name: NAME,
    proves: "a crash or a refusal at any write of a stack's life leads to the same end, with nothing made twice",
    quick: true,
    play: Play::Cases(|run, runner| Box::pin(play_suite(run, runner))),
};

/// Every fault that a write can meet. An operator that was killed remembers nothing, so a kill after the answer to a write leaves
/// the next operator what a kill after the commit of that write, or before the next write, leaves it.
const FAULTS: &[Fault] = &[
    Fault::KillBefore,
    Fault::KillAfterCommit,
    Fault::ResetAfterCommit,
    Fault::Refuse(409),
    Fault::Refuse(429),
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::RefuseFor(429, 4),
    Fault::RefuseAfterCommit(504),
    Fault::DelayRequest(1_000),
    // Longer than the operator waits for an answer.
    Fault::DelayRequest(5_000),
    Fault::DelayAnswer(1_000),
];
/// The faults of the quick form.
const QUICK: &[Fault] = &[Fault::KillAfterCommit];

async fn play_suite(run: &SuiteRun<'_>, runner: &CaseRunner) -> Result<()> {
    let faults = if run.extent == Extent::Quick { QUICK } else { FAULTS };
    for workload in Workload::ALL {
        let learnt = runner.learn(workload).await?;
        let (compared, masked) = learnt.reference.size();
        let mut cases = plans(&learnt, workload, faults);
        let found = found(NAME)?.into_iter().filter(|case| case.workload == workload && !cases.contains(case));
        let found: Vec<Case> = found.collect();
        cases.extend(found);
        let what = format!("{workload:?}: {} plans, {} writes", cases.len(), learnt.writes.len());
        let step = Step::start(&what, &format!("{compared} values compared, {masked} differ by themselves"));
        runner.play_all(run, &learnt, cases).await?;
        step.done();
    }
    Ok(())
}

/// Every fault at every write.
fn plans(learnt: &Learnt, workload: Workload, faults: &[Fault]) -> Vec<Case> {
    let at = |index| faults.iter().filter_map(move |fault| learnt.at(index, *fault));
    (0..learnt.writes.len()).flat_map(at).map(|plan| Case::one(workload, plan)).collect()
}
