//! `e2e campaign`: faults between the operator and its API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::campaign::{Extent, Ground, SUITES, Suite};
use crate::engine::Cache;
use crate::scenarios::kit::{Profile, build_binaries, use_operator};

const FAILED: &str = "target/campaign";

/// Options of `e2e campaign`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Suites to play; all if there is none
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
    let chosen = choose(&options.suites)?;
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

/// How a suite ended.
pub(super) struct Played {
    pub(super) suite: &'static str,
    pub(super) plans: usize,
    pub(super) failed: usize,
    pub(super) took: Duration,
}

/// Plays what is asked of every change, or all that there is; gives how each suite ended.
pub(super) fn suites(cache: &Cache, extent: &Extent) -> Result<Vec<Played>> {
    let asked: Vec<_> = SUITES.iter().filter(|suite| suite.quick || *extent == Extent::Whole).collect();
    play(cache, &asked, extent, (FAILED.as_ref(), false))
}

fn again(cache: &Cache, file: &Path, failed: &Path) -> Result<Vec<Played>> {
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let Failed { suite, plan } =
        serde_json::from_str(&text).with_context(|| format!("{} is no plan", file.display()))?;
    play(cache, &choose(&[suite])?, &Extent::Only(plan), (failed, false))
}

fn play(
    cache: &Cache,
    suites: &[&'static Suite],
    extent: &Extent,
    (failed, first): (&Path, bool),
) -> Result<Vec<Played>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut played = Vec::new();
    for suite in suites {
        let started = Instant::now();
        let ground = Ground::new(cache, suite, extent.clone(), failed.to_owned()).stopping_at_first(first);
        runtime.block_on((suite.play)(&ground)).with_context(|| format!("the suite {}", suite.name))?;
        let ((plans, failed), took) = (ground.counts(), started.elapsed());
        println!("{}: {plans} plans, {failed} failed, {} s", suite.name, took.as_secs());
        played.push(Played { suite: suite.name, plans, failed, took });
    }
    Ok(played)
}

/// The suites that were asked for, in the order in which they are played.
fn choose(asked: &[String]) -> Result<Vec<&'static Suite>> {
    if let Some(unknown) = asked.iter().find(|name| SUITES.iter().all(|suite| suite.name != **name)) {
        let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("there is no suite {unknown}; there are {}", names.join(", "));
    }
    let is_asked = |suite: &&Suite| asked.is_empty() || asked.iter().any(|name| name == suite.name);
    Ok(SUITES.iter().filter(is_asked).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_suite_is_answered_with_what_there_is() {
        assert_eq!(choose(&[]).expect("all").len(), SUITES.len());
        assert_eq!(choose(&["writes".to_owned()]).expect("one").len(), 1);
        assert!(choose(&["write".to_owned()]).expect_err("no such suite").to_string().contains("writes"));
    }
}
