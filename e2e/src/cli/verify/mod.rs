//! `e2e verify`, as `cargo verify`: everything that is proved about the project, or parts of it, and what each runner
//! said at its end.

mod budget;
mod parts;
mod report;
mod shared;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;

use self::budget::{Begun, Budget, minutes, to_be_made};
use self::parts::{PARTS, Part, When, Work, reserved};
use self::report::{Report, Row};
use self::shared::{Shared, serves};
use super::scenarios::play;
use crate::engine::process::Run;
use crate::engine::progress::Step;
use crate::engine::{Cache, Durations, test_server};
use crate::scenarios::kit::{cargo, project};
use crate::scenarios::{Decision, End, LANES, Lane, SCENARIOS, Scenario, Wish, decide};
use crate::suite_result::SuiteResult;

/// What asks for all that there is: every part, every lane, and the suites whole.
const ALL: &str = "all";

/// Options of `e2e verify`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Parts to run, or `scenarios:NAME`; what is asked of every change if there is none, and `all` for everything, in hours
    parts: Vec<String>,
    /// Say which parts there are, and run none
    #[arg(long)]
    list: bool,
    /// Leave the namespaces of scenarios that fail, for inspection; the cluster must run already
    #[arg(long)]
    keep: bool,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// What is asked of every change: it has a budget.
    Usual,
    /// Everything: what is not run is a failure.
    All,
    /// Some parts.
    Named,
}

/// What there is to do: the parts, each with the scenarios that it is to run, and the lanes.
#[derive(Debug)]
struct Chosen {
    asked: Asked,
    parts: Vec<(&'static Part, Vec<Scenario>)>,
    lanes: Vec<&'static Lane>,
}

pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    let chosen = choose(&options.parts)?;
    if options.list {
        list(&chosen);
        return Ok(());
    }
    let (begun, mut report) = (Begun::now(cache)?, Report::default());
    let mut shared = Shared::new(cache);
    for (index, (part, scenarios)) in chosen.parts.iter().enumerate() {
        println!("\n== {}: {}", part.name, part.proves);
        let usual = chosen.asked == Asked::Usual;
        if usual && part.run == When::IfItFits {
            let after = reserved(chosen.parts[index + 1..].iter().map(|(part, _)| *part)) + to_be_made(cache)?;
            let left = begun.budget(cache)?.left(begun.elapsed()).saturating_sub(after);
            if let Decision::Leave(why) = decide(Wish::IfItFits(left), &part.prospect(&Durations::of(cache))) {
                report.leave(part.name, format!("{why}; `cargo verify -- {}` runs it", part.name));
                continue;
            }
        }
        let until = usual.then_some(begun.until(&begun.budget(cache)?));
        let took = report.add(part.name, |rows| match part.work {
            Work::Check(arguments) => check(arguments),
            Work::Tests(arguments) => tests(cache, arguments, rows),
            Work::Campaign => campaign(cache, chosen.asked, rows),
            Work::Cluster(arguments) => {
                tests(cache, arguments, rows)?;
                serves(shared.cluster()?)
            }
            Work::Scenarios => on_cluster(&mut shared, scenarios, (options.keep, until), rows),
        });
        // What a run took that also compiled says nothing of the next one.
        if let Some(took) = took.filter(|_| begun.had_everything() && chosen.asked != Asked::All) {
            part.record(&Durations::of(cache), took);
        }
    }
    // What lanes make is no reason for more time.
    let budget = begun.budget(cache)?;
    for lane in &chosen.lanes {
        let wish = match chosen.asked {
            Asked::Usual => Wish::IfItFits(budget.left(begun.elapsed())),
            Asked::All | Asked::Named => Wish::Named,
        };
        on_lane(lane, wish, (&mut shared, options.keep), &mut report)?;
    }
    if shared.is_open() {
        report.add("removal", |_| shared.close());
    }
    finish(&budget, chosen.asked, begun.elapsed(), &report)
}

/// Says what came of it; an error if it was not all well, or took too long.
fn finish(budget: &Budget, asked: Asked, took: Duration, report: &Report) -> Result<()> {
    if asked != Asked::Usual {
        // A record of a run names the sources.
        let sources = Run::new("git", ["describe", "--always", "--dirty"]).folder(&project()).output();
        let sources = sources.map(|commit| format!(", on {}", commit.trim())).unwrap_or_default();
        println!("\n{report}, in {}{sources}", minutes(took));
        return report.result();
    }
    println!("\n{report}, in {} of {budget}", minutes(took));
    report.result()?;
    budget.judge(took, &report.longest(3))
}

fn list(chosen: &Chosen) {
    for (part, scenarios) in &chosen.parts {
        println!("{:12}{}", part.name, part.proves);
        for scenario in scenarios {
            println!("  {}:{:14}{}", part.name, scenario.name, scenario.proves);
        }
    }
    for lane in &chosen.lanes {
        let needs: Vec<_> = lane.needs.iter().map(|need| need.name).collect();
        let needs = if needs.is_empty() { String::new() } else { format!("; needs {}", needs.join(" and ")) };
        println!("  scenarios:{:14}{}{needs}", lane.scenario.name, lane.scenario.proves);
    }
}

/// The parts that were asked for, in the order of the table.
fn choose(words: &[String]) -> Result<Chosen> {
    let names_scenario = |name: &str, scenario: &Scenario| {
        name.split_once(':').is_some_and(|(part, of_part)| {
            let of_scenarios = |known: &Part| known.name == part && matches!(known.work, Work::Scenarios);
            PARTS.iter().any(of_scenarios) && of_part == scenario.name
        })
    };
    let lanes = || LANES.iter().map(|lane| &lane.scenario);
    let known = |name: &str| {
        name == ALL
            || PARTS.iter().any(|part| part.name == name)
            || SCENARIOS.iter().chain(lanes()).any(|scenario| names_scenario(name, scenario))
    };
    if let Some(unknown) = words.iter().find(|name| !known(name)) {
        let parts: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        let scenarios = SCENARIOS.iter().chain(lanes()).map(|scenario| format!("scenarios:{}", scenario.name));
        let scenarios: Vec<_> = scenarios.collect();
        bail!("there is no part {unknown}; there are {}, {}, {ALL}", parts.join(", "), scenarios.join(", "));
    }
    let asked = match words {
        [] => Asked::Usual,
        words if words.iter().any(|word| word == ALL) => Asked::All,
        _ => Asked::Named,
    };
    let whole = |name: &str| asked != Asked::Named || words.iter().any(|word| word == name);
    let one = |scenario: &Scenario| words.iter().any(|word| names_scenario(word, scenario));
    let with_scenarios = |part: &'static Part| {
        let whole = whole(part.name);
        let scenarios: Vec<_> = match part.work {
            Work::Scenarios => SCENARIOS.iter().filter(|scenario| whole || one(scenario)).copied().collect(),
            _ => Vec::new(),
        };
        (whole || !scenarios.is_empty()).then_some((part, scenarios))
    };
    let of_lane = |lane: &&Lane| asked != Asked::Named || one(&lane.scenario);
    Ok(Chosen {
        asked,
        parts: PARTS.iter().filter_map(with_scenarios).collect(),
        lanes: LANES.iter().filter(of_lane).collect(),
    })
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
    test_server::sweep(cache)?;
    if !well? {
        bail!("cargo test failed");
    }
    ensure!(!rows.is_empty(), "no test program was seen to run");
    if let Some(silent) = rows.iter().find(|row| row.passed == 0 || row.failed > 0) {
        bail!("{} ran no test: {}", silent.runner, silent.summary);
    }
    step.done();
    Ok(())
}

/// Faults between the operator and its API server: those that are asked of every change, or all.
fn campaign(cache: &Cache, asked: Asked, rows: &mut Vec<Row>) -> Result<()> {
    let (options, how): (&[&str], _) = if asked == Asked::All { (&[], "") } else { (&["--quick"], " --quick") };
    let (mut suites, mut failures) = (Vec::new(), Vec::<(String, String)>::new());
    let mut begins = false;
    let well = super::campaign::program("run").args(options).folder(&project()).followed(|line| {
        println!("{line}");
        suites.extend(line.parse::<SuiteResult>());
        // The first problem is on the line after the plan.
        if let (true, Some((_, plan))) = (begins, failures.last_mut()) {
            *plan = format!("{plan}: {}", report::reason(line.trim_start()));
        }
        let failed = line.strip_prefix("FAILED ").and_then(|plan| plan.split_once(": "));
        begins = failed.is_some();
        failures.extend(failed.map(|(suite, plan)| (suite.to_owned(), plan.to_owned())));
    });
    // A campaign that was ended by force leaves its servers.
    test_server::sweep(cache)?;
    for SuiteResult { suite, plans, failed, took } in &suites {
        let (passed, failed, took) = (plans.saturating_sub(*failed), *failed, minutes(*took));
        let runner = format!("e2e campaign{how} {suite}");
        let summary = format!("{passed} passed, {failed} failed, {took}");
        let failures = failures.iter().filter(|(of, _)| of == suite).map(|(_, plan)| plan.clone()).collect();
        rows.push(Row { runner, summary, passed, failed, failures, ..Row::default() });
    }
    let failed: usize = suites.iter().map(|suite| suite.failed).sum();
    ensure!(failed == 0, "{failed} plans failed");
    ensure!(well?, "the campaign failed");
    ensure!(!suites.is_empty(), "the campaign played no suite");
    let idle = suites.iter().find(|suite| suite.plans == 0);
    ensure!(idle.is_none(), "the suite {} played no plan", idle.map_or("", |suite| &suite.suite));
    Ok(())
}

/// The scenarios, with the operator and its images as the sources make them; those that are not of the core, until a moment.
fn on_cluster(
    shared: &mut Shared<'_>,
    scenarios: &[Scenario],
    (keep, until): (bool, Option<Instant>),
    rows: &mut Vec<Row>,
) -> Result<()> {
    let outcomes = play(shared.with_operator()?, scenarios, keep, until)?;
    for outcome in &outcomes {
        let (passed, failed, summary) = match &outcome.end {
            End::Passed => (1, 0, format!("ok, {}", minutes(outcome.took))),
            End::Failed(_) => (0, 1, format!("FAILED, {}", minutes(outcome.took))),
            End::NotRun(why) => (0, 0, format!("not run: {why}; `cargo verify -- scenarios:{}`", outcome.name)),
        };
        let failures = outcome.failure().map(report::reason).into_iter().collect();
        let not_run = matches!(outcome.end, End::NotRun(_));
        let runner = format!("scenario {}", outcome.name);
        rows.push(Row { runner, summary, passed, failed, not_run, failures, ..Row::default() });
    }
    super::scenarios::failures(&outcomes)
}

/// A lane, if it is to be played.
fn on_lane(lane: &Lane, wish: Wish, on: (&mut Shared<'_>, bool), report: &mut Report) -> Result<()> {
    let (name, (shared, keep)) = (lane.scenario.name, on);
    println!("\n== {name}: {}", lane.scenario.proves);
    match (decide(wish, &lane.prospect(shared.cache())?), wish) {
        (Decision::Play, _) => {
            report.add(name, |rows| {
                lane.prepare(shared.cache())?;
                on_cluster(shared, &[lane.scenario], (keep, None), rows)
            });
        }
        (Decision::Leave(why), Wish::IfItFits(_)) => {
            let way = format!("`cargo verify -- scenarios:{name}` runs it");
            report.leave(name, format!("{why}; {way}"));
        }
        (Decision::Leave(why), Wish::Named) => {
            report.add(name, |_| bail!("cannot be run: {why}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &[&str]) -> Vec<(&'static str, usize)> {
        let chosen = choose(&words(asked)).expect("known parts");
        chosen.parts.into_iter().map(|(part, scenarios)| (part.name, scenarios.len())).collect()
    }

    fn words(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn lanes(asked: &[&str]) -> Vec<&'static str> {
        let chosen = choose(&words(asked)).expect("known parts");
        chosen.lanes.into_iter().map(|lane| lane.scenario.name).collect()
    }

    #[test]
    fn lanes_belong_to_the_whole_and_are_chosen_by_name() {
        let every: Vec<_> = LANES.iter().map(|lane| lane.scenario.name).collect();
        assert_eq!(lanes(&[]), every);
        assert_eq!(lanes(&["all"]), every);
        assert_eq!(names(&["all"]), names(&[]));
        assert_eq!(lanes(&["scenarios"]), [""; 0]);
        assert_eq!((lanes(&["scenarios:upgrade"]), names(&["scenarios:upgrade"])), (vec!["upgrade"], Vec::new()));
        let asked = |words_of: &[&str]| choose(&words(words_of)).expect("known").asked;
        assert_eq!([asked(&[]), asked(&["all"]), asked(&["unit"])], [Asked::Usual, Asked::All, Asked::Named]);
    }

    /// A lane that needs what nobody can make.
    fn impossible() -> Lane {
        let mut need = LANES[0].needs[0];
        need.is_there = |_| Ok(false);
        need.can_be_made = || bail!("there are no sources of it");
        Lane { needs: Box::leak(Box::new([need])), ..LANES[0] }
    }

    #[test]
    fn a_lane_that_is_not_run_fails_only_where_it_was_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path()).expect("a cache");
        for (wish, fails) in [(Wish::IfItFits(Duration::MAX), false), (Wish::Named, true)] {
            let (mut shared, mut report) = (Shared::new(&cache), Report::default());
            on_lane(&impossible(), wish, (&mut shared, false), &mut report).expect("reported");
            assert_eq!(report.result().is_err(), fails, "{report}");
            assert!(report.to_string().contains("there are no sources of it"), "{report}");
            assert!(!shared.is_open());
        }
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
            for part in ["apiserver", "scenarios:drift", "scenarios:upgrade", "all"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
