//! `e2e bench`: how fast, how large and how many, each as a ratio to what the machine can do at all.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use rorun_e2e::engine::Cache;
use rorun_e2e::scenarios::kit::{Profile, build_binaries, optimised, use_released_operator};

use crate::bench;

/// Options of `e2e bench`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Which ones, as in `B4 B6`. Defaults to all of them
    ids: Vec<String>,
    /// How many stacks the heavy ones have
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    stacks: usize,
    /// Also start beside five times as many stacks
    #[arg(long)]
    large: bool,
    /// How many seconds stacks are changed for, in B5
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    churn: u64,
    /// How many seconds nothing happens, in B10
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    idle: u64,
    /// Also build the operator from nothing, in B15
    #[arg(long)]
    clean_build: bool,
    /// Go on with this very build, optimised or not: it begins sooner, and its floors are too low
    #[arg(long)]
    as_built: bool,
    /// Where the figures are written for programs
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
}

pub(super) fn run(cache: &Cache, options: Options) -> Result<()> {
    if cfg!(debug_assertions) {
        build_binaries(cache, Profile::Release)?;
    }
    if cfg!(debug_assertions) && !options.as_built {
        // A client that is not optimised would make a floor that is too low.
        return Err(Command::new(optimised("rorun-campaign", "campaign")?).args(std::env::args_os().skip(1)).exec())
            .context("failed to start the optimised build");
    }
    use_released_operator()?;
    let asked = bench::Options {
        ids: options.ids,
        stacks: options.stacks,
        large: options.large,
        churn: Duration::from_secs(options.churn),
        idle: Duration::from_secs(options.idle),
        clean_build: options.clean_build,
    };
    let (held, missed) = bench::run(cache, asked, &options.json)?;
    println!("{held} bars held, {missed} missed; also in {}", options.json.display());
    Ok(())
}
