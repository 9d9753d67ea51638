//! The child process that dumps.

use std::io;
use std::time::Duration;

use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;

use super::client_program::{self, tail};
use super::error::DumpError;

const PROGRAM: &str = "pg_dump";

/// A running `pg_dump`. Dropping it kills it.
#[derive(Debug)]
pub(super) struct PgDump {
    child: Child,
    /// The dump.
    pub(super) output: ChildStdout,
    said: JoinHandle<String>,
    ended: bool,
}

/// The version of the `pg_dump` in this image.
pub(super) async fn version() -> Result<String, DumpError> {
    client_program::version(PROGRAM).await.map_err(failed_to_run)
}

impl PgDump {
    /// Starts to dump all but some schemas, as a snapshot shows them if there is one.
    pub(super) fn start(
        environment: Vec<(&'static str, String)>,
        excluded: &[String],
        snapshot: Option<&str>,
    ) -> Result<Self, DumpError> {
        let mut command = client_program::command(PROGRAM);
        // The dump must not wait without end for a migration that never ends.
        command.args(["--format=custom", "--no-password", "--lock-wait-timeout=5min"]).envs(environment);
        command.args(snapshot.map(|id| format!("--snapshot={id}")));
        command.args(excluded.iter().map(|schema| format!("--exclude-schema={}", exactly(schema))));
        let mut child = command.spawn().map_err(failed_to_run)?;
        let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed_to_run(io::Error::other("its output is not ours")));
        };
        Ok(Self { child, output, said: tokio::spawn(tail(errors)), ended: false })
    }

    /// Waits for the end. The output alone does not tell a whole dump from half of one.
    pub(super) async fn finish(&mut self) -> Result<(), DumpError> {
        if self.ended {
            return Ok(());
        }
        let status = self.child.wait().await.map_err(|source| DumpError::Run { source })?;
        let said = (&mut self.said).await.unwrap_or_default();
        if status.success() {
            if !said.is_empty() {
                tracing::warn!(said, "pg_dump warns");
            }
            self.ended = true;
            return Ok(());
        }
        Err(DumpError::PgDump { status: status.to_string(), said })
    }

    /// Throws away what else it writes, and gives its error if it ends with one within a time.
    pub(super) async fn last_words(&mut self, within: Duration) -> Option<DumpError> {
        let ended = async {
            // It would wait for ever for somebody to read.
            tokio::io::copy(&mut self.output, &mut tokio::io::sink()).await.ok()?;
            self.finish().await.err()
        };
        tokio::time::timeout(within, ended).await.ok().flatten()
    }
}

/// A name as a pattern that matches it and nothing else: within double quotes psql's patterns know no special character but the
/// quote itself, which is written twice (PostgreSQL documentation, psql, "Patterns").
fn exactly(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn failed_to_run(source: io::Error) -> DumpError {
    if source.kind() == io::ErrorKind::NotFound { DumpError::NoPgDump } else { DumpError::Run { source } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_pattern() {
        let names = ["vault", "a*b", "Vault?", "a\"b", "a.b"].map(exactly);
        assert_eq!(names, ["\"vault\"", "\"a*b\"", "\"Vault?\"", "\"a\"\"b\"", "\"a.b\""]);
    }

    #[test]
    fn a_missing_program_says_what_to_do() {
        let error = failed_to_run(io::Error::from(io::ErrorKind::NotFound)).to_string();
        assert!(error.contains("spec.backup.image"), "{error}");
    }
}
