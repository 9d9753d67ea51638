//! Runs scenarios: those that can be side by side first, a few at a time, then the others one by one.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;

use super::Scenario;
use super::kit::{Stuck, TestCluster, TestContext, diagnose};
use crate::engine::{Durations, progress};

/// More at once would measure the machine and not the operator: a stack is seven pods.
const AT_ONCE: usize = 3;

/// How a scenario ended.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Why it failed; none if it passed.
    pub failure: Option<String>,
}

/// Runs the scenarios, prints how each ended, and prints the summary line. Scenarios clean up after themselves also when
/// they fail; `keep` leaves the namespaces of those that failed for inspection.
pub async fn run_all(test_cluster: &Arc<TestCluster>, scenarios: &[Scenario], keep: bool) -> Vec<Outcome> {
    let durations = Durations::of(test_cluster.cluster.cache());
    let (alone, mut together): (Vec<_>, Vec<_>) = scenarios.iter().copied().partition(|scenario| scenario.exclusive);
    longest_first(&mut together, |scenario| durations.last(&scenario.duration_key()));
    let mut outcomes: Vec<Outcome> = futures::stream::iter(together)
        .map(|scenario| run_one(test_cluster, scenario, keep))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for scenario in alone {
        outcomes.push(run_one(test_cluster, scenario, keep).await);
    }
    outcomes
}

async fn run_one(test_cluster: &Arc<TestCluster>, scenario: Scenario, keep: bool) -> Outcome {
    progress::note(&format!("scenario {}: {}", scenario.name, scenario.proves));
    let started = Instant::now();
    let failure = play(test_cluster, scenario, keep).await.err().map(|error| format!("{error:#}"));
    let took = started.elapsed();
    let seconds = took.as_secs_f64();
    match &failure {
        None => println!("scenario {} ... ok ({seconds:.1} s)", scenario.name),
        Some(failure) => println!("scenario {} ... FAILED ({seconds:.1} s)\n{failure}", scenario.name),
    }
    if failure.is_none() {
        // It only decides in which order they are played.
        let _ = Durations::of(test_cluster.cluster.cache()).record(&scenario.duration_key(), None, took);
    }
    Outcome { name: scenario.name, took, failure }
}

/// The longest first: a long one that began last would run alone. One that has no recorded duration may be long.
fn longest_first(scenarios: &mut [Scenario], took: impl Fn(&Scenario) -> Option<Duration>) {
    scenarios.sort_by_key(|scenario| Reverse(took(scenario).unwrap_or(Duration::MAX)));
}

async fn play(test_cluster: &Arc<TestCluster>, scenario: Scenario, keep: bool) -> Result<()> {
    let test = TestContext::open(Arc::clone(test_cluster), scenario.name).await?;
    let mut result = (scenario.run)(&test).await;
    if let Err(error) = result {
        // A wait that gave up has a diagnosis already, of the moment of the failure.
        let reported = error.downcast_ref::<Stuck>().is_some();
        let diagnosis = if reported {
            String::new()
        } else {
            format!("\n{}", Box::pin(diagnose(test_cluster, &test.namespace)).await)
        };
        result = Err(anyhow::anyhow!("{error:#}{diagnosis}"));
    }
    if result.is_err() && keep {
        progress::note(&format!("kept for you: {}", test.namespaces().join(", ")));
        return result;
    }
    result.and(test.close().await)
}

/// The last line of the runner.
pub fn summary(outcomes: &[Outcome]) -> String {
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    format!("{} passed, {failed} failed", outcomes.len() - failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::matching;

    #[test]
    fn what_takes_longest_begins_first_and_what_is_not_known_before() {
        let mut chosen = matching(&["drift", "development", "scaling", "rollout"].map(str::to_owned));
        let known = [("drift", 60), ("development", 20), ("scaling", 150)];
        longest_first(&mut chosen, |scenario| {
            known.iter().find(|(name, _)| *name == scenario.name).map(|(_, seconds)| Duration::from_secs(*seconds))
        });
        let names: Vec<_> = chosen.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, ["rollout", "scaling", "drift", "development"]);
    }
}
