//! The `rorun-operator` binary: operator, agent and command line in one.

use std::process::ExitCode;

use clap::Parser;

/// The allocator of the static C library took about 40 % of a reconcile's processor time, since it gives pages back and asks for
/// them again all the time. How this one is set is in `.cargo/config.toml`.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One thread is enough for what waits for the network nearly all the time, and nobody waits for a lock of another's.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    rorun_operator::cli::Cli::parse().run().await
}
