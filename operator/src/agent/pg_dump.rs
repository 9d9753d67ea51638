//! The child process. The connection, with its password, reaches it through variables: arguments can be read by everybody.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::error::DumpError;

const PROGRAM: &str = "pg_dump";
/// How much of what it says is kept, from the end.
const TAIL: usize = 2000;

/// All that `libpq` reads: the pod has those of the application, which may go through a pooler.
const LIBPQ_VARIABLES: [&str; 35] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGREQUIREAUTH",
    "PGCHANNELBINDING",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLCOMPRESSION",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCERTMODE",
    "PGSSLROOTCERT",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLSNI",
    "PGSSLNEGOTIATION",
    "PGREQUIREPEER",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
    "PGGSSENCMODE",
    "PGKRBSRVNAME",
    "PGGSSLIB",
    "PGGSSDELEGATION",
    "PGCONNECT_TIMEOUT",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
];

/// Ours, and none of its business.
const OWN_VARIABLES: [&str; 6] = [
    crate::contract::ENV_DATABASE_URL,
    crate::contract::ENV_ACCESS_KEY_ID,
    crate::contract::ENV_SECRET_ACCESS_KEY,
    crate::contract::ENV_SESSION_TOKEN,
    "DATABASE_URL",
    "REDIS_URL",
];

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
    let output = command().arg("--version").output().await.map_err(failed_to_run)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl PgDump {
    /// Starts to dump all but some schemas, as a snapshot shows them if there is one.
    pub(super) fn start(
        environment: Vec<(&'static str, String)>,
        excluded: &[String],
        snapshot: Option<&str>,
    ) -> Result<Self, DumpError> {
        let mut command = command();
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

fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    for name in LIBPQ_VARIABLES.into_iter().chain(OWN_VARIABLES) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A name as a pattern that matches it and nothing else: within double quotes psql's patterns know no special character but the
/// quote itself, which is written twice (PostgreSQL documentation, psql, "Patterns").
fn exactly(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn failed_to_run(source: io::Error) -> DumpError {
    if source.kind() == io::ErrorKind::NotFound { DumpError::NoPgDump } else { DumpError::Run { source } }
}

/// Reads to the end, or the child would stop at a full pipe, and keeps the last lines as one.
async fn tail(mut errors: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = errors.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        kept.drain(..kept.len().saturating_sub(TAIL));
    }
    String::from_utf8_lossy(&kept).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_what_it_says_is_kept_as_one_line() {
        let text = format!("{}\npg_dump: error:\n  the reason\n", "noise ".repeat(5000));
        let kept = tail(text.as_bytes()).await;
        assert!(kept.ends_with("pg_dump: error: the reason"), "{kept}");
        assert!(kept.len() <= TAIL && !kept.contains('\n'), "{kept}");
    }

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
