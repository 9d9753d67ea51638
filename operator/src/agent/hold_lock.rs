//! Holds the lock that excludes dumps for as long as a migration runs beside it, and tells the probe of its container.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::HoldLockArgs;
use super::authorities::Authorities;
use super::database;
use super::error::DumpError;
use crate::contract::{LOCK_KEYS, MIGRATION_SESSION};
use crate::services::postgres::{AdvisoryLock, LockRequest};

/// What `pg_stat_activity` shows of the session.
const APPLICATION: &str = "rorun-operator migration";

/// Whether the lock is held, from one process of the container to another.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Held,
    NotHeld { why: String },
}

/// Takes the lock and holds it until it is told to stop. It ends with an error when the lock cannot be had, or is lost.
pub(super) async fn hold(args: &HoldLockArgs, stop: &CancellationToken) -> Result<(), DumpError> {
    // First of all: a container that starts anew finds the file of the one before it.
    set(&args.lock_file, &not_held("connecting to the database"))?;
    let mut lock = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(DumpError::Stopped),
        taken = take(args) => taken?,
    };
    set(&args.lock_file, &State::Held)?;
    tracing::info!("the lock is held");
    let lost = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        lost = lock.lost() => Some(lost),
    };
    set(&args.lock_file, &not_held("the lock was given back or lost"))?;
    if let Some(lost) = lost {
        return Err(lost.into());
    }
    lock.release().await;
    Ok(())
}

async fn take(args: &HoldLockArgs) -> Result<AdvisoryLock, DumpError> {
    let authorities = Authorities::of_database(args.database_ca_file.as_deref())?;
    let database = database::connect(&args.database_url, &authorities).await?;
    let limit = Duration::from_secs(args.timeout_seconds.into());
    let request = LockRequest { keys: LOCK_KEYS, application: APPLICATION, limit };
    let mut told = String::new();
    let waits = |holder: &str| {
        if told != holder {
            holder.clone_into(&mut told);
            tracing::info!(holder, "waiting for the lock");
            // The probe goes on to say what was true before; the log has the error.
            if let Err(error) = set(&args.lock_file, &not_held(&format!("waiting for the lock: {holder}"))) {
                tracing::warn!(%error, "the probe is not told");
            }
        }
    };
    let lock = AdvisoryLock::take(&database.target, request, waits).await?;
    if begun(&args.lock_file).exists() {
        // The container starts anew beside the migration, whose session is the one that there is.
        return Ok(lock);
    }
    // No attempt begins beside the server process of one that was ended.
    let waits = |session: &str| {
        tracing::info!(session, "waiting for the end of an earlier attempt");
        if let Err(error) = set(&args.lock_file, &not_held(&format!("waiting to be alone: {session}"))) {
            tracing::warn!(%error, "the probe is not told");
        }
    };
    lock.wait_alone(MIGRATION_SESSION, limit, waits).await?;
    let begun = begun(&args.lock_file);
    fs::write(&begun, []).map_err(|source| DumpError::LockFile { path: begun, source })?;
    Ok(lock)
}

/// The file that says that the lock was held once, so that the migration of this pod has begun.
fn begun(lock_file: &Path) -> PathBuf {
    lock_file.with_extension("begun")
}

fn not_held(why: &str) -> State {
    State::NotHeld { why: why.to_owned() }
}

/// A probe that reads at the same time reads all of the old or all of the new.
fn set(file: &Path, state: &State) -> Result<(), DumpError> {
    let partial = file.with_extension("partial");
    let written = serde_json::to_vec(state).map_err(std::io::Error::from);
    let written = written.and_then(|json| fs::write(&partial, json)).and_then(|()| fs::rename(&partial, file));
    written.map_err(|source| DumpError::LockFile { path: file.to_owned(), source })
}

/// Whether the lock is held, or else why not.
pub(super) fn is_held(file: &Path) -> Result<(), String> {
    let read = fs::read(file).map_err(|error| format!("failed to read {}: {error}", file.display()))?;
    match serde_json::from_slice(&read) {
        Ok(State::Held) => Ok(()),
        Ok(State::NotHeld { why }) => Err(why),
        Err(error) => Err(format!("failed to read {}: {error}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_only_where_the_file_says_so() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("lock.json");
        assert!(is_held(&file).expect_err("no file").contains("lock.json"));
        set(&file, &not_held("waiting for the lock: session 7 holds it")).expect("write");
        assert_eq!(is_held(&file), Err("waiting for the lock: session 7 holds it".to_owned()));
        set(&file, &State::Held).expect("write");
        assert_eq!(is_held(&file), Ok(()));
        fs::write(&file, "held").expect("write");
        assert!(is_held(&file).is_err(), "a text that is no state");
    }

    #[tokio::test]
    async fn what_an_earlier_container_wrote_does_not_count() {
        let folder = tempfile::tempdir().expect("folder");
        let lock_file = folder.path().join("lock.json");
        set(&lock_file, &State::Held).expect("write");
        let args = HoldLockArgs {
            timeout_seconds: 1,
            database_ca_file: None,
            lock_file: lock_file.clone(),
            termination_path: folder.path().join("result"),
            database_url: "postgres://u@127.0.0.1:1/d".to_owned(),
        };
        hold(&args, &CancellationToken::new()).await.expect_err("nothing listens there");
        assert!(is_held(&lock_file).is_err());
    }
}
