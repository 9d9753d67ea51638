//! From the bucket into the server of a drill: streamed, hashed on the way, and what `pg_restore` says is judged.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

pub(in crate::agent) use super::judge::Restored;
use super::judge::{Judge, Known};
use super::server::{Server, clean};
use super::{Ended, fault};
use crate::agent::checked::{Dump, DumpReader, OpenError};
use crate::agent::pg_restore;
use crate::contract::DrillFault;

/// Restores a dump that holds all of its database. What does not have the checksum of its manifest does not count, whatever came of
/// it.
pub(in crate::agent) async fn restore(
    dump: Dump<'_>,
    server: &Server,
    stop: &CancellationToken,
) -> Result<Restored, Ended> {
    Box::pin(restore_known(dump, (server, Known::default()), stop)).await
}

/// Likewise, one of which it is known what it lacks.
pub(super) async fn restore_known(
    dump: Dump<'_>,
    (server, known): (&Server, Known<'_>),
    stop: &CancellationToken,
) -> Result<Restored, Ended> {
    let mut judge = Judge::new(known);
    let fed = Box::pin(dump.read(stop, async |reader| fed(reader, server, &mut judge, stop).await)).await;
    let (success, ignored) = match fed {
        Ok(ended) => ended?,
        Err(OpenError::Read(error)) => return Err(error.into()),
        Err(error @ OpenError::Sealed { .. }) => return fault(DrillFault::WrongIdentity, error.to_string()),
    };
    judge.verdict(success, ignored, &dump.object.key)
}

/// Feeds `pg_restore`. Gives whether it succeeded, and after how many errors it says that it went on.
async fn fed(
    dump: DumpReader<'_>,
    server: &Server,
    judge: &mut Judge<'_>,
    stop: &CancellationToken,
) -> Result<(bool, Option<u64>), Ended> {
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
    let feed = async {
        // It closes its input when it has seen enough, or failed: its words tell which.
        let fed = tokio::io::copy_buf(dump, &mut input).await;
        let _ = input.shutdown().await;
        drop(input);
        fed.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    };
    let listen = pg_restore::errors_in(errors, |problem| judge.hear(&problem));
    let (ignored, broken) = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(Ended::Stopped),
        both = async { tokio::join!(listen, feed) } => both,
    };
    let status = child.wait().await.map_err(not_run)?;
    if let Some(broken) = broken {
        judge.broken(&broken);
    }
    Ok((status.success(), ignored))
}
