//! `e2e seeds`: proves the campaign with bugs that are put into a copy of the operator.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use rorun_e2e::engine::Cache;
use rorun_e2e::engine::process::Run;
use rorun_e2e::scenarios::kit::{Profile, build_binaries};
use serde_json::Value;

use crate::seeds::{Copy, Seed};
use crate::suite::SUITES;

/// So many of them may stay unfound.
const UNFOUND: usize = 1;

/// Options of `e2e seeds`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "options of a command line")]
pub(super) struct Options {
    /// Seeds to play, by the start of their names; all if there is none
    seeds: Vec<String>,
    /// Say which there are, and play none
    #[arg(long)]
    list: bool,
    /// Only the suites that a seed names, and not all the others after them
    #[arg(long)]
    named: bool,
    /// What no quick form finds is looked for by the whole forms of the suites that the seed names
    #[arg(long)]
    whole: bool,
    /// Take for granted that the operator as it is passes
    #[arg(long)]
    skip_unchanged: bool,
}

pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    let is_asked =
        |seed: &Seed| options.seeds.is_empty() || options.seeds.iter().any(|name| seed.name.starts_with(name));
    let seeds: Vec<Seed> = Seed::all()?.into_iter().filter(is_asked).collect();
    if options.list {
        for seed in &seeds {
            println!("{:32}{} ({})", seed.name, seed.what, seed.suites.join(", "));
        }
        return Ok(());
    }
    // What it compiles of other people's crates is taken over.
    build_binaries(cache, Profile::Quick)?;
    let copy = Copy::make(cache)?;
    if !options.skip_unchanged {
        unchanged(&copy, options)?;
    }
    if options.seeds.is_empty() {
        builds(&copy, &Seed::new_mode()?)?;
    }
    let mut missed = Vec::new();
    for seed in &seeds {
        let started = Instant::now();
        let found = play(&copy, seed, options)?;
        let seconds = started.elapsed().as_secs();
        if let Some(by) = found {
            println!("caught  {:32}{} s\n        {}\n        by {by}", seed.name, seconds, seed.what);
        } else {
            println!("MISSED  {:32}{} s\n        {}", seed.name, seconds, seed.what);
            missed.push(seed.name.as_str());
        }
    }
    println!("{} of {} seeded bugs caught", seeds.len() - missed.len(), seeds.len());
    if missed.len() > UNFOUND || (missed.len() == seeds.len() && !seeds.is_empty()) {
        bail!("too many seeded bugs stay unfound: {}", missed.join(", "));
    }
    Ok(())
}

/// The operator as it is passes whatever is played: what fails with a bug in it fails because of the bug.
fn unchanged(copy: &Copy, options: &Options) -> Result<()> {
    let (binary, failed) = (copy.build_unchanged()?, copy.failed("unchanged")?);
    let mut suites: Vec<String> = SUITES.iter().map(|suite| suite.name.to_owned()).collect();
    if options.named {
        let named: Vec<String> = Seed::all()?.into_iter().flat_map(|seed| seed.suites).collect();
        suites.retain(|suite| named.contains(suite));
    }
    for suite in &suites {
        if let Some(why) = campaign(&binary, &failed, &[suite, "--quick"])? {
            bail!("the operator without a seeded bug fails {suite}: {why}");
        }
    }
    println!("passed  {:32}{}", "unchanged", suites.join(", "));
    Ok(())
}

/// Builds the operator with a change that is no bug, and plays nothing.
fn builds(copy: &Copy, change: &Seed) -> Result<()> {
    change.put_into(copy.folder())?;
    let built = copy.build(&change.name);
    change.take_out_of(copy.folder())?;
    built?;
    println!("builds  {:32}{}", change.name, change.what);
    Ok(())
}

/// Builds the operator with the bug, and plays suites until one finds it; gives which, and how.
fn play(copy: &Copy, seed: &Seed, options: &Options) -> Result<Option<String>> {
    seed.put_into(copy.folder())?;
    let built = copy.build(&seed.name);
    seed.take_out_of(copy.folder())?;
    let binary = built?;
    let others = SUITES.iter().map(|suite| suite.name.to_owned()).filter(|suite| !seed.suites.contains(suite));
    let mut plays: Vec<(String, bool)> = seed.suites.iter().map(|suite| (suite.clone(), true)).collect();
    if !options.named {
        plays.extend(others.map(|suite| (suite, true)));
    }
    if options.whole {
        plays.extend(seed.suites.iter().map(|suite| (suite.clone(), false)));
    }
    for (suite, quick) in plays {
        let failed = copy.failed(&seed.name)?;
        let mut arguments = vec![suite.as_str(), "--first"];
        arguments.extend(quick.then_some("--quick"));
        let Some(words) = campaign(&binary, &failed, &arguments)? else { continue };
        match without_bug(&copy.build_unchanged()?, &failed)? {
            None => return Ok(Some(words)),
            // A plan that fails anyway proves nothing.
            Some(anyway) => println!("        {}: fails without the bug, too: {anyway}", seed.name),
        }
    }
    Ok(None)
}

/// Plays the plans that failed without the bug; gives how one failed, if one did.
fn without_bug(unchanged: &Path, failed: &Path) -> Result<Option<String>> {
    for entry in std::fs::read_dir(failed)? {
        let plan = entry?.path();
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&plan)?)?;
        // What was judged of a whole suite has no plan of its own, and the suite has passed without the bug.
        if file["plan"].is_null() {
            continue;
        }
        let plan = plan.to_string_lossy();
        let again = failed.with_extension("again");
        if let Some(words) = campaign(unchanged, &again, &["--plan", &plan])? {
            return Ok(Some(words));
        }
    }
    Ok(None)
}

/// Plays a suite, or a plan, until something fails; gives what was wrong, or how it ended.
fn campaign(binary: &Path, failed: &Path, arguments: &[&str]) -> Result<Option<String>> {
    let run = Run::new(std::env::current_exe()?, ["run"]).args(arguments);
    let mut said = Vec::new();
    let run = run.arg("--failed").arg(failed).arg("--operator").arg(binary);
    let well = run.followed(|line| said.push(line.trim().to_owned()))?;
    if well {
        return Ok(None);
    }
    // The plan, and the first thing that was wrong with it; or, where a run without a fault is wrong, how the suite ended.
    let reported = said.iter().position(|line| line.starts_with("FAILED "));
    let words = match reported {
        Some(at) => said[at..].iter().take(2).map(|line| short(line.trim_start_matches("FAILED "))).collect(),
        None => said.iter().rfind(|line| !line.is_empty()).map(|line| short(line)).into_iter().collect::<Vec<_>>(),
    };
    Ok(Some(words.join(": ")))
}

fn short(text: &str) -> String {
    text.chars().take(240).collect()
}
