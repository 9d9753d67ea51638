//! The results of the parts: the summary of each runner, repeated at the end of the run.

use std::cmp::Reverse;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::budget::minutes;

/// The result of a test runner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// `tests/examples.rs`, `src/lib.rs`, `e2e scenarios`.
    pub(super) runner: String,
    /// Its summary, as it printed it; empty until it did.
    pub(super) summary: String,
    pub(super) passed: usize,
    pub(super) failed: usize,
    /// It did not begin, as the summary says.
    pub(super) not_run: bool,
    /// What failed and how, a line each.
    pub(super) failures: Vec<String>,
    /// The test whose words are on the next line.
    pub(super) panicked: Option<String>,
}

/// How much of a failure stands in the summary, in characters.
const REASON: usize = 400;

/// The first line of a failure, cut.
pub(super) fn reason(failure: &str) -> String {
    failure.lines().next().unwrap_or_default().chars().take(REASON).collect()
}

/// All parts that were run.
#[derive(Debug, Default)]
pub(super) struct Report {
    parts: Vec<Ran>,
}

#[derive(Debug)]
struct Ran {
    name: &'static str,
    rows: Vec<Row>,
    outcome: Outcome,
    took: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Well,
    Failed(String),
    /// The user did not name it, and it would have taken too long.
    NotRun(String),
}

impl Report {
    /// Runs a part, and returns how long it took if all was well. After a failure the next part runs all the same.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Vec<Row>) -> Result<()>,
    ) -> Option<Duration> {
        let (started, mut rows) = (Instant::now(), Vec::new());
        let outcome = match work(&mut rows) {
            Ok(()) => Outcome::Well,
            Err(error) => {
                println!("{name} FAILED: {error:#}");
                Outcome::Failed(format!("{error:#}"))
            }
        };
        let took = started.elapsed();
        let well = (outcome == Outcome::Well).then_some(took);
        self.parts.push(Ran { name, rows, outcome, took });
        well
    }

    /// A part that is not run, and why.
    pub(super) fn leave(&mut self, name: &'static str, why: String) {
        println!("{name} is not run: {why}");
        self.parts.push(Ran { name, rows: Vec::new(), outcome: Outcome::NotRun(why), took: Duration::ZERO });
    }

    /// The parts that took longest, and how long.
    pub(super) fn longest(&self, count: usize) -> Vec<(String, Duration)> {
        let mut parts: Vec<_> = self.parts.iter().map(|part| (part.name.to_owned(), part.took)).collect();
        parts.sort_by_key(|(_, took)| Reverse(*took));
        parts.truncate(count);
        parts
    }

    fn names(&self, are: impl Fn(&Outcome) -> bool) -> Vec<&'static str> {
        self.parts.iter().filter(|part| are(&part.outcome)).map(|part| part.name).collect()
    }

    /// An error that names the parts that failed, if any did.
    pub(super) fn result(&self) -> Result<()> {
        let failed = self.names(|outcome| matches!(outcome, Outcome::Failed(_)));
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let (outcome, error) = match &part.outcome {
                Outcome::Well => ("ok", None),
                Outcome::Failed(error) => ("FAILED", Some(error)),
                Outcome::NotRun(why) => ("not run", Some(why)),
            };
            writeln!(formatter, "{:10} {outcome:8} {:>8}", part.name, minutes(part.took))?;
            for Row { runner, summary, .. } in &part.rows {
                let summary = if summary.is_empty() { "ended without a summary" } else { summary };
                writeln!(formatter, "    {runner:34} {summary}")?;
            }
            if let Some(error) = error {
                writeln!(formatter, "    {}", error.lines().next().unwrap_or_default())?;
            }
        }
        let rows = || self.parts.iter().flat_map(|part| &part.rows);
        // Last: whoever sees the end of a run alone sees them.
        for Row { runner, failures, .. } in rows() {
            for failure in failures {
                writeln!(formatter, "FAILED {runner}: {failure}")?;
            }
        }
        let (passed, failed) =
            (rows().map(|row| row.passed).sum::<usize>(), rows().map(|row| row.failed).sum::<usize>());
        let (well, not_run) = (
            self.names(|outcome| *outcome == Outcome::Well).len(),
            self.names(|outcome| matches!(outcome, Outcome::NotRun(_))),
        );
        let run = self.parts.len() - not_run.len();
        write!(formatter, "{well} of {run} parts ok; {passed} tests passed, {failed} failed")?;
        let scenarios = rows().filter(|row| row.not_run).map(|row| row.runner.as_str());
        let not_run: Vec<_> = not_run.into_iter().chain(scenarios).collect();
        if !not_run.is_empty() {
            write!(formatter, "; not run: {}", not_run.join(", "))?;
        }
        Ok(())
    }
}

/// Reads a line of `cargo test`: which program starts, or how it ended.
pub(super) fn read(line: &str, rows: &mut Vec<Row>) {
    let words = line.trim_start();
    if let Some(row) = rows.last_mut()
        && let Some(test) = row.panicked.take()
    {
        if let Some(known) = row.failures.iter_mut().find(|failure| **failure == test) {
            *known = format!("{test}: {}", reason(line));
        }
        return;
    }
    let program = words.strip_prefix("Running ").and_then(|rest| Some(rest.rsplit_once(" (")?.0));
    if let Some(program) = program.or_else(|| words.strip_prefix("Doc-tests ")) {
        rows.push(Row { runner: program.trim_start_matches("unittests ").to_owned(), ..Row::default() });
    } else if let (Some(test), Some(row)) = (failed_test(line), rows.last_mut()) {
        row.failures.push(test.to_owned());
    } else if let (Some(test), Some(row)) = (panicked_test(words), rows.last_mut()) {
        // What panics as it should, or in a thread of a test, is told of nobody.
        row.panicked = row.failures.iter().find(|failed| *failed == test).cloned();
    } else if let (Some(summary), Some(row)) = (line.strip_prefix("test result: "), rows.last_mut()) {
        summary.clone_into(&mut row.summary);
        (row.passed, row.failed) = (count(summary, "passed"), count(summary, "failed"));
    }
}

/// The test of a line that says that it failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// The test of a line after which its words follow.
fn panicked_test(words: &str) -> Option<&str> {
    let (test, rest) = words.strip_prefix("thread '")?.split_once('\'')?;
    rest.contains("panicked at ").then_some(test)
}

/// The number before a word.
fn count(summary: &str, of: &str) -> usize {
    let words: Vec<_> = summary.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    let number = words.windows(2).find(|pair| pair[1] == of).map(|pair| pair[0]);
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_each_runner_are_kept() {
        let mut rows = Vec::new();
        let said = "   Compiling something v1.0.0\n     Running unittests src/lib.rs (target/debug/deps/lib-0)\n\nrunning 2 tests\n\
                    test a::b ... ok\ntest a::c ... FAILED\n\nthread 'a::c' (17) panicked at src/a.rs:3:5:\nno result: gone\n\
                    stack backtrace:\nthread 'a::d' (18) panicked at src/a.rs:9:5:\nof a test that expects it\ntest result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s\n     \
                    Running tests/test_server.rs (target/debug/deps/test_server-1)\n";
        said.lines().for_each(|line| read(line, &mut rows));
        let [lib, server] = &rows[..] else { unreachable!("two runners: {rows:?}") };
        assert_eq!((lib.runner.as_str(), lib.passed, lib.failed), ("src/lib.rs", 12, 1));
        assert!(lib.summary.starts_with("FAILED. 12 passed"));
        assert_eq!(lib.failures, ["a::c: no result: gone"]);
        assert_eq!(server, &Row { runner: "tests/test_server.rs".to_owned(), ..Row::default() });
    }

    #[test]
    fn a_part_that_fails_is_named_and_the_next_is_run() {
        let mut report = Report::default();
        report.add("one", |rows| {
            rows.push(Row { runner: "x".to_owned(), summary: "ok. 3 passed".to_owned(), passed: 3, ..Row::default() });
            Ok(())
        });
        assert!(report.result().is_ok());
        report.add("two", |rows| {
            let failures = vec!["drift: it stays".to_owned()];
            rows.push(Row { runner: "y".to_owned(), failures, ..Row::default() });
            bail!("it broke")
        });
        report.add("three", |_| Ok(()));
        assert_eq!(report.result().expect_err("two failed").to_string(), "failed: two");
        let text = report.to_string();
        assert!(
            text.contains("it broke")
                && text.ends_with("\nFAILED y: drift: it stays\n2 of 3 parts ok; 3 tests passed, 0 failed"),
            "{text}"
        );
    }
    #[test]
    fn a_part_that_is_not_run_is_named_and_is_no_failure() {
        let mut report = Report::default();
        report.add("one", |_| Ok(()));
        report.leave("upgrade", "too little time is left".to_owned());
        report.result().expect("nothing failed");
        let text = report.to_string();
        assert!(text.contains("upgrade    not run") && text.contains("too little time is left"), "{text}");
        assert!(text.ends_with("1 of 1 parts ok; 0 tests passed, 0 failed; not run: upgrade"), "{text}");
    }

    #[test]
    fn what_took_longest_stands_first() {
        let mut report = Report::default();
        for (name, seconds) in [("fmt", 1), ("scenarios", 600), ("campaign", 300)] {
            let took = Duration::from_secs(seconds);
            report.parts.push(Ran { name, rows: Vec::new(), outcome: Outcome::Well, took });
        }
        let longest = report.longest(2);
        assert_eq!(longest[0], ("scenarios".to_owned(), Duration::from_mins(10)));
        assert_eq!(longest[1].0, "campaign");
        assert!(report.to_string().contains("10.0 min"), "{report}");
    }
}
