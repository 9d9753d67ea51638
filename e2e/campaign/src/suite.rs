//! A suite: plans of one kind, and how they are played. Each is one file in `suites`, with one line in [`SUITES`].

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use futures::future::LocalBoxFuture;
use rorun_e2e::engine::Cache;
use serde_json::Value;

use super::suites;

/// Plans of one kind.
#[derive(Debug)]
pub struct Suite {
    /// What it is asked for by.
    pub name: &'static str,
    /// What holds when all its plans pass.
    pub proves: &'static str,
    /// Whether a part of it is asked of every change of the sources.
    pub quick: bool,
    /// Plays what the ground asks for, and tells it of every plan as it ends.
    pub play: for<'a> fn(&'a SuiteRun<'a>) -> LocalBoxFuture<'a, Result<()>>,
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
    suites::mutation::SUITE,
    suites::versions::SUITE,
    suites::server::SUITE,
    suites::leaders::SUITE,
    suites::soak::SUITE,
];

/// How much of a suite is played.
#[derive(Clone, Debug, PartialEq)]
pub enum Extent {
    /// What is asked of every change of the sources: at most a minute or two.
    Quick,
    /// Everything.
    Whole,
    /// One plan, as a failure left it.
    Only(Value),
}

/// What came of a plan.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The plan, in words.
    pub plan: String,
    /// What was wrong, each with the name of the oracle; nothing if all was well.
    pub problems: Vec<String>,
    /// What [`Extent::Only`] needs to play it again.
    pub replay: Value,
}

/// What a suite is given, and where it tells its verdicts.
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
    /// The ground of a suite.
    pub fn new(cache: &'a Cache, suite: &'static Suite, extent: Extent, failed: PathBuf) -> SuiteRun<'a> {
        SuiteRun { cache, extent, failed, suite: suite.name, first: false, counts: Mutex::default() }
    }

    /// Ends the suite with an error once a plan has failed.
    #[must_use]
    pub fn stopping_at_first(mut self, first: bool) -> SuiteRun<'a> {
        self.first = first;
        self
    }

    /// Takes a verdict: one that is bad is printed, and its plan is written to a file.
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
