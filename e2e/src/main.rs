//! The `e2e` binary: see `e2e --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match rorun_e2e::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
