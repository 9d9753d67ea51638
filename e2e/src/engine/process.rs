//! Runs a program to its end: output kept, failure told with the end of what it said.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::cleanup::{self, Registration};
use super::record::ProcessRecord;

const GROUP_TIMEOUT: Duration = Duration::from_secs(10);

/// A program to run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    input: Option<Vec<u8>>,
}

impl Run {
    /// A program, by name or path, with arguments.
    pub fn new<I, A>(program: impl AsRef<OsStr>, arguments: I) -> Run
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        Run { command, input: None }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Run {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Run {
        self.command.args(arguments);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    /// Without variables that this process has.
    #[must_use]
    pub fn without<N: AsRef<OsStr>>(mut self, names: impl IntoIterator<Item = N>) -> Run {
        for name in names {
            self.command.env_remove(name);
        }
        self
    }

    /// The folder to run in.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Run {
        self.command.current_dir(folder);
        self
    }

    /// What the program reads from its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Run {
        self.command.stdin(Stdio::piped());
        self.input = Some(input.into());
        self
    }

    /// Runs it; gives what it wrote to standard output.
    pub fn output(mut self) -> Result<String> {
        let name = self.describe();
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.finish()?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("failed to run {name}: {}\n{}", output.status, tail(&String::from_utf8_lossy(&said)));
        }
        String::from_utf8(output.stdout).with_context(|| format!("{name} wrote something that is not text"))
    }

    /// Runs it; whether it ended well. What it says is dropped.
    pub fn succeeds(mut self) -> bool {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        self.finish().is_ok_and(|output| output.status.success())
    }

    /// Runs it with all it says going to a file, for programs that say a lot.
    pub fn logged(mut self, log: &Path) -> Result<()> {
        let file = File::options().create(true).append(true).open(log)?;
        self.command.stdout(file.try_clone()?).stderr(file);
        let name = self.describe();
        let output = self.finish()?;
        if !output.status.success() {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            bail!("failed to run {name}: {} (all of it in {})\n{}", output.status, log.display(), tail(&said));
        }
        Ok(())
    }

    /// Runs it with `line` getting each line that it says, on whichever output, as soon as it has said it; gives whether
    /// it ended well.
    pub fn followed(mut self, mut line: impl FnMut(&str)) -> Result<bool> {
        let name = self.describe();
        let (reader, writer) = std::io::pipe()?;
        self.command.stdout(writer.try_clone()?).stderr(writer);
        let (mut child, _interrupted) = self.spawn(&name)?;
        // The command holds the other end of the pipe, which would never end.
        drop(self.command);
        for said in BufReader::new(reader).split(b'\n') {
            line(&String::from_utf8_lossy(&said?));
        }
        let status = child.wait();
        cleanup::stop_if_interrupted();
        Ok(status.with_context(|| format!("failed to wait for {name}"))?.success())
    }

    /// Replaces this process by the program; returns only when the program cannot be started.
    pub fn replace_process(mut self) -> Result<()> {
        let name = self.describe();
        self.command.stdin(Stdio::inherit());
        Err(self.command.exec()).with_context(|| format!("failed to start {name}"))
    }

    fn finish(mut self) -> Result<Output> {
        let name = self.describe();
        let (mut child, _interrupted) = self.spawn(&name)?;
        if let (Some(input), Some(mut stdin)) = (self.input, child.stdin.take()) {
            // A program may end without reading all of it; how it ended says more than the broken pipe.
            let _ = stdin.write_all(&input);
        }
        let output = child.wait_with_output();
        // A program that a signal ended has not failed, and nobody is to go on from there.
        cleanup::stop_if_interrupted();
        output.with_context(|| format!("failed to wait for {name}"))
    }

    /// Starts it. What it starts itself is of its group, and ends with it when we are interrupted: a `docker` that nobody
    /// waits for any more would still make its container.
    fn spawn(&mut self, name: &str) -> Result<(Child, Registration)> {
        cleanup::stop_if_interrupted();
        let child = self.command.process_group(0).spawn().with_context(|| format!("failed to start {name}"))?;
        let record = ProcessRecord::of(child.id());
        let interrupted = cleanup::on_interrupt(move || {
            if let Ok(record) = record {
                // It is to be gone, whether it took the hint or not, and there is nobody left to tell.
                let _ = record.stop_group(GROUP_TIMEOUT);
            }
        });
        Ok((child, interrupted))
    }

    fn describe(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let short: String = line.chars().take(160).collect();
        format!("`{short}`")
    }
}

/// The path of a program, if it can be found.
pub fn find_program(name: &str) -> Option<PathBuf> {
    // Debian keeps some of what an ordinary user may run out of that user's PATH.
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let system = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_carry_what_the_program_said() {
        let error = Run::new("sh", ["-c", "echo oh no >&2; exit 3"]).output().expect_err("it fails");
        assert!(error.to_string().contains("oh no"), "{error}");
        assert_eq!(Run::new("cat", [""; 0]).input("hello").output().expect("it works"), "hello");
        assert!(!Run::new("false", [""; 0]).succeeds());
    }

    #[test]
    fn lines_are_followed_in_their_order_whichever_the_output() {
        let mut lines = Vec::new();
        let run = Run::new("sh", ["-c", "echo one; echo two >&2; printf three; exit 1"]);
        let well = run.followed(|line| lines.push(line.to_owned())).expect("it ran");
        assert_eq!((well, lines), (false, vec!["one".to_owned(), "two".to_owned(), "three".to_owned()]));
    }

    #[test]
    fn a_log_keeps_all_and_the_error_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let error = Run::new("sh", ["-c", "seq 100; exit 1"]).logged(&log).expect_err("it fails");
        assert!(error.to_string().ends_with("100"), "{error}");
        assert!(std::fs::read_to_string(&log).expect("a log").starts_with("1\n2\n"));
    }
}
