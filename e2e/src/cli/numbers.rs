//! `e2e numbers`: what the documents state about a cluster in seconds and bytes, measured on this machine and printed. What
//! needs no cluster is measured by `e2e bench`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::scenarios::{failures, play, set_up};
use crate::engine::{Cache, Cluster};
use crate::scenarios::kit::{OPERATOR, Profile, build_binaries};
use crate::scenarios::matching;

const CLUSTER: &str = "rorun-numbers";
/// Scenarios that note what they measure: the time to Ready, from a change to its repair, memory after restarts, the operator's part of a
/// release and of a roll-back.
const MEASURED: &[&str] = &["development", "drift", "kills", "release"];

pub(super) fn run(cache: &Cache) -> Result<()> {
    build_binaries(cache, Profile::Release)?;
    for (what, value) in on_cluster(cache)? {
        println!("{what:50} {value}");
    }
    Ok(())
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
    let outcomes = play(&lease, &matching(&measured), false, None)?;
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
