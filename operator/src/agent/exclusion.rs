//! The lock that keeps a dump and a migration apart, as a dump uses it.
//!
//! `pg_dump` holds locks on every table until it ends, so an `ALTER TABLE` of a migration waits for it, and every query behind the
//! `ALTER TABLE` waits as well: the application would stand still for as long as the dump takes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::DumpArgs;
use super::error::DumpError;
use crate::contract::LOCK_KEYS;
use crate::services::postgres::{AdvisoryLock, LockError, LockRequest, PostgresTarget};

/// What `pg_stat_activity` shows of the session of a dump.
const APPLICATION: &str = "rorun-operator dump";
/// How long `pg_dump` may go on after the lock was lost. A server that stops ends both, and what `pg_dump` says of that names the
/// table that it was at; first it compresses what it has read, which takes a while on a busy node.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(10);

/// The lock, or why there is none.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a run makes one")]
pub(super) enum Lock {
    /// It is held.
    Held(AdvisoryLock),
    /// No session of this URL lasts. A backup is worth more than the lock: migrations, which ask for the lock through the same
    /// URL, are refused instead.
    Impossible(LockError),
}

/// What is done under the lock ends in one of these errors.
pub(super) trait Ended: From<LockError> {
    /// Whether it was told to end.
    fn is_stopped(&self) -> bool;
}

impl Ended for DumpError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

/// Waits for the lock as a dump does: one that cannot be had is told, and no reason to go without a backup.
pub(super) async fn take(
    target: &PostgresTarget,
    args: &DumpArgs,
    stop: &CancellationToken,
) -> Result<Lock, DumpError> {
    let limit = Duration::from_secs(args.lock_timeout_seconds.into());
    let request = LockRequest { keys: LOCK_KEYS, application: APPLICATION, limit };
    match unless_stopped(target, request, stop).await.ok_or(DumpError::Stopped)? {
        Ok(lock) => Ok(Lock::Held(lock)),
        Err(error @ LockError::Pooled { .. }) => {
            tracing::warn!(%error, "the dump goes on without the lock that excludes migrations");
            Ok(Lock::Impossible(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits for the lock as what writes to the database does: without it there is no work. `None`: it was told to stop.
pub(super) async fn require(
    target: &PostgresTarget,
    request: LockRequest<'_>,
    stop: &CancellationToken,
) -> Option<Result<Lock, LockError>> {
    Some(unless_stopped(target, request, stop).await?.map(Lock::Held))
}

async fn unless_stopped(
    target: &PostgresTarget,
    request: LockRequest<'_>,
    stop: &CancellationToken,
) -> Option<Result<AdvisoryLock, LockError>> {
    let mut told = String::new();
    let waits = |holder: &str| {
        if told != holder {
            holder.clone_into(&mut told);
            tracing::info!(holder, "waiting for the lock that excludes dumps and migrations");
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        taken = AdvisoryLock::take(target, request, waits) => Some(taken),
    }
}

impl Lock {
    /// Why there is none.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Held(_) => None,
            Self::Impossible(error) => Some(error.to_string()),
        }
    }

    /// Does some work that ends when it is told to, and tells it to when the lock is lost.
    pub(super) async fn during<T, E: Ended>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
        end: &CancellationToken,
    ) -> Result<T, E> {
        let Self::Held(lock) = self else { return work.await };
        tokio::pin!(work);
        let lost = tokio::select! {
            biased;
            result = &mut work => return result,
            lost = lock.lost() => lost,
        };
        tracing::warn!(error = %lost, "the lock is lost");
        end.cancel();
        // The work may have come to its end meanwhile: then the dump is whole.
        match work.await {
            Err(error) if error.is_stopped() => Err(lost.into()),
            result => result,
        }
    }

    /// Gives it back.
    pub(super) async fn release(self) {
        if let Self::Held(lock) = self {
            lock.release().await;
        }
    }
}
