//! Runs the program of a user, and keeps what it prints: statements for `agent sanitize`, which begins in the same pod once this has
//! ended. Nothing of the stack reaches the program: neither data nor keys, which its container has not.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::client_program::tail;
use crate::contract::{self, LONGEST_STATEMENTS};

/// What variables are called whose values are not repeated.
const SECRET: [&str; 4] = ["PASSWORD", "SECRET", "TOKEN", "KEY"];

/// The program, and where to keep what it prints.
#[derive(Clone, Debug, clap::Args)]
pub struct CaptureArgs {
    /// The file to write to.
    #[arg(long)]
    pub into: PathBuf,
    /// How long in seconds the program may take.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout_seconds: u32,
    /// Where to write the reason of a failure.
    #[arg(long, default_value = contract::TERMINATION_PATH, hide = true)]
    pub termination_path: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub program: Vec<String>,
}

impl CaptureArgs {
    /// The values of its variables that nobody should read in a message.
    pub(super) fn secrets() -> Vec<String> {
        let secret = |name: &str| SECRET.iter().any(|word| name.to_ascii_uppercase().contains(word));
        let all = std::env::vars_os().filter(|(name, _)| secret(&name.to_string_lossy()));
        all.map(|(_, value)| value.to_string_lossy().into_owned()).filter(|value| value.len() > 3).collect()
    }
}

/// Runs the program. `Err(None)`: it was told to stop.
pub(super) async fn capture(args: &CaptureArgs, stop: &CancellationToken) -> Result<(), Option<String>> {
    let Some((program, arguments)) = args.program.split_first() else { return Err(Some("no program".to_owned())) };
    let mut command = Command::new(program);
    // In a group of its own, which ends with it: what it leaves behind would keep its output open.
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| {
        Some(format!("failed to start {program} of sanitize.command: {error}; see the files and the user of its image"))
    })?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let within = Duration::from_secs(args.timeout_seconds.into());
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Err(None),
        ended = tokio::time::timeout(within, printed(&mut child)) => ended.unwrap_or_else(|_| {
            Err(Some(format!("sanitize.command did not end within {} s, and was ended", args.timeout_seconds)))
        }),
    };
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let text = contract::statements(ended?).map_err(Some)?;
    std::fs::write(&args.into, text)
        .map_err(|error| Some(format!("failed to keep what sanitize.command prints: {error}")))
}

/// All that a program prints that ends well.
async fn printed(child: &mut Child) -> Result<Vec<u8>, Option<String>> {
    let failed = |error: std::io::Error| Some(format!("failed to run sanitize.command: {error}"));
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed(std::io::Error::other("its output is not ours")));
    };
    let said = tokio::spawn(tail(errors));
    let mut printed = Vec::new();
    output.take(LONGEST_STATEMENTS + 1).read_to_end(&mut printed).await.map_err(failed)?;
    if printed.len() as u64 > LONGEST_STATEMENTS {
        return Err(Some(
            "sanitize.command prints more than 1 MiB: let its statements change all rows of a table at once".to_owned(),
        ));
    }
    let status = child.wait().await.map_err(failed)?;
    let said = said.await.unwrap_or_default();
    if status.success() {
        if !said.is_empty() {
            tracing::info!(said, "the program says");
        }
        return Ok(printed);
    }
    let said =
        if said.is_empty() { "it wrote nothing to its standard error".to_owned() } else { without_logins(&said) };
    Err(Some(format!("sanitize.command failed: {status}: {said}")))
}

/// A text without the users and passwords of its URLs.
fn without_logins(text: &str) -> String {
    let mut words = text.split(' ').map(|word| {
        let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        match authority.rsplit_once('@') {
            Some((login, _)) => format!("{scheme}://***{}", &rest[login.len()..]),
            None => word.to_owned(),
        }
    });
    let first = words.next().unwrap_or_default();
    words.fold(first, |text, word| text + " " + &word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_of_urls_are_left_out() {
        let text = "no route to postgres://ada:hunter2@db:5432/shop?a=b, and https://docs/x@y";
        assert_eq!(without_logins(text), "no route to postgres://***@db:5432/shop?a=b, and https://docs/x@y");
        assert_eq!(without_logins("redis://:p@ss@cache"), "redis://***@cache");
        assert_eq!(without_logins(""), "");
    }
}
