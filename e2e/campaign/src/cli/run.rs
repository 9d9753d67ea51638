//! `e2e campaign`: faults between the operator and its API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use rorun_e2e::engine::Cache;
use rorun_e2e::scenarios::kit::{Profile, build_binaries, use_operator};
use rorun_e2e::suite_result::SuiteResult;
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::play::CaseRunner;
use crate::suite::{Extent, SUITES, Suite, SuiteRun};

const FAILED: &str = "target/campaign";

/// Options of `e2e campaign`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Suites to play. Defaults to all, and with --quick to those that have a quick form
    suites: Vec<String>,
    /// Say which suites there are, and play none
    #[arg(long)]
    list: bool,
    /// Only what is asked of every change
    #[arg(long)]
    quick: bool,
    /// Play one plan again, from the file that was written when it failed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["suites", "quick"])]
    plan: Option<PathBuf>,
    /// Play no more once a plan has failed
    #[arg(long)]
    first: bool,
    /// Another operator than the one of the sources, built already
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
    /// Where plans that fail are written
    #[arg(long, value_name = "FOLDER", default_value = FAILED)]
    failed: PathBuf,
}

/// A plan that failed, as a file.
#[derive(Deserialize)]
struct Failed {
    suite: String,
    plan: Value,
}

pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    let chosen = choose(&options.suites, options.quick)?;
    if options.list {
        for suite in chosen {
            println!("{:12}{}", suite.name, suite.proves);
        }
        return Ok(());
    }
    match &options.operator {
        Some(binary) => use_operator(binary.clone()),
        None => build_binaries(cache, Profile::Quick)?,
    }
    let counts = if let Some(file) = &options.plan {
        again(cache, file, &options.failed)?
    } else {
        let extent = if options.quick { Extent::Quick } else { Extent::Whole };
        play(cache, &chosen, &extent, (&options.failed, options.first))?
    };
    let (played, failed) = counts.iter().fold((0, 0), |sum, suite| (sum.0 + suite.plans, sum.1 + suite.failed));
    println!("{} passed, {failed} failed", played - failed);
    if failed > 0 {
        bail!("{failed} plans failed; they are in {}, and `--plan FILE` plays one again", options.failed.display());
    }
    Ok(())
}

fn again(cache: &Cache, file: &Path, failed: &Path) -> Result<Vec<SuiteResult>> {
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let Failed { suite, plan } =
        serde_json::from_str(&text).with_context(|| format!("{} is no plan", file.display()))?;
    play(cache, &choose(&[suite], false)?, &Extent::Only(plan), (failed, false))
}

fn play(
    cache: &Cache,
    suites: &[&'static Suite],
    extent: &Extent,
    (failed, first): (&Path, bool),
) -> Result<Vec<SuiteResult>> {
    let runtime = Runtime::new()?;
    let mut shared = None;
    let mut played = Vec::new();
    let mut rest = suites;
    while let Some((suite, others)) = rest.split_first() {
        let of = |suite| SuiteRun::new(cache, suite, extent.clone(), failed.to_owned()).stopping_at_first(first);
        if let Some(next) = others.first().filter(|next| suite.is_played_beside(next)) {
            shared = None;
            let (run, beside) = (of(suite), of(next));
            // Each in a thread of its own: some suites keep theirs, since the servers that a thread starts end with it.
            let both = thread::scope(|scope| {
                let beside = scope.spawn(|| Runtime::new()?.block_on(play_suite(next, beside, &mut None)));
                let result = runtime.block_on(play_suite(suite, run, &mut None));
                (result, beside.join())
            });
            let beside = both.1.map_err(|_| anyhow!("the suite {} panicked", next.name))?;
            played.extend([both.0?, beside?]);
            rest = &others[1..];
        } else {
            played.push(runtime.block_on(play_suite(suite, of(suite), &mut shared))?);
            rest = others;
        }
    }
    Ok(played)
}

async fn play_suite(suite: &Suite, run: SuiteRun<'_>, shared: &mut Option<CaseRunner>) -> Result<SuiteResult> {
    let started = Instant::now();
    suite.play(&run, shared).await.with_context(|| format!("the suite {}", suite.name))?;
    let ((plans, failed), took) = (run.counts(), started.elapsed());
    let result = SuiteResult { suite: suite.name.to_owned(), plans, failed, took };
    println!("{result}");
    Ok(result)
}

/// The suites that were asked for, in the order in which they are played.
fn choose(asked: &[String], quick: bool) -> Result<Vec<&'static Suite>> {
    if let Some(unknown) = asked.iter().find(|name| SUITES.iter().all(|suite| suite.name != **name)) {
        let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("there is no suite {unknown}; there are {}", names.join(", "));
    }
    let is_asked = |suite: &&Suite| match asked {
        [] => suite.quick || !quick,
        _ => asked.iter().any(|name| name == suite.name),
    };
    Ok(SUITES.iter().filter(is_asked).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_suite_is_answered_with_what_there_is() {
        assert_eq!(choose(&[], false).expect("all").len(), SUITES.len());
        assert_eq!(choose(&["writes".to_owned()], false).expect("one").len(), 1);
        assert!(choose(&["write".to_owned()], false).expect_err("no such suite").to_string().contains("writes"));
    }

    #[test]
    fn the_quick_form_leaves_out_what_is_not_asked_of_every_change_unless_it_is_named() {
        let names =
            |asked: &[String]| choose(asked, true).expect("suites").iter().map(|suite| suite.name).collect::<Vec<_>>();
        assert!(!names(&[]).contains(&"versions") && names(&[]).contains(&"writes"));
        assert_eq!(names(&["versions".to_owned()]), ["versions"]);
    }
}
