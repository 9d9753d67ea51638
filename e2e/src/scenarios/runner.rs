//! Runs scenarios: those that can be side by side first, a few at a time, then the others one by one.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;

use super::Scenario;
use super::kit::{Stuck, TestCluster, TestContext, diagnose};
use super::lanes::{Decision, Prospect, Wish, decide};
use crate::engine::{Durations, progress};

/// More at once would measure the machine and not the operator: a stack is seven pods.
const AT_ONCE: usize = 3;

/// Seconds that a scenario takes which was never played here.
const USUAL_SECONDS: u32 = 60;

/// A scenario that was to be played.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// How a scenario ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// All that it proves holds.
    Passed,
    /// Something does not, with a diagnosis.
    Failed(String),
    /// It did not begin, since too little time was left.
    NotRun(String),
}

impl Outcome {
    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        if let End::Failed(failure) = &self.end { Some(failure) } else { None }
    }
}

/// Runs the scenarios, prints how each ended, and prints the summary line. Scenarios clean up after themselves also when
/// they fail; `keep` leaves the namespaces of those that failed for inspection. A scenario that would last beyond `until` does not
/// begin, unless it is of the core.
pub async fn run_all(
    test_cluster: &Arc<TestCluster>,
    scenarios: &[Scenario],
    keep: bool,
    until: Option<Instant>,
) -> Vec<Outcome> {
    let durations = Durations::of(test_cluster.cluster.cache());
    let (alone, mut together): (Vec<_>, Vec<_>) = scenarios.iter().copied().partition(|scenario| scenario.exclusive);
    in_order(&mut together, |scenario| durations.last(&scenario.duration_key()));
    let run = async |scenario: Scenario| {
        let takes = durations.estimate(&scenario.duration_key(), USUAL_SECONDS).time;
        match left(&scenario, takes, until) {
            Some(why) => Outcome { name: scenario.name, took: Duration::ZERO, end: End::NotRun(why) },
            None => run_one(test_cluster, scenario, keep).await,
        }
    };
    let mut outcomes: Vec<Outcome> =
        futures::stream::iter(together).map(&run).buffer_unordered(AT_ONCE).collect().await;
    for scenario in alone {
        outcomes.push(run(scenario).await);
    }
    outcomes
}

/// Why a scenario does not begin any more; none if it does.
fn left(scenario: &Scenario, takes: Duration, until: Option<Instant>) -> Option<String> {
    let until = until.filter(|_| !scenario.core)?;
    let wish = Wish::IfItFits(until.saturating_duration_since(Instant::now()));
    match decide(wish, &Prospect { takes, ..Prospect::default() }) {
        Decision::Play => None,
        Decision::Leave(why) => Some(why),
    }
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
    Outcome { name: scenario.name, took, end: failure.map_or(End::Passed, End::Failed) }
}

/// Those of the core, and then the longest first: a long one that began last would run alone. One that has no recorded duration
/// may be long.
fn in_order(scenarios: &mut [Scenario], took: impl Fn(&Scenario) -> Option<Duration>) {
    scenarios.sort_by_key(|scenario| (!scenario.core, Reverse(took(scenario).unwrap_or(Duration::MAX))));
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
    let count = |is: fn(&End) -> bool| outcomes.iter().filter(|outcome| is(&outcome.end)).count();
    let [passed, failed] = [count(|end| *end == End::Passed), count(|end| matches!(end, End::Failed(_)))];
    format!("{passed} passed, {failed} failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::matching;

    #[test]
    fn what_takes_longest_begins_first_and_what_is_not_known_before_but_after_the_core() {
        let mut chosen = matching(&["status", "development", "scaling", "rollout", "drift"].map(str::to_owned));
        let known = [("status", 60), ("development", 20), ("scaling", 150), ("drift", 30)];
        in_order(&mut chosen, |scenario| {
            known.iter().find(|(name, _)| *name == scenario.name).map(|(_, seconds)| Duration::from_secs(*seconds))
        });
        let names: Vec<_> = chosen.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, ["drift", "development", "rollout", "scaling", "status"]);
    }

    #[test]
    fn what_would_last_too_long_does_not_begin_and_the_core_always_does() {
        let [minute, hour] = [1, 60].map(Duration::from_mins);
        let soon = Some(Instant::now() + Duration::from_mins(10));
        let of = |name: &str| matching(&[name.to_owned()]).remove(0);
        for (name, takes, until, begins) in [
            ("scaling", minute, soon, true),
            ("scaling", hour, soon, false),
            ("scaling", hour, None, true),
            ("development", hour, soon, true),
        ] {
            assert_eq!(left(&of(name), takes, until).is_none(), begins, "{name}, {takes:?}");
        }
        let why = left(&of("scaling"), hour, soon).expect("too long");
        assert!(why.contains("takes about 60 min") && why.contains("are left"), "{why}");
    }
}
