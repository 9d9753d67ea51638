//! The commands of `e2e`, one module for each.

mod bed;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A real Kubernetes on this machine, and what is proved on it.
#[derive(Debug, Parser)]
#[command(name = "e2e", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an API server with nothing around it until Ctrl-C
    Bed(bed::Bed),
}

/// Runs the command that was asked for.
pub fn run() -> Result<()> {
    let arguments = Arguments::parse();
    crate::engine::cleanup::watch_signals()?;
    match arguments.command {
        Command::Bed(command) => command.run(),
    }
}
