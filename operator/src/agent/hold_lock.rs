//! Holds the lock that excludes dumps for as long as a migration runs beside it, and tells the containers of its pod.
//!
//! Three containers of a pod of a migration follow one another: one takes the lock and holds it, one waits for that, and one runs the
//! command. So the end of the second one tells whether the command was ever run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::authorities::Authorities;
use super::error::DumpError;
use super::{AwaitLockArgs, HoldLockArgs};
use super::{database, outcome};
use crate::contract::{LOCK_KEYS, LockOutcome, MIGRATION_SESSION};
use crate::services::postgres::{AdvisoryLock, LockRequest};

/// What `pg_stat_activity` shows of the session.
const APPLICATION: &str = "rorun-operator migration";
/// How long the first container of a pod waits. Only the end of a container reaches the status of its pod, so it ends to tell who holds
/// the lock, and the next one goes on to wait: the kubelet starts it at once (source: the documentation of Kubernetes on pods that
/// restart).
const TELLS_AFTER: Duration = Duration::from_secs(10);
/// The file beside that of the lock with the migrations that were applied before.
const BEFORE: &str = "before";
/// How many migrations are told: a termination message has 4 KiB.
const TOLD: usize = 20;
/// How often the file is read.
const POLL: Duration = Duration::from_millis(250);

/// Whether the lock is held, from one container of the pod to another.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Held,
    /// It is not, and why as far as it is known by now.
    NotHeld(LockOutcome),
}

/// Takes the lock and holds it until it is told to stop. It ends as well when the lock cannot be had, or is lost.
pub(super) async fn hold(args: &HoldLockArgs, stop: &CancellationToken) -> LockOutcome {
    let ended = take_and_hold(args, stop).await.unwrap_or_else(|error| outcome::of_lock(&error, args));
    if ended.message().is_some() {
        tell(&args.lock_file, ended.clone());
    }
    ended
}

async fn take_and_hold(args: &HoldLockArgs, stop: &CancellationToken) -> Result<LockOutcome, DumpError> {
    // First of all: a container that starts anew finds the file of the one before it, which may have had the lock. Why it had not is
    // all that is known by now.
    if !matches!(read(&args.lock_file), Ok(State::NotHeld(_))) {
        let message = "connecting to the database".to_owned();
        set(&args.lock_file, &State::NotHeld(LockOutcome::Unreachable { message }))?;
    }
    let told = beside(&args.lock_file, "told");
    let first = if told.exists() { Duration::MAX } else { TELLS_AFTER };
    let taken = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(DumpError::Stopped),
        taken = timeout(first, take(args)) => taken,
    };
    let Ok(taken) = taken else {
        mark(&told)?;
        let known =
            read(&args.lock_file).map_err(|source| DumpError::LockFile { path: args.lock_file.clone(), source });
        return match known? {
            State::NotHeld(known) => Ok(known),
            State::Held => Ok(LockOutcome::Released),
        };
    };
    let mut lock = taken?;
    set(&args.lock_file, &State::Held)?;
    tracing::info!("the lock is held");
    let lost = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        lost = lock.lost() => Some(lost),
    };
    if let Some(lost) = lost {
        return Err(lost.into());
    }
    let message = "the lock was given back".to_owned();
    set(&args.lock_file, &State::NotHeld(LockOutcome::Lost { message }))?;
    let applied = applied(&lock, &args.lock_file).await;
    lock.release().await;
    Ok(applied.map_or(LockOutcome::Released, |migrations| LockOutcome::Applied { migrations }))
}

/// The migrations that were applied while the lock was held. `None`: nothing tells.
async fn applied(lock: &AdvisoryLock, lock_file: &Path) -> Option<Vec<String>> {
    let before: Vec<String> = serde_json::from_slice(&fs::read(beside(lock_file, BEFORE)).ok()?).ok()?;
    let mut now = migrations(lock).await?;
    if now.is_empty() {
        return None;
    }
    now.retain(|name| !before.contains(name));
    Some(now.split_off(now.len().saturating_sub(TOLD)))
}

async fn migrations(lock: &AdvisoryLock) -> Option<Vec<String>> {
    let read = lock.migrations().await;
    read.inspect_err(|error| tracing::info!(%error, "it is not known which migrations are applied")).ok()
}

async fn take(args: &HoldLockArgs) -> Result<AdvisoryLock, DumpError> {
    let authorities = Authorities::of_database(args.database_ca_file.as_deref())?;
    let database = database::connect(&args.database_url, &authorities).await?;
    let limit = Duration::from_secs(args.timeout_seconds.into());
    let request = LockRequest { keys: LOCK_KEYS, application: APPLICATION, limit };
    let waits = told_once(&args.lock_file, "waiting for the lock: ");
    let lock = AdvisoryLock::take(&database.target, request, waits).await?;
    let begun = beside(&args.lock_file, "begun");
    if begun.exists() {
        // The container starts anew beside the migration, whose session is the one that there is.
        return Ok(lock);
    }
    // No attempt begins beside the server process of one that was ended.
    lock.wait_alone(MIGRATION_SESSION, limit, told_once(&args.lock_file, "waiting to be alone: ")).await?;
    if let Some(names) = migrations(&lock).await {
        let json = serde_json::to_vec(&names).unwrap_or_default();
        let file = beside(&args.lock_file, BEFORE);
        fs::write(&file, json).map_err(|source| DumpError::LockFile { path: file, source })?;
    }
    mark(&begun)?;
    Ok(lock)
}

/// Tells who is in the way, each time that it is somebody else.
fn told_once(lock_file: &Path, what: &str) -> impl FnMut(&str) {
    let mut told = String::new();
    move |who| {
        let message = format!("{what}{who}");
        if told != message {
            tracing::info!("{message}");
            told.clone_from(&message);
            tell(lock_file, LockOutcome::TimedOut { message });
        }
    }
}

/// Tells the other containers why the lock is not held. Failing that they go on with what was true before; the log has the error.
fn tell(lock_file: &Path, why: LockOutcome) {
    if let Err(error) = set(lock_file, &State::NotHeld(why)) {
        tracing::warn!(%error, "the container that waits is not told");
    }
}

/// A file that lasts as long as the pod does: `begun` says that the lock was held once, so that the migration of this pod may run, and
/// `told` that a container has ended to tell who holds it.
fn beside(lock_file: &Path, what: &str) -> PathBuf {
    lock_file.with_extension(what)
}

fn mark(file: &Path) -> Result<(), DumpError> {
    fs::write(file, []).map_err(|source| DumpError::LockFile { path: file.to_owned(), source })
}

/// Whoever reads at the same time reads all of the old or all of the new.
fn set(file: &Path, state: &State) -> Result<(), DumpError> {
    let partial = file.with_extension("partial");
    let written = serde_json::to_vec(state).map_err(io::Error::from);
    let written = written.and_then(|json| fs::write(&partial, json)).and_then(|()| fs::rename(&partial, file));
    written.map_err(|source| DumpError::LockFile { path: file.to_owned(), source })
}

fn read(file: &Path) -> io::Result<State> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

/// Waits until the lock is held. The error: why it is not.
pub(super) async fn await_held(args: &AwaitLockArgs, stop: &CancellationToken) -> Result<(), LockOutcome> {
    let until = Instant::now() + Duration::from_secs(args.timeout_seconds.into());
    loop {
        let why = match read(&args.lock_file) {
            Ok(State::Held) => return Ok(()),
            // No session of this URL ever lasts.
            Ok(State::NotHeld(why @ LockOutcome::PooledConnection { .. })) => return Err(why),
            Ok(State::NotHeld(why)) => why,
            Err(error) => {
                let message =
                    format!("failed to read {}, by which the lock is told: {error}", args.lock_file.display());
                LockOutcome::Unreachable { message }
            }
        };
        if Instant::now() >= until {
            return Err(why);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(LockOutcome::Stopped),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn waiting(seconds: u32, lock_file: &Path) -> AwaitLockArgs {
        let termination_path = lock_file.with_extension("result");
        AwaitLockArgs { timeout_seconds: seconds, termination_path, lock_file: lock_file.to_owned() }
    }

    fn why(of: impl Fn(String) -> LockOutcome) -> LockOutcome {
        of("m".to_owned())
    }

    /// What the file says when the wait is over, and whether another attempt may go further.
    #[rstest]
    #[case::another_session(why(|message| LockOutcome::TimedOut { message }), 120, true)]
    #[case::no_database(why(|message| LockOutcome::Unreachable { message }), 120, true)]
    #[case::it_was_lost_at_once(why(|message| LockOutcome::Lost { message }), 120, true)]
    #[case::no_such_password(why(|message| LockOutcome::Failed { message }), 120, false)]
    #[case::no_lock_in_a_pooler(why(|message| LockOutcome::PooledConnection { message }), 0, false)]
    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_what_is_known(#[case] why: LockOutcome, #[case] seconds: u64, #[case] may_pass: bool) {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("lock.json");
        set(&file, &State::NotHeld(why.clone())).expect("write");
        let (args, started) = (waiting(120, &file), Instant::now());
        assert_eq!(await_held(&args, &CancellationToken::new()).await, Err(why.clone()));
        assert_eq!((started.elapsed().as_secs(), why.may_pass()), (seconds, may_pass));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_once_the_lock_is_held_and_not_by_a_text_that_is_no_state() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("lock.json");
        let stop = CancellationToken::new();
        let missing = await_held(&waiting(1, &file), &stop).await.expect_err("no file");
        assert!(missing.may_pass() && missing.message().is_some_and(|said| said.contains("lock.json")), "{missing:?}");
        fs::write(&file, "held").expect("write");
        await_held(&waiting(1, &file), &stop).await.expect_err("a text that is no state");
        let args = waiting(60, &file);
        let held = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            set(&file, &State::Held).expect("write");
        };
        assert_eq!(tokio::join!(await_held(&args, &stop), held).0, Ok(()));
        fs::remove_file(&file).expect("remove");
        stop.cancel();
        assert_eq!(await_held(&args, &stop).await, Err(LockOutcome::Stopped));
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
        let ended = hold(&args, &CancellationToken::new()).await;
        assert!(matches!(ended, LockOutcome::Unreachable { .. }), "nothing listens there: {ended:?}");
        assert_eq!(read(&lock_file).expect("a state"), State::NotHeld(ended));
    }
}
