//! `e2e verify`, as `cargo verify`: everything that is proved about the project, or parts of it, and what each runner
//! said at its end.

mod parts;
mod report;

use std::thread;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Args;

use self::parts::{PARTS, Part, Work};
use self::report::{Report, Row};
use super::scenarios::{Session, joined, play, set_up};
use crate::engine::progress::Step;
use crate::engine::{Cache, bed};
use crate::scenarios::kit::{build_binaries, cargo, project};
use crate::scenarios::{SCENARIOS, Scenario, summary};

/// Options of `e2e verify`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Parts to run, or `scenarios:NAME`; everything if there is none
    parts: Vec<String>,
    /// Say which parts there are, and run none
    #[arg(long)]
    list: bool,
    /// Leave the namespaces of scenarios that fail, for looking at them; the cluster must run already
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    let chosen = choose(&options.parts)?;
    if options.list {
        for (part, scenarios) in chosen {
            println!("{:12}{}", part.name, part.proves);
            for scenario in scenarios {
                println!("  {}:{:14}{}", part.name, scenario.name, scenario.proves);
            }
        }
        return Ok(());
    }
    let started = Instant::now();
    let mut report = Report::default();
    for (part, scenarios) in chosen {
        println!("\n== {}: {}", part.name, part.proves);
        report.add(part.name, |rows| match part.work {
            Work::Check(arguments) => check(arguments),
            Work::Tests(arguments) => tests(cache, arguments, rows),
            Work::Campaign => campaign(cache, rows),
            Work::Scenarios => on_cluster(cache, &scenarios, options.keep, rows),
        });
    }
    println!("\n{report}, in {} s", started.elapsed().as_secs());
    report.result()
}

/// The parts that were asked for, in the order of the table, each with the scenarios that it is to run.
fn choose(asked: &[String]) -> Result<Vec<(&'static Part, Vec<Scenario>)>> {
    let known = |name: &str| match name.split_once(':') {
        Some((part, scenario)) => {
            PARTS.iter().any(|known| known.name == part && matches!(known.work, Work::Scenarios))
                && SCENARIOS.iter().any(|known| known.name == scenario)
        }
        None => PARTS.iter().any(|part| part.name == name),
    };
    if let Some(unknown) = asked.iter().find(|name| !known(name)) {
        let parts: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        let scenarios: Vec<_> = SCENARIOS.iter().map(|scenario| format!("scenarios:{}", scenario.name)).collect();
        bail!("there is no part {unknown}; there are {}, {}", parts.join(", "), scenarios.join(", "));
    }
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let with_scenarios = |part: &'static Part| {
        let all = is_asked(part.name);
        let scenarios: Vec<_> = match part.work {
            Work::Scenarios => SCENARIOS
                .iter()
                .filter(|scenario| all || is_asked(&format!("{}:{}", part.name, scenario.name)))
                .copied()
                .collect(),
            _ => Vec::new(),
        };
        (all || !scenarios.is_empty()).then_some((part, scenarios))
    };
    Ok(PARTS.iter().filter_map(with_scenarios).collect())
}

/// A command of cargo's that is silent when all is well.
fn check(arguments: &[&str]) -> Result<()> {
    let step = Step::start(&format!("cargo {}", arguments.join(" ")), "it says what is wrong, if anything is");
    if !cargo(arguments).folder(&project()).followed(|line| println!("{line}"))? {
        bail!("cargo {} found something", arguments[0]);
    }
    step.done();
    Ok(())
}

/// Test programs, by `cargo test`: all of them, also when one fails.
fn tests(cache: &Cache, arguments: &[&str], rows: &mut Vec<Row>) -> Result<()> {
    let step = Step::start(&format!("cargo test {}", arguments.join(" ")), "built first where something changed");
    // Of the workspace, whichever the tests are: so the same features are asked for each time, and crates are built once.
    let run = cargo(["test", "--workspace", "--no-fail-fast", "--color=never"]).args(arguments);
    let run = run.folder(&project());
    let well = run.followed(|line| {
        println!("{line}");
        report::read(line, rows);
    });
    // A test program that was ended by force leaves its servers to the next one, and there may be none.
    bed::sweep(cache)?;
    if !well? {
        bail!("cargo test failed");
    }
    if let Some(silent) = rows.iter().find(|row| row.passed == 0 || row.failed > 0) {
        bail!("{} ran no test: {}", silent.runner, silent.summary);
    }
    step.done();
    Ok(())
}

/// The faults that are asked of every change.
fn campaign(cache: &Cache, rows: &mut Vec<Row>) -> Result<()> {
    build_binaries()?;
    let mut all_failed = 0;
    for (suite, (played, failed)) in super::campaign::quick(cache)? {
        let (passed, runner) = (played - failed, format!("e2e campaign --quick {suite}"));
        rows.push(Row { runner, summary: format!("{passed} passed, {failed} failed"), passed, failed });
        ensure!(played > 0, "the suite {suite} played no plan");
        all_failed += failed;
    }
    ensure!(all_failed == 0, "{all_failed} plans failed");
    Ok(())
}

/// The scenarios, with the operator and its images as the sources make them.
fn on_cluster(cache: &Cache, scenarios: &[Scenario], keep: bool, rows: &mut Vec<Row>) -> Result<()> {
    let cluster = thread::scope(|scope| {
        let building = scope.spawn(build_binaries);
        let cluster = Session::open(cache, super::cluster::USUAL);
        joined(building)?;
        cluster
    })?;
    set_up(&cluster)?;
    let outcomes = play(&cluster, scenarios, keep)?;
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    rows.push(Row {
        runner: "e2e scenarios".to_owned(),
        summary: summary(&outcomes),
        passed: outcomes.len() - failed,
        failed,
    });
    super::scenarios::failures(&outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &[&str]) -> Vec<(&'static str, usize)> {
        let asked: Vec<_> = asked.iter().map(|&name| name.to_owned()).collect();
        let chosen = choose(&asked).expect("known parts");
        chosen.into_iter().map(|(part, scenarios)| (part.name, scenarios.len())).collect()
    }

    #[test]
    fn parts_are_chosen_by_name_and_run_in_their_order() {
        assert_eq!(names(&["unit", "fmt"]), [("fmt", 0), ("unit", 0)]);
        assert_eq!(names(&["scenarios:drift", "scenarios:helm"]), [("scenarios", 2)]);
        assert_eq!(names(&["scenarios"]), [("scenarios", SCENARIOS.len())]);
        assert_eq!(names(&[]).len(), PARTS.len());
    }

    #[test]
    fn what_is_not_a_part_is_answered_with_what_there_is() {
        for wrong in ["units", "scenarios:drif", "unit:drift", ""] {
            let error = choose(&[wrong.to_owned()]).expect_err("no such part").to_string();
            assert!(error.contains("apiserver") && error.contains("scenarios:drift"), "{error}");
        }
    }
}
