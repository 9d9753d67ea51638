//! What came out of each part: the runners' own last words, so that nobody has to look for them above.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What a test runner said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// `tests/examples.rs`, `src/lib.rs`, `e2e scenarios`.
    pub(super) runner: String,
    /// Its summary, as it printed it; empty until it did.
    pub(super) summary: String,
    pub(super) passed: usize,
    pub(super) failed: usize,
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
    error: Option<String>,
    took: Duration,
}

impl Report {
    /// Runs a part. One that fails does not keep the next from being run.
    pub(super) fn add(&mut self, name: &'static str, work: impl FnOnce(&mut Vec<Row>) -> Result<()>) {
        let (started, mut rows) = (Instant::now(), Vec::new());
        let error = work(&mut rows).err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            println!("{name} FAILED: {error}");
        }
        self.parts.push(Ran { name, rows, error, took: started.elapsed() });
    }

    /// An error that names the parts that failed, if any did.
    pub(super) fn result(&self) -> Result<()> {
        let failed: Vec<_> = self.parts.iter().filter(|part| part.error.is_some()).map(|part| part.name).collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let outcome = if part.error.is_some() { "FAILED" } else { "ok" };
            writeln!(formatter, "{:10} {outcome:7} {:7.1} s", part.name, part.took.as_secs_f64())?;
            for Row { runner, summary, .. } in &part.rows {
                let summary = if summary.is_empty() { "ended without a summary" } else { summary };
                writeln!(formatter, "    {runner:34} {summary}")?;
            }
            if let Some(error) = &part.error {
                writeln!(formatter, "    {}", error.lines().next().unwrap_or_default())?;
            }
        }
        let rows = || self.parts.iter().flat_map(|part| &part.rows);
        let (passed, failed) =
            (rows().map(|row| row.passed).sum::<usize>(), rows().map(|row| row.failed).sum::<usize>());
        let well = self.parts.iter().filter(|part| part.error.is_none()).count();
        write!(formatter, "{well} of {} parts ok; {passed} tests passed, {failed} failed", self.parts.len())
    }
}

/// Reads a line of `cargo test`: which program starts, or how it ended.
pub(super) fn read(line: &str, rows: &mut Vec<Row>) {
    let words = line.trim_start();
    let program = words.strip_prefix("Running ").and_then(|rest| Some(rest.rsplit_once(" (")?.0));
    if let Some(program) = program.or_else(|| words.strip_prefix("Doc-tests ")) {
        rows.push(Row { runner: program.trim_start_matches("unittests ").to_owned(), ..Row::default() });
    } else if let (Some(summary), Some(row)) = (line.strip_prefix("test result: "), rows.last_mut()) {
        summary.clone_into(&mut row.summary);
        (row.passed, row.failed) = (count(summary, "passed"), count(summary, "failed"));
    }
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
                    test result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s\n     \
                    Running tests/bed.rs (target/debug/deps/bed-1)\n";
        said.lines().for_each(|line| read(line, &mut rows));
        let [lib, bed] = &rows[..] else { unreachable!("two runners: {rows:?}") };
        assert_eq!((lib.runner.as_str(), lib.passed, lib.failed), ("src/lib.rs", 12, 1));
        assert!(lib.summary.starts_with("FAILED. 12 passed"));
        assert_eq!(bed, &Row { runner: "tests/bed.rs".to_owned(), ..Row::default() });
    }

    #[test]
    fn a_part_that_fails_is_named_and_the_next_is_run() {
        let mut report = Report::default();
        report.add("one", |rows| {
            rows.push(Row { runner: "x".to_owned(), summary: "ok. 3 passed".to_owned(), passed: 3, failed: 0 });
            Ok(())
        });
        assert!(report.result().is_ok());
        report.add("two", |_| bail!("it broke"));
        report.add("three", |_| Ok(()));
        assert_eq!(report.result().expect_err("two failed").to_string(), "failed: two");
        let text = report.to_string();
        assert!(text.contains("it broke") && text.ends_with("2 of 3 parts ok; 3 tests passed, 0 failed"), "{text}");
    }
}
