//! Plays plans beside an API server, and judges them by their history and by their end.

use anyhow::Result;
use rorun_e2e::engine::Cache;
use rorun_e2e::fake_controllers::{FakeControllers, Held};
use tokio::task::block_in_place;

use super::script::Script;
use super::{Case, Disturbance, Step, judge};
use crate::bucket::Bucket;
use crate::canary;
use crate::environment::TestEnvironment;
use crate::history::{Allowed, History};
use crate::live_data;
use crate::play::outside;
use crate::suite::Verdict;

/// The API server, and what is beside it.
pub(super) struct Runner {
    /// The API server.
    pub(super) environment: TestEnvironment,
    /// The bucket of all stacks.
    pub(super) bucket: Bucket,
    /// The workloads that do not roll out.
    pub(super) held: Held,
    _controllers: FakeControllers,
}

impl Runner {
    /// Starts all of it.
    pub(super) async fn open(cache: &Cache) -> Result<Runner> {
        let (environment, held) = (TestEnvironment::open(cache).await?, Held::default());
        let controllers = FakeControllers::start_but(environment.client.clone(), held.clone());
        Ok(Runner { environment, bucket: Bucket::start().await?, held, _controllers: controllers })
    }

    /// Plays a plan, and judges it.
    pub(super) async fn verdict(&self, case: Case) -> Result<Verdict> {
        let environment = &self.environment;
        let mark = block_in_place(|| environment.server.mark())?;
        let mut script = Script::open(self, case).await?;
        let played = script.play(&self.bucket.endpoint).await;
        let mut problems = std::mem::take(&mut script.problems);
        problems.extend(played.err().map(|error| format!("O3 {error:#}")));
        let namespace = script.test.namespace.clone();
        let history = History::of(&namespace, &block_in_place(|| environment.server.events_since(mark))?)?;
        problems.extend(live_data::problems(history.writes()));
        problems.extend(judge::problems(history.writes(), &script.approvals, case.is_production()));
        let stack = script.stack.get().await?;
        // Beside a migration that was withdrawn the last release serves, and no dump begins before that has ended.
        let goes_on = case.disturbance == Disturbance::Back && matches!(case.step, Step::BackingUp | Step::Migrating);
        let generation = stack.and_then(|stack| stack.metadata.generation).filter(|_| !goes_on);
        problems.extend(history.problems(Allowed { data_go: false, generation }));
        problems
            .extend(canary::problems(&environment.client, &namespace, &environment.log(&namespace), &history).await?);
        problems.extend(script.test.proxy.problems());
        problems.extend(outside(&namespace, &script.test.proxy.writes()));
        problems.extend(self.bucket.changes().into_iter().map(|change| format!("O4 {change} of a bucket of the user")));
        Ok(Verdict { plan: case.to_string(), problems, replay: serde_json::to_value(case)? })
    }
}
