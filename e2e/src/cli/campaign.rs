//! `e2e campaign`, `e2e seeds` and `e2e bench`: commands of the crate `rorun-campaign`. Its program depends on this library, so
//! this program builds and starts it, and a contributor who works on scenarios compiles none of it.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::engine::process::Run;
use crate::scenarios::kit::{cargo, project};

/// Arguments of a command of the other program.
#[derive(Debug, PartialEq, Eq, Args)]
pub(super) struct Forwarded {
    /// Arguments of the command; `--help` names them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) arguments: Vec<OsString>,
}

/// Becomes the other program, which reads the arguments and receives the signals from here on.
pub(super) fn become_program(command: &str, options: &Forwarded) -> Result<()> {
    program(command).args(&options.arguments).replace_process()
}

/// A command of the other program, which cargo builds first where its sources changed.
pub(super) fn program(command: &str) -> Run {
    // With the manifest of the workspace, and without --package, cargo resolves the features that the tests use, too.
    let manifest = project().join("Cargo.toml");
    cargo(["run", "--manifest-path"]).arg(manifest).args(["--bin", "campaign", "--", command])
}
