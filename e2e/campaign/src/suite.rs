//! A suite: plans of one kind, and how they are played. Each is one file in `suites`, with one line in [`SUITES`].

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use futures::future::LocalBoxFuture;
use rorun_e2e::engine::Cache;
use serde_json::Value;

use super::play::CaseRunner;
use super::suites;

/// Plans of one kind.
#[derive(Debug)]
pub struct Suite {
    /// The name, by which the command line chooses it.
    pub name: &'static str,
    /// The promise that holds when all its plans pass.
    pub proves: &'static str,
    /// Whether a part of it is asked of every change of the sources.
    pub quick: bool,
    /// Plays the extent that the run asks for, and reports every plan as it ends.
    pub play: Play,
}

/// How a suite is played.
#[derive(Clone, Copy, Debug)]
pub enum Play {
    /// Workloads with faults. The suites that follow each other share an API server and the undisturbed runs of each workload.
    Cases(for<'a> fn(&'a SuiteRun<'a>, &'a CaseRunner) -> LocalBoxFuture<'a, Result<()>>),
    /// Anything else, in an environment of its own.
    Alone(for<'a> fn(&'a SuiteRun<'a>) -> LocalBoxFuture<'a, Result<()>>),
}

impl Suite {
    /// Whether it is played side by side with the one after it.
    pub fn is_played_beside(&self, next: &Suite) -> bool {
        SIDE_BY_SIDE.contains(&(self.name, next.name))
    }

    /// Plays the suite. `shared` is the runner of the suites of cases so far; another suite ends it.
    pub async fn play(&self, run: &SuiteRun<'_>, shared: &mut Option<CaseRunner>) -> Result<()> {
        match self.play {
            Play::Alone(play) => {
                drop(shared.take());
                play(run).await
            }
            Play::Cases(play) => {
                if shared.is_none() {
                    *shared = Some(CaseRunner::open(run.cache).await?);
                }
                let runner = shared.as_ref().context("no runner of cases")?;
                if let Extent::Only(plan) = &run.extent {
                    let case = serde_json::from_value(plan.clone()).context("this is no plan of this suite")?;
                    return runner.again(run, case).await;
                }
                play(run, runner).await
            }
        }
    }
}

/// All of them, in the order in which they are played.
pub const SUITES: &[Suite] = &[
    suites::writes::SUITE,
    suites::pairs::SUITE,
    suites::watches::SUITE,
    suites::drift::SUITE,
    suites::deletion::SUITE,
    suites::rights::SUITE,
    suites::poison::SUITE,
    suites::operations::SUITE,
    suites::releases::SUITE,
    suites::optional::SUITE,
    suites::rest::SUITE,
    suites::mutation::SUITE,
    suites::versions::SUITE,
    suites::server::SUITE,
    suites::leaders::SUITE,
    suites::soak::SUITE,
];

/// Suites that follow each other and are played side by side: most of the time of one of them is waited. Each has an environment of its
/// own.
const SIDE_BY_SIDE: &[(&str, &str)] = &[("deletion", "rights"), ("releases", "optional"), ("server", "leaders")];

/// How much of a suite is played.
#[derive(Clone, Debug, PartialEq)]
pub enum Extent {
    /// The sample that every change of the sources has to pass: at most a minute or two.
    Quick,
    /// Everything.
    Whole,
    /// One plan, as a failure left it.
    Only(Value),
}

/// The result of a plan.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The plan, in words.
    pub plan: String,
    /// The problems, each with the name of its oracle; none if the plan passed.
    pub problems: Vec<String>,
    /// The plan for [`Extent::Only`], which plays it again.
    pub replay: Value,
}

/// One run of a suite: how much to play, and the verdicts so far.
#[derive(Debug)]
pub struct SuiteRun<'a> {
    /// Where the servers come from.
    pub cache: &'a Cache,
    /// How much to play.
    pub extent: Extent,
    /// Where plans that fail are written.
    pub failed: PathBuf,
    suite: &'static str,
    first: bool,
    counts: Mutex<(usize, usize)>,
}

impl<'a> SuiteRun<'a> {
    /// A run without a verdict yet.
    pub fn new(cache: &'a Cache, suite: &'static Suite, extent: Extent, failed: PathBuf) -> SuiteRun<'a> {
        SuiteRun { cache, extent, failed, suite: suite.name, first: false, counts: Mutex::default() }
    }

    /// Ends the suite with an error once a plan has failed.
    #[must_use]
    pub fn stopping_at_first(mut self, first: bool) -> SuiteRun<'a> {
        self.first = first;
        self
    }

    /// Counts a verdict. Prints a bad one, and writes its plan to a file.
    pub fn report(&self, verdict: &Verdict) -> Result<()> {
        let bad = !verdict.problems.is_empty();
        {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.0 += 1;
            counts.1 += usize::from(bad);
        }
        if bad {
            println!("FAILED {}: {}\n    {}", self.suite, verdict.plan, verdict.problems.join("\n    "));
            std::fs::create_dir_all(&self.failed)?;
            let name: String =
                verdict.plan.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).take(120).collect();
            let file = serde_json::json!({"suite": self.suite, "plan": verdict.replay});
            std::fs::write(
                self.failed.join(format!("{}-{name}.json", self.suite)),
                serde_json::to_string_pretty(&file)?,
            )?;
            if self.first {
                bail!("a plan of {} failed, and no more are played", self.suite);
            }
        }
        Ok(())
    }

    /// How many plans were played, and how many of them failed.
    pub fn counts(&self) -> (usize, usize) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_of_cases_follow_each_other_and_share_the_undisturbed_runs() {
        let of_cases = |suite: &Suite| matches!(suite.play, Play::Cases(_));
        let first = SUITES.iter().position(of_cases).expect("a suite of cases");
        let together = SUITES[first..].iter().take_while(|suite| of_cases(suite)).count();
        assert!(together > 1);
        assert_eq!(SUITES.iter().filter(|suite| of_cases(suite)).count(), together);
    }

    #[test]
    fn suites_that_are_played_side_by_side_follow_each_other_in_both_forms() {
        for (one, other) in SIDE_BY_SIDE {
            for quick in [true, false] {
                let names: Vec<_> =
                    SUITES.iter().filter(|suite| suite.quick || !quick).map(|suite| suite.name).collect();
                let together = names.windows(2).any(|pair| pair == [*one, *other]);
                assert!(together, "{one} and {other} do not follow each other in {names:?}");
            }
            let alone = |suite: &&Suite| suite.name == *one || suite.name == *other;
            assert!(SUITES.iter().filter(alone).all(|suite| matches!(suite.play, Play::Alone(_))), "{one}, {other}");
        }
    }
}
