//! `e2e numbers`: what the documents state in seconds and bytes, measured on this machine and printed. Counts of calls are
//! asserted by tests; times and sizes are not, since the machine has a say in them.

mod memory;
mod rendering;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use self::memory::Operator;
use super::scenarios::{failures, play, set_up};
use crate::engine::{Cache, Cluster, progress};
use crate::scenarios::kit::{OPERATOR, build_binaries};
use crate::scenarios::matching;

const CLUSTER: &str = "rorun-numbers";
/// Scenarios that note what they measure: the time to Ready, from a change to its repair, memory after restarts.
const MEASURED: &[&str] = &["development", "drift", "kills"];
/// Stacks in one operator, for its memory.
const STACKS: &[usize] = &[1, 50];

/// Options of `e2e numbers`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only what needs no cluster: the operator's memory, and the time to render a stack
    #[arg(long)]
    alone: bool,
}

pub(super) fn run(cache: &Cache, options: &Options) -> Result<()> {
    build_binaries()?;
    let mut rows = vec![("rendering one stack, with reading YAML and printing JSON".to_owned(), rendering::one()?)];
    rows.extend(memory(cache)?);
    if !options.alone {
        rows.extend(on_cluster(cache)?);
    }
    for (what, value) in rows {
        println!("{what:50} {value}");
    }
    Ok(())
}

fn memory(cache: &Cache) -> Result<Vec<(String, String)>> {
    let step = progress::Step::start("an operator with some stacks", "for its memory; an API server without pods");
    let mut rows = Vec::new();
    let operator = Operator::start(cache)?;
    for &stacks in STACKS {
        let (resident, most) = operator.memory_with(stacks)?;
        let value = format!("{} resident, at most {}", mebibytes(resident), mebibytes(most));
        rows.push((format!("memory of the operator with {stacks} stacks"), value));
    }
    step.done();
    Ok(rows)
}

fn on_cluster(cache: &Cache) -> Result<Vec<(String, String)>> {
    // What is missing in the cache is built by the first one, which is not timed.
    drop(Cluster::lease(cache, CLUSTER)?);
    let started = Instant::now();
    let lease = Cluster::lease(cache, CLUSTER)?;
    let up = started.elapsed();
    set_up(&lease)?;
    let size = lease.docker().output(["image", "inspect", "--format={{.Size}}", OPERATOR])?;
    let size: u64 = size.trim().parse().with_context(|| format!("the size of {OPERATOR} is not a number"))?;
    let measured: Vec<String> = MEASURED.iter().map(|&name| name.to_owned()).collect();
    let outcomes = play(&lease, &matching(&measured), false)?;
    let started = Instant::now();
    drop(lease);
    let down = started.elapsed();
    failures(&outcomes)?;
    let seconds = |took: Duration| format!("{:.1} s", took.as_secs_f64());
    Ok(vec![
        ("a cluster, up, all in the cache".to_owned(), seconds(up)),
        ("a cluster, down".to_owned(), seconds(down)),
        ("the operator's image".to_owned(), mebibytes(size)),
    ])
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
