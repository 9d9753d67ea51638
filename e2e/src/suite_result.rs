//! How a suite of the fault campaign ended: the campaign prints it as a line, and `e2e verify` reads that line.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};

/// How a suite ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuiteResult {
    /// Its name.
    pub suite: String,
    /// How many plans were played.
    pub plans: usize,
    /// How many of them failed.
    pub failed: usize,
    /// How long the suite took, in whole seconds where it is read.
    pub took: Duration,
}

impl fmt::Display for SuiteResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SuiteResult { suite, plans, failed, took } = self;
        write!(formatter, "{suite}: {plans} plans, {failed} failed, {} s", took.as_secs())
    }
}

impl FromStr for SuiteResult {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<SuiteResult> {
        let parsed = line.split_once(": ").and_then(|(suite, counts)| {
            let words: Vec<&str> = counts.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            let [plans, "plans", failed, "failed", seconds, "s"] = words[..] else { return None };
            let took = Duration::from_secs(seconds.parse().ok()?);
            Some(SuiteResult {
                suite: suite.to_owned(),
                plans: plans.parse().ok()?,
                failed: failed.parse().ok()?,
                took,
            })
        });
        parsed.with_context(|| format!("{line:?} does not say how a suite ended"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read_as_it_is_printed_and_other_lines_are_none() {
        let result = SuiteResult { suite: "writes".to_owned(), plans: 61, failed: 2, took: Duration::from_secs(73) };
        assert_eq!(result.to_string(), "writes: 61 plans, 2 failed, 73 s");
        assert_eq!(result.to_string().parse::<SuiteResult>().expect("a result"), result);
        for other in ["> Whole: 60 plans, 58 writes (why)", "FAILED writes: a plan", "59 passed, 2 failed", ""] {
            other.parse::<SuiteResult>().expect_err("no result");
        }
    }
}
