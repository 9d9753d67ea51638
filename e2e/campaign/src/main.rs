//! The `campaign` binary: `e2e campaign`, `e2e seeds` and `e2e bench` run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match rorun_campaign::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
