//! Plays pairs beside an API server, and judges them: by how each goes when nothing goes wrong, and by its history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use rorun_e2e::engine::Cache;
use rorun_e2e::fake_controllers::FakeControllers;
use tokio::task::block_in_place;

use super::asked::REQUESTS;
use super::script::{Operators, Script};
use super::{Case, Choice, plans};
use crate::bucket::Bucket;
use crate::canary;
use crate::candidate::{overlaps, writes};
use crate::environment::TestEnvironment;
use crate::history::{Allowed, History};
use crate::live_data;
use crate::plan::{Call, always, numbered};
use crate::play::{Ran, outside};
use crate::snapshot::{Leaves, Reference, take};
use crate::suite::{SuiteRun, Verdict};

const CLEAN_RUNS: usize = 2;
/// How often a plan is played whose request does not come.
const TRIES: usize = 2;

/// The API server, and what is beside it.
pub(super) struct Runner {
    /// The API server.
    pub(super) environment: TestEnvironment,
    /// The bucket of all stacks.
    pub(super) bucket: Bucket,
    _controllers: FakeControllers,
}

/// How a pair goes when nothing goes wrong.
struct Learnt {
    reference: Reference,
    writes: Vec<(Call, usize)>,
    made: BTreeMap<String, usize>,
}

impl Runner {
    /// Starts all of it.
    pub(super) async fn open(cache: &Cache) -> Result<Runner> {
        let environment = TestEnvironment::open(cache).await?;
        for kind in REQUESTS {
            environment.define_request(kind).await?;
        }
        let controllers = FakeControllers::start(environment.client.clone(), Duration::ZERO);
        Ok(Runner { environment, bucket: Bucket::start().await?, _controllers: controllers })
    }

    /// Plays what is chosen of a pair. One that fails without a fault is reported so, and nothing else is played of it.
    pub(super) async fn play_pair(&self, run: &SuiteRun<'_>, choice: Choice) -> Result<()> {
        let (first, second) = choice.pair();
        let undisturbed = Case::undisturbed(first, second);
        let mut runs = Vec::new();
        for _ in 0..CLEAN_RUNS {
            // One after the other: times of the same second would be taken for what never differs.
            runs.push(self.play(&undisturbed).await?);
        }
        if let Some(bad) = runs.iter().find(|ran| !ran.problems.is_empty()) {
            return run.report(&verdict(&undisturbed, bad.problems.clone())?);
        }
        let learnt = Learnt::of(runs);
        let cases = match choice {
            Choice::Case(case) => vec![case],
            Choice::One(sample) => vec![sample.case(&learnt.writes).context("no write of that resource")?],
            Choice::All(pair) => plans::all(pair, &learnt.writes),
        };
        for case in cases {
            run.report(&self.judge(&learnt, &case).await?)?;
        }
        Ok(())
    }

    async fn judge(&self, learnt: &Learnt, case: &Case) -> Result<Verdict> {
        let mut ran = self.play(case).await?;
        // Even a write that came in each run may be one status that this time was not worth telling.
        for _ in 1..TRIES {
            if !ran.undisturbed || !ran.problems.is_empty() {
                break;
            }
            ran = self.play(case).await?;
        }
        let mut problems = ran.problems;
        if ran.undisturbed {
            problems.push("the request that the plan names never came".to_owned());
        }
        // A pair that broke off is as none that went well.
        if problems.is_empty() {
            let different = learnt.reference.differences_in_content(&ran.leaves).into_iter();
            problems.extend(different.map(|difference| format!("O1 {difference}")));
            for what in ran.made.keys().chain(learnt.made.keys()).collect::<BTreeSet<_>>() {
                let count = |made: &BTreeMap<String, usize>| made.get(what).copied().unwrap_or_default();
                let (made, wanted) = (count(&ran.made), count(&learnt.made));
                problems.extend((made != wanted).then(|| format!("O2 {what} {made} times, not {wanted}")));
            }
        }
        verdict(case, problems)
    }

    /// Plays a pair once.
    async fn play(&self, case: &Case) -> Result<Ran> {
        let environment = &self.environment;
        let mark = block_in_place(|| environment.server.mark())?;
        let mut script = Script::open(self, case).await?;
        let played = script.play(&self.bucket.endpoint).await;
        let mut problems = std::mem::take(&mut script.problems);
        problems.extend(played.err().map(|error| format!("O3 {error:#}")));
        let namespace = script.namespace.clone();
        let log = block_in_place(|| environment.server.events_since(mark))?;
        let history = History::of(&namespace, &log)?;
        problems.extend(live_data::problems(history.writes()));
        // A restore changes children though the spec stays, so no status promises them as they are in the end.
        problems.extend(history.problems(Allowed { data_go: false, generation: None }));
        problems.extend(canary::problems(&environment.client, &namespace, &script.operators.log(), &history).await?);
        problems.extend(self.bucket.changes().into_iter().map(|change| format!("O4 {change} of a bucket of the user")));
        let leaves = self.end_of(&script).await?;
        let made = history.made().into_iter().filter(|(what, _)| is_counted(what)).collect();
        let mut ran = Ran { leaves, writes: Vec::new(), made, undisturbed: false, problems };
        match &script.operators {
            Operators::One(test) => {
                ran.problems.extend(test.proxy.problems());
                ran.writes = test.proxy.writes();
                ran.problems.extend(outside(&namespace, &ran.writes));
                ran.writes = ran.writes.split_off(script.begun);
                ran.undisturbed = !case.plans.is_empty() && !test.proxy.has_fired() && test.proxy.fired() == 0;
            }
            Operators::Two(..) => {
                let calls = block_in_place(|| environment.server.calls_since(mark))?;
                let written = writes(&calls, &namespace);
                ran.problems.extend(overlaps(&written));
                // Else nothing was proved.
                let leaders: BTreeSet<_> = written.iter().map(|call| call.user.as_str()).collect();
                ran.problems.extend((leaders.len() != 2).then(|| format!("O3 the writers were {leaders:?}, not two")));
            }
        }
        Ok(ran)
    }

    /// What is compared of the end. Of a stack that is gone the operator did not go on with what it no longer owns.
    async fn end_of(&self, script: &Script<'_>) -> Result<Leaves> {
        let mut leaves = take(&self.environment.client, &script.namespace).await?;
        if script.stack.get().await?.is_none() {
            leaves.retain(|path, _| path.starts_with("PersistentVolumeClaim/") || path.contains("-credentials/"));
        }
        script.stack.requests_told(&mut leaves).await?;
        // When and how often something was changed is no part of it; the fake controllers number revisions.
        let ends = ["At", "Seconds", "Time", "Timestamp", "Revision"];
        leaves.retain(|path, _| !ends.iter().any(|end| path.ends_with(end)));
        Ok(leaves)
    }
}

/// What no operation makes again, whichever moment of another one it meets: Jobs, and data.
fn is_counted(what: &str) -> bool {
    what.starts_with("made jobs/") || what.contains(" persistentvolumeclaims/") || what.ends_with("-credentials")
}

impl Learnt {
    fn of(mut runs: Vec<Ran>) -> Learnt {
        let leaves: Vec<Leaves> = runs.iter_mut().map(|ran| std::mem::take(&mut ran.leaves)).collect();
        let made = runs.first_mut().map(|ran| std::mem::take(&mut ran.made)).unwrap_or_default();
        let writes = always(runs.into_iter().map(|ran| numbered(ran.writes)));
        Learnt { reference: Reference::learn(&leaves), writes, made }
    }
}

fn verdict(case: &Case, problems: Vec<String>) -> Result<Verdict> {
    Ok(Verdict { plan: case.to_string(), problems, replay: serde_json::to_value(case)? })
}
