//! A process of a test server, with its log and its record.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::engine::record::ProcessRecord;

/// A server that ends when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a program. Its log and its record, by which a later run finds it when this one is killed, are in `folder`.
    pub(super) fn start(
        name: &'static str,
        program: &Path,
        arguments: impl IntoIterator<Item = String>,
        folder: &Path,
    ) -> Result<Server> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let saved = ProcessRecord::of(child.id()).and_then(|record| record.save(&folder.join(record_name(name))));
        if let Err(error) = saved {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok(Server { name, log, child })
    }

    /// Ends it at once, and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The process that it is.
    pub(super) fn process(&self) -> Result<ProcessRecord> {
        ProcessRecord::of(self.child.id())
    }

    /// An error with the end of its log if the server is no longer there.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended early: {status}\n{}", self.name, self.last_words());
        }
        Ok(())
    }

    /// The pid, for tests that look whether it is gone.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By SIGKILL: a test server has nothing to save, and a graceful end takes the API server seconds.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file name of the record of a process.
pub(super) fn record_name(name: &str) -> String {
    format!("{name}.process.json")
}
