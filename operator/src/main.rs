//! The `rorun-operator` binary: operator, agent and command line in one.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    rorun_operator::cli::Cli::parse().run().await
}
