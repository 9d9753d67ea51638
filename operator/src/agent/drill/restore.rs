//! From the bucket into the server of a drill: streamed, hashed on the way, and what `pg_restore` says is judged.

use std::collections::BTreeSet;
use std::io;
use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::server::{Server, clean};
use super::{Ended, fault};
use crate::agent::checked::{Dump, DumpReader, OpenError};
use crate::contract::DrillFault;

/// How much of what `pg_restore` says is judged; what is longer is no list of expected errors.
const LONGEST: u64 = 256 * 1024;

/// A dump that was restored.
#[derive(Debug, Default)]
pub(in crate::agent) struct Restored {
    /// Extensions that the server lacks.
    pub(in crate::agent) missing: BTreeSet<String>,
    /// Errors that nothing follows from.
    pub(in crate::agent) understood: Vec<String>,
}

/// Restores a dump. What does not have the checksum of its manifest does not count, whatever came of it.
pub(in crate::agent) async fn restore(
    dump: Dump<'_>,
    server: &Server,
    stop: &CancellationToken,
) -> Result<Restored, Ended> {
    let fed = Box::pin(dump.read(stop, async |reader| fed(reader, server, stop).await)).await;
    let (status, text) = match fed {
        Ok(said) => said?,
        Err(OpenError::Read(error)) => return Err(error.into()),
        Err(error @ OpenError::Sealed { .. }) => return fault(DrillFault::WrongIdentity, error.to_string()),
    };
    let key = &dump.object.key;
    judge(&text, status).or_else(|why| fault(DrillFault::NotRestored, format!("failed to restore {key}: {why}")))
}

/// Feeds `pg_restore`, and gives how it ended and what it said.
async fn fed(dump: DumpReader<'_>, server: &Server, stop: &CancellationToken) -> Result<(bool, String), Ended> {
    let not_run = |error: io::Error| Ended::Fault(DrillFault::NotRun, format!("failed to run pg_restore: {error}"));
    let mut command = clean("pg_restore");
    command
        .args(["--no-owner", "--no-privileges", "--no-subscriptions", "--no-password", "--dbname=drill"])
        .envs(server.environment());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(not_run)?;
    let (Some(mut input), Some(errors)) = (child.stdin.take(), child.stderr.take()) else {
        return Err(not_run(io::Error::other("its input is not ours")));
    };
    let listened = tokio::spawn(async move {
        let mut text = Vec::new();
        let mut errors = errors.take(LONGEST);
        let _ = errors.read_to_end(&mut text).await;
        // It would stop at a full pipe.
        let _ = tokio::io::copy(&mut errors.into_inner(), &mut tokio::io::sink()).await;
        String::from_utf8_lossy(&text).into_owned()
    });
    let feed = async {
        // It closes its input when it has seen enough, or failed: its words tell which.
        let fed = tokio::io::copy_buf(dump, &mut input).await;
        let _ = input.shutdown().await;
        drop(input);
        fed.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    };
    let broken = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(Ended::Stopped),
        broken = feed => broken,
    };
    let status = child.wait().await.map_err(not_run)?;
    let mut text = listened.await.unwrap_or_default();
    if let Some(broken) = broken {
        text = format!("pg_restore: error: the dump ended early: {broken}\n{text}");
    }
    Ok((status.success(), text))
}

/// What is left of errors when those that a drill may have are taken off. `pg_restore` goes on after an error, and ends with
/// status 1 whatever it was.
fn judge(text: &str, success: bool) -> Result<Restored, String> {
    let mut restored = Restored::default();
    let errors: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("error: ")).map(|(_, error)| error).collect();
    for error in &errors {
        if let Some(rest) = error.split_once("extension \"").map(|(_, rest)| rest)
            && rest.contains("is not available")
        {
            restored.missing.extend(rest.split('"').next().map(str::to_owned));
        }
    }
    let lacks = !restored.missing.is_empty();
    let expected = |error: &str| {
        let follows = error.contains("does not exist") || error.contains("is not available");
        // Since PostgreSQL 15 every new database has it.
        error.contains("schema \"public\" already exists") || (lacks && follows)
    };
    if let Some(error) = errors.iter().find(|error| !expected(error)) {
        return Err((*error).to_owned());
    }
    if !success && errors.is_empty() {
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("pg_restore gives no reason");
        return Err(last.to_owned());
    }
    restored.understood = errors.into_iter().map(str::to_owned).collect();
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_extension_and_what_follows_from_it_are_no_failure() {
        let text = "pg_restore: error: could not execute query: ERROR:  extension \"postgis\" is not available\n\
            DETAIL:  Could not open extension control file.\n\
            pg_restore: error: could not execute query: ERROR:  type \"public.geometry\" does not exist\n\
            pg_restore: warning: errors ignored on restore: 2\n";
        let restored = judge(text, false).expect("understood");
        assert_eq!(restored.missing, BTreeSet::from(["postgis".to_owned()]));
        assert_eq!(restored.understood.len(), 2);
        let other = "pg_restore: error: could not execute query: ERROR:  type \"public.geometry\" does not exist\n";
        assert!(judge(other, false).is_err(), "nothing explains it");
        let both = format!("{text}pg_restore: error: could not execute query: ERROR:  duplicate key value\n");
        assert!(judge(&both, false).is_err_and(|why| why.contains("duplicate key")));
    }

    #[test]
    fn an_end_without_a_word_is_a_failure() {
        assert!(judge("", true).is_ok());
        assert!(judge("", false).is_err());
        let cut = "pg_restore: error: could not read from input file: end of file\n";
        assert!(judge(cut, false).is_err_and(|why| why.contains("end of file")));
    }
}
