//! Each ordered pair of what takes time: one operation is asked for, and another while it goes on. At no moment two Jobs work on live
//! data, the second operation waits and says for what, nothing ends the Job of the first half-way, and both come to a good end (O9),
//! the same as when nothing goes wrong (O1, O2), whichever operator is killed, sees late or takes over meanwhile.
//!
//! No pod runs: the suite ends the Jobs, and says what their agents would. A deletion has no Job of its own, so a recovery point that
//! is being made keeps the first one from its end; a hibernation goes on until the user needs the stack again.

mod asked;
mod plans;
mod runner;
mod script;

use std::fmt;

use anyhow::{Context, Result};
use futures::StreamExt;
use rorun_e2e::engine::progress::Step;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::runner::Runner;
use crate::plan::Plan;
use crate::play::found_plans;
use crate::suite::{Extent, Play, Suite, SuiteRun};
use crate::workload;

/// Two operations at once.
pub(crate) const SUITE: Suite = Suite {
    name: "operations",
    proves: "of two operations the second waits for the Job of the first and says so, and both come to a good end",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

/// Pairs side by side: most of their time is waited.
const AT_ONCE: usize = 6;

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Operation {
    Dump,
    Release,
    Restore,
    Hibernation,
    Deletion,
}

/// What becomes of the operator that leads, of two, when the second operation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Leader {
    /// It stops where it stands until the other leads, and goes on.
    Frozen,
    /// It is killed, and started again once the other leads.
    Killed,
}

/// A pair, and what goes wrong from when the first is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    first: Operation,
    second: Operation,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    plans: Vec<Plan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<Leader>,
}

impl Case {
    /// Nothing goes wrong.
    fn undisturbed(first: Operation, second: Operation) -> Case {
        Case { first, second, plans: Vec::new(), leader: None }
    }

    fn pair(&self) -> (Operation, Operation) {
        (self.first, self.second)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}, then {:?}", self.first, self.second)?;
        for plan in &self.plans {
            write!(formatter, ", {plan}")?;
        }
        self.leader.map_or(Ok(()), |leader| write!(formatter, ", the leader is {leader:?}"))
    }
}

/// A stack whose services answer, with a migration.
fn spec(endpoint: &str, image: &str) -> Value {
    let mut spec = workload::whole(endpoint);
    spec["api"]["image"] = json!(image);
    spec["api"]["migrations"] = json!({"command": ["migrate"]});
    spec
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let runner = Runner::open(run.cache).await?;
    let chosen: Vec<Choice> = match &run.extent {
        Extent::Only(plan) => {
            vec![Choice::Case(serde_json::from_value(plan.clone()).context("this is no plan of this suite")?)]
        }
        Extent::Quick => {
            let found = found_plans("operations")?.into_iter().map(Choice::Case);
            plans::QUICK.into_iter().map(Choice::One).chain(found).collect()
        }
        Extent::Whole => plans::pairs().map(Choice::All).collect(),
    };
    let step = Step::start(&format!("operations: {} pairs", chosen.len()), "pairs of operations");
    let mut playing =
        futures::stream::iter(chosen).map(async |choice| runner.play_pair(run, choice).await).buffer_unordered(AT_ONCE);
    while let Some(played) = playing.next().await {
        played?;
    }
    step.done();
    Ok(())
}

/// What is played of a pair, once it is known how it goes when nothing goes wrong.
enum Choice {
    /// This.
    Case(Case),
    /// One of its plans.
    One(plans::Sample),
    /// A sample of all.
    All((Operation, Operation)),
}

impl Choice {
    fn pair(&self) -> (Operation, Operation) {
        match self {
            Choice::Case(case) => case.pair(),
            Choice::One(sample) => sample.pair,
            Choice::All(pair) => *pair,
        }
    }
}
