//! Two operators and one Lease. Whatever happens to the one that leads, the other follows in time, and nothing is written by the
//! first once the second has written.
//!
//! The time of a Lease is written by a clock and read by people: a candidate counts by its own clock how long it has seen no
//! change. So a clock that is wrong is played as what it writes: the harness holds the Lease as a candidate whose clock is wrong.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, DeleteParams, PostParams};
use rorun_e2e::engine::progress::Step;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::candidate::{Candidate, LEASE, overlaps, until_standing_by, writes};
use crate::environment::TestEnvironment;
use crate::fleet::{Fleet, on_this_thread};
use crate::snapshot::Reference;
use crate::suite::{Extent, Play, Suite, SuiteRun, Verdict};

/// Leaders that end, sleep or are cut off.
pub(crate) const SUITE: Suite = Suite {
    name: "leaders",
    proves: "of several operators one writes at a time, and another follows in time, whatever happens to the leader",
    quick: true,
    play: Play::Alone(|run| Box::pin(async move { on_this_thread(play_suite(run)) })),
};

const STACK: &str = "shop";
/// The lease timings that the operators are built with.
const LEASE_DURATION: Duration = Duration::from_secs(15);
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// For the lease and the retry, and for a machine with few processors that does other things too.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(15 + 2 + 13);
/// Longer than the lease, so that another operator leads then.
const OFFSIDE: Duration = Duration::from_secs(20);
const CONVERGED_WITHIN: Duration = Duration::from_secs(30);
/// How often the user changes the stack, so that the leader always has something to write.
const CHANGE_EVERY: Duration = Duration::from_millis(250);

/// The fault of the leader, or of the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Plan {
    /// It is killed.
    Kill,
    /// It is stopped where it stands for longer than its lease, and goes on.
    Freeze,
    /// It does not reach the API server for longer than its lease, and then does.
    Cut,
    /// The Lease is deleted.
    Delete,
    /// The Lease is written for a candidate that is gone, and whose clock was so many seconds wrong.
    Taken(i64),
    /// A candidate whose clock is so many seconds wrong renews the Lease for longer than a lease, and then ends.
    Held(i64),
}

impl Plan {
    /// `Held` with a wrong clock contains `Taken` with one: that candidate takes the Lease first, and is gone in the end. Only
    /// the quick form, which has no time for `Held`, plays `Taken` with a wrong clock.
    const ALL: [Plan; 7] =
        [Plan::Kill, Plan::Freeze, Plan::Cut, Plan::Delete, Plan::Taken(0), Plan::Held(20), Plan::Held(-20)];
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Kill => formatter.write_str("the leader is killed"),
            Plan::Freeze => write!(formatter, "the leader is stopped for {} s", OFFSIDE.as_secs()),
            Plan::Cut => write!(formatter, "the leader is cut off for {} s", OFFSIDE.as_secs()),
            Plan::Delete => formatter.write_str("the Lease is deleted"),
            Plan::Taken(skew) => write!(formatter, "the Lease is given to somebody who is gone, clock {skew:+} s"),
            Plan::Held(skew) => write!(formatter, "the Lease is held by another candidate, clock {skew:+} s"),
        }
    }
}

async fn play_suite(run: &SuiteRun<'_>) -> Result<()> {
    let environment = TestEnvironment::open(run.cache).await?;
    let plans: Vec<(Plan, usize)> = match &run.extent {
        Extent::Only(plan) => vec![serde_json::from_value(plan.clone()).context("this is no plan of this suite")?],
        Extent::Quick => {
            [Plan::Kill, Plan::Freeze, Plan::Cut, Plan::Delete, Plan::Taken(-20)].map(|plan| (plan, 2)).into()
        }
        Extent::Whole => Plan::ALL.into_iter().flat_map(|plan| [(plan, 2), (plan, 3)]).collect(),
    };
    let reference = learn(&environment).await?;
    // Most of the time is spent with waiting for a lease to end.
    for some in plans.chunks(5) {
        let step = Step::start(&format!("leaders: {} plans", some.len()), "side by side, each with its own Lease");
        let played = some.iter().map(|&(plan, operators)| play(&environment, plan, operators, &reference));
        for (plan, problems) in some.iter().zip(futures::future::try_join_all(played).await?) {
            let text = format!("{}, {} operators", plan.0, plan.1);
            run.report(&Verdict { plan: text, problems, replay: serde_json::to_value(plan)? })?;
        }
        step.done();
    }
    Ok(())
}

fn spec(number: usize) -> Value {
    json!({
        "environment": "Development",
        "api": {"image": "rorun-api:1"},
        "database": {"embedded": {"image": format!("postgres:17.{number}")}},
    })
}

/// The state of a stack with one operator and one spec.
async fn learn(environment: &TestEnvironment) -> Result<Reference> {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let fleet = Fleet::open(environment).await?;
        let _operator = Candidate::start(&fleet, 'a').await?;
        fleet.apply(STACK, &spec(0)).await?;
        if let Some(problem) = fleet.settle(CONVERGED_WITHIN).await {
            bail!("without a fault: {problem}");
        }
        runs.push(fleet.leaves().await?);
    }
    Ok(Reference::learn(&runs))
}

async fn play(
    environment: &TestEnvironment,
    plan: Plan,
    operators: usize,
    reference: &Reference,
) -> Result<Vec<String>> {
    let fleet = Fleet::open(environment).await?;
    let mark = environment.server.mark()?;
    let first = Candidate::start(&fleet, 'a').await?;
    fleet.apply(STACK, &spec(0)).await?;
    if let Some(problem) = fleet.settle(CONVERGED_WITHIN).await {
        bail!("before the fault: {problem}");
    }
    let mut candidates = vec![first];
    for letter in ('b'..).take(operators - 1) {
        candidates.push(Candidate::start(&fleet, letter).await?);
    }
    for candidate in &candidates[1..] {
        until_standing_by(environment, candidate).await?;
    }
    let mut run = Run { fleet: &fleet, candidates, changes: 0, problems: Vec::new() };
    run.busy(Duration::from_secs(1)).await?;
    let begun = run.harm(plan).await?;
    run.until_followed(begun).await?;
    run.busy(RETRY_PERIOD * 2).await?;
    run.end(plan, reference).await?;
    let calls = environment.server.calls_since(mark)?;
    let written = writes(&calls, &fleet.namespace);
    run.problems.extend(overlaps(&written));
    // Else nothing was proved.
    let leaders: BTreeSet<_> = written.iter().map(|call| call.user.as_str()).collect();
    if matches!(plan, Plan::Kill | Plan::Freeze | Plan::Cut) && leaders.len() != 2 {
        run.problems.push(format!("O3 the writers were {leaders:?}, not two of {operators}"));
    }
    Ok(run.problems)
}

/// A plan under way.
struct Run<'a> {
    fleet: &'a Fleet<'a>,
    candidates: Vec<Candidate<'a>>,
    changes: usize,
    problems: Vec<String>,
}

impl Run<'_> {
    /// The user changes the stack all the while, and operators that end are started again.
    async fn busy(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.change().await?;
        }
        Ok(())
    }

    async fn change(&mut self) -> Result<()> {
        self.changes += 1;
        self.fleet.apply(STACK, &spec(self.changes)).await?;
        for candidate in &mut self.candidates {
            self.problems.extend(candidate.restart_if_ended()?);
        }
        tokio::time::sleep(CHANGE_EVERY).await;
        Ok(())
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.fleet.environment.client.clone(), &self.fleet.namespace)
    }

    /// Causes the fault; returns since when another operator has to follow.
    async fn harm(&mut self, plan: Plan) -> Result<Instant> {
        let begun = Instant::now();
        match plan {
            Plan::Kill => {
                self.candidates[0].kill()?;
            }
            Plan::Freeze => {
                self.candidates[0].record()?.pause()?;
                self.busy(OFFSIDE).await?;
                self.candidates[0].record()?.go_on()?;
            }
            Plan::Cut => {
                self.candidates[0].gate.set_open(false);
                self.busy(OFFSIDE).await?;
                self.candidates[0].gate.set_open(true);
            }
            Plan::Delete => {
                self.leases().delete(LEASE, &DeleteParams::default()).await?;
            }
            Plan::Taken(skew) => self.take(skew).await?,
            Plan::Held(skew) => {
                let held = Instant::now();
                while held.elapsed() < OFFSIDE {
                    self.take(skew).await?;
                    self.busy(RETRY_PERIOD).await?;
                }
                return Ok(Instant::now());
            }
        }
        Ok(begun)
    }

    /// Writes the Lease as a candidate of another name does.
    async fn take(&self, skew: i64) -> Result<()> {
        let leases = self.leases();
        loop {
            let mut lease = leases.get(LEASE).await?;
            let time = MicroTime(clock() + SignedDuration::from_secs(skew));
            let spec = lease.spec.get_or_insert_default();
            *spec = LeaseSpec {
                holder_identity: Some("somebody-else".to_owned()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                renew_time: Some(time.clone()),
                acquire_time: Some(time),
                ..spec.clone()
            };
            match leases.replace(LEASE, &PostParams::default(), &lease).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                done => return done.map(drop).context("failed to take the Lease"),
            }
        }
    }

    /// Waits until a later change of the user is carried out by the leader of then.
    async fn until_followed(&mut self, begun: Instant) -> Result<()> {
        let (server, before) = (self.fleet.api("StatefulSet")?, self.changes);
        loop {
            self.change().await?;
            let observed = server.get(&format!("{STACK}-database")).await?;
            let image = observed.data.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
            let change = image.and_then(|image| image.strip_prefix("postgres:17.")?.parse().ok());
            if change.is_some_and(|change: usize| change > before) {
                return Ok(());
            }
            if begun.elapsed() > FOLLOWED_WITHIN.max(OFFSIDE + RETRY_PERIOD) {
                self.problems.push(format!("O3 nobody leads {} s after", begun.elapsed().as_secs()));
                return Ok(());
            }
        }
    }

    /// The last change of the user, and its result.
    async fn end(&mut self, plan: Plan, reference: &Reference) -> Result<()> {
        if plan == Plan::Kill {
            self.candidates[0].run()?;
        }
        self.fleet.apply(STACK, &spec(0)).await?;
        self.problems.extend(self.fleet.settle(CONVERGED_WITHIN).await);
        let different = reference.differences_in_content(&self.fleet.leaves().await?).into_iter();
        self.problems.extend(different.map(|difference| format!("O1 {difference}")));
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a Lease is written as a candidate writes it")]
fn clock() -> Timestamp {
    Timestamp::now()
}
