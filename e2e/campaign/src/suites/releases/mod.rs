//! A release and what comes between, at each of its steps: the operator is killed, the spec goes back to what serves or on to a third
//! image, the stack is deleted, two releases follow each other within a second, or an approval is of another release. Whatever comes,
//! nothing of a release has pods before it was approved and its own migration succeeded, no migration runs twice or beside another one,
//! nothing that was withdrawn serves (O10), and in the end what the spec asks for serves, or the stack is gone and its data are there.
//!
//! No pod runs: the suite ends the Jobs and says what their agents would, and it lets the fake controllers roll out. Each plan holds the
//! Job or the rollout of its step until the operator is at rest, and goes on from there.

mod end;
mod judge;
mod plans;
mod runner;
mod script;

use std::fmt;

use anyhow::{Context, Result};
use futures::StreamExt;
use rorun_e2e::engine::progress::Step as Progress;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::runner::Runner;
use crate::play::found_plans;
use crate::suite::{Extent, Play, Suite, SuiteRun};
use crate::workload;

/// A release, and what comes between.
pub(crate) const SUITE: Suite = Suite {
    name: "releases",
    proves: "whatever comes between at whichever step of a release, nothing serves before its approval and its migration, and it ends well",
    quick: true,
    play: Play::Alone(|run| Box::pin(play_suite(run))),
};

/// Plans side by side: most of their time is waited.
const AT_ONCE: usize = 8;

/// Where a release is when something comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Step {
    /// Nobody has approved it.
    AwaitingApproval,
    /// The Job of its recovery point runs.
    BackingUp,
    /// Its migration runs.
    Migrating,
    /// Its candidate is asked.
    Testing,
    /// Its pods come.
    RollingOut,
    /// Its pods are asked.
    Verifying,
    /// It serves.
    Serving,
}

/// What comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Disturbance {
    /// The operator is killed while it waits.
    Killed,
    /// It is killed before the so manieth write by which the step ends.
    KilledBefore(usize),
    /// It is killed after the API server carried that out.
    KilledAfter(usize),
    /// The spec goes back to the image of before, and the withdrawn release is approved.
    Back,
    /// The spec goes on to a third image, which is approved.
    Forward,
    /// The stack is deleted.
    Deleted,
    /// The spec goes on to a third image, and at once to a fourth.
    Two,
    /// An approval of no release.
    WrongApproval,
    /// The spec goes on to a third image, and the release before it is approved.
    WithdrawnApproval,
}

/// A plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    step: Step,
    disturbance: Disturbance,
}

impl Case {
    /// Production has no data in the cluster that could outlive a stack, and no other environment makes recovery points.
    fn is_production(self) -> bool {
        self.disturbance != Disturbance::Deleted || self.step == Step::BackingUp
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} while {:?}", self.disturbance, self.step)
    }
}

/// A stack whose releases have every step.
fn spec(endpoint: &str, case: Case) -> Value {
    let mut spec = workload::whole(endpoint);
    for none in ["ocr", "admin"] {
        spec[none] = Value::Null;
    }
    spec["environment"] = json!(if case.is_production() { "Production" } else { "Staging" });
    spec["api"] = json!({"image": script::FIRST, "replicas": 2, "migrations": {"command": ["migrate"]}});
    let questions =
        json!([{"component": "api", "path": "/health"}, {"component": "api", "path": "/health", "via": "Ingress"}]);
    spec["release"] = json!({"approval": "Required", "smokeTests": questions});
    spec["ingress"] = json!({"host": "api.example.com"});
    if case.is_production() {
        // The operator asks no service to which a password would go in clear text, so none has to be there.
        spec["database"] = json!({"external": {"secretRef": {"name": script::OUTSIDE}}});
        spec["redis"] = json!({"external": {"secretRef": {"name": script::OUTSIDE}}});
    } else {
        spec["database"] = json!({"embedded": {}});
        spec["redis"] = json!({"embedded": {}});
        spec["bucket"]["external"]["allowInsecure"] = json!(true);
    }
    spec
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let runner = Runner::open(run.cache).await?;
    let cases: Vec<Case> = match &run.extent {
        Extent::Only(plan) => vec![serde_json::from_value(plan.clone()).context("this is no plan of this suite")?],
        Extent::Quick => plans::QUICK.into_iter().chain(found_plans("releases")?).collect(),
        Extent::Whole => plans::all(),
    };
    let step = Progress::start(&format!("releases: {} plans", cases.len()), "plans of releases");
    let mut playing =
        futures::stream::iter(cases).map(async |case| runner.verdict(case).await).buffer_unordered(AT_ONCE);
    while let Some(verdict) = playing.next().await {
        run.report(&verdict?)?;
    }
    step.done();
    Ok(())
}
