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

/// Waits for the lock, up to the limit.
pub(super) async fn take(
    target: &PostgresTarget,
    args: &DumpArgs,
    stop: &CancellationToken,
) -> Result<Lock, DumpError> {
    let limit = Duration::from_secs(args.lock_timeout_seconds.into());
    let request = LockRequest { keys: LOCK_KEYS, application: APPLICATION, limit };
    let mut told = String::new();
    let waits = |holder: &str| {
        if told != holder {
            holder.clone_into(&mut told);
            tracing::info!(holder, "the dump waits for the lock that excludes migrations");
        }
    };
    let taken = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(DumpError::Stopped),
        taken = AdvisoryLock::take(target, request, waits) => taken,
    };
    match taken {
        Ok(lock) => Ok(Lock::Held(lock)),
        Err(error @ LockError::Pooled { .. }) => {
            tracing::warn!(%error, "the dump goes on without the lock that excludes migrations");
            Ok(Lock::Impossible(error))
        }
        Err(error) => Err(error.into()),
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
    pub(super) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, DumpError>>,
        end: &CancellationToken,
    ) -> Result<T, DumpError> {
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
            Err(DumpError::Stopped) => Err(lost.into()),
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
