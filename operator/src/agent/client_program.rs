//! A client program of PostgreSQL as a child process. The connection, with its password, reaches it through variables: arguments
//! can be read by everybody.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

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
const OWN_VARIABLES: [&str; 12] = [
    crate::contract::ENV_ORIGIN,
    crate::contract::ENV_SANITIZED,
    crate::contract::ENV_IDENTITY,
    crate::contract::ENV_DATABASE_URL,
    crate::contract::ENV_COPY_URL,
    crate::contract::ENV_OBJECTS_SECRET_ACCESS_KEY,
    crate::contract::ENV_OBJECTS_SESSION_TOKEN,
    crate::contract::ENV_ACCESS_KEY_ID,
    crate::contract::ENV_SECRET_ACCESS_KEY,
    crate::contract::ENV_SESSION_TOKEN,
    "DATABASE_URL",
    "REDIS_URL",
];

/// A program that knows of no connection yet, and dies with what holds it. Its words are English, whatever the locale.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in LIBPQ_VARIABLES.into_iter().chain(OWN_VARIABLES) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a program of this image says of its version, e.g. `pg_dump (PostgreSQL) 17.6`.
pub(super) async fn version(program: &str) -> io::Result<String> {
    let output = command(program).arg("--version").output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Reads to the end, or the child would stop at a full pipe, and keeps the last lines as one.
pub(super) async fn tail(mut errors: impl AsyncRead + Unpin) -> String {
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
}
