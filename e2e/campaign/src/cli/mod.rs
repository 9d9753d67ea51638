//! The commands of `campaign`, one module for each.

mod bench;
mod run;
mod seeds;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rorun_e2e::engine::{Cache, cleanup};

/// Faults between the operator and its API server, and measurements of the operator.
#[derive(Debug, Parser)]
#[command(name = "campaign", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let one thing at a time go wrong between the operator and its API server
    Run(run::Options),
    /// Prove the campaign with bugs that are put into a copy of the operator
    Seeds(seeds::Options),
    /// Measure how fast, how large and how many, against what the machine can do at all
    Bench(bench::Options),
}

/// Runs the command that was asked for.
pub fn run() -> Result<()> {
    let arguments = Arguments::parse();
    cleanup::watch_signals()?;
    let cache = Cache::from_env()?;
    match arguments.command {
        Command::Run(options) => run::run(&cache, &options),
        Command::Seeds(options) => seeds::run(&cache, &options),
        Command::Bench(options) => bench::run(&cache, options),
    }
}
