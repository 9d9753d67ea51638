//! `e2e campaign`: faults between the operator and its API server, one at a time.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::campaign::{Arena, Case, Fault, Learnt, Verdict, Workload, learn, plans, play_all};
use crate::engine::{Cache, progress};
use crate::scenarios::kit::{build_binaries, project};

/// Every fault that a request can meet.
const FAULTS: &[Fault] = &[
    Fault::KillBefore,
    Fault::KillAfterCommit,
    Fault::KillAfterAnswer,
    Fault::ResetAfterCommit,
    Fault::Refuse(409),
    Fault::Refuse(429),
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::RefuseAfterCommit(504),
];
/// What is asked of every change of the sources.
const QUICK: &[Fault] = &[Fault::KillBefore, Fault::KillAfterCommit];

const FOUND: &str = "e2e/plans";
const FAILED: &str = "target/campaign";

/// Options of `e2e campaign`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only the faults that are asked of every change
    #[arg(long)]
    quick: bool,
    /// Play one plan again, from the file that was written when it failed
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Where plans that fail are written
    #[arg(long, value_name = "FOLDER", default_value = FAILED)]
    failed: PathBuf,
}

pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    build_binaries()?;
    let (played, failed) = tokio::runtime::Runtime::new()?.block_on(Box::pin(campaign(cache, options)))?;
    println!("{} passed, {failed} failed", played - failed);
    if failed > 0 {
        bail!("{failed} plans failed; they are in {}, and `--plan FILE` plays one again", options.failed.display());
    }
    Ok(())
}

/// Plays what is asked of every change; gives how many plans that was, and how many failed.
pub(super) fn quick(cache: &Cache) -> Result<(usize, usize)> {
    let options = Options { quick: true, plan: None, failed: FAILED.into() };
    tokio::runtime::Runtime::new()?.block_on(Box::pin(campaign(cache, &options)))
}

/// Plays what was asked for; gives how many plans that was, and how many failed.
async fn campaign(cache: &Cache, options: &Options) -> Result<(usize, usize)> {
    let arena = Arena::open(cache).await?;
    if let Some(file) = &options.plan {
        let text = fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
        let case: Case = serde_json::from_str(&text).with_context(|| format!("{} is no plan", file.display()))?;
        let learnt = learn(&arena, case.workload).await?;
        return play(&arena, &learnt, vec![case], options).await;
    }
    let faults = if options.quick { QUICK } else { FAULTS };
    let (mut played, mut failed) = (0, 0);
    for workload in Workload::ALL {
        let learnt = learn(&arena, workload).await?;
        let (compared, masked) = learnt.reference.size();
        let mut cases = plans(&learnt, workload, faults);
        cases.extend(
            found()?.into_iter().filter(|case| case.workload == workload && !faults.contains(&case.plan.fault)),
        );
        let (count, writes) = (cases.len(), learnt.writes.len());
        let what = format!("{workload:?}: {count} plans, {writes} writes");
        let step = progress::Step::start(&what, &format!("{compared} values compared, {masked} differ by themselves"));
        let started = Instant::now();
        let result = play(&arena, &learnt, cases, options).await?;
        step.done();
        let (seconds, failures) = (started.elapsed().as_secs_f64(), result.1);
        println!("{workload:?}: {count} plans, {failures} failed, {seconds:.0} s");
        (played, failed) = (played + result.0, failed + result.1);
    }
    Ok((played, failed))
}

/// Plans that found something once, and are asked of every change since.
fn found() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(project().join(FOUND))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        cases.push(serde_json::from_str(&text).with_context(|| format!("{} is no plan", path.display()))?);
    }
    Ok(cases)
}

async fn play(arena: &Arena, learnt: &Learnt, cases: Vec<Case>, options: &Options) -> Result<(usize, usize)> {
    let verdicts = play_all(arena, learnt, cases, tell).await?;
    let failed: Vec<_> = verdicts.iter().filter(|verdict| !verdict.problems.is_empty()).collect();
    for verdict in &failed {
        fs::create_dir_all(&options.failed)?;
        let name: String =
            verdict.case.to_string().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        fs::write(options.failed.join(format!("{name}.json")), serde_json::to_string_pretty(&verdict.case)?)?;
    }
    Ok((verdicts.len(), failed.len()))
}

fn tell(verdict: &Verdict) {
    if !verdict.problems.is_empty() {
        println!("FAILED {}\n    {}", verdict.case, verdict.problems.join("\n    "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_that_found_something_can_be_played() {
        let found = found().expect("plans");
        assert!(!found.is_empty());
        assert!(found.iter().all(|case| FAULTS.contains(&case.plan.fault)), "{found:?}");
    }
}
