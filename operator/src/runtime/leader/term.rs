//! The time during which this process leads: renewed until it is released or lost.
//!
//! The deadline is kept as an [`Instant`], which goes on while the process is stopped (`SIGSTOP`, a paused container). So a process
//! that wakes up finds at its next check of the [`Fence`] that its time is over, before the task that renews has run.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::{sleep, sleep_until, timeout_at};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Elector, record,
    store::{StoreError, timely},
};

/// This process is the holder of the lease. Dropping it ends the renewals without a release: the others wait until the lease expires.
#[derive(Debug)]
#[must_use = "the lease is renewed as long as this lives"]
pub struct Leadership {
    term: Arc<Term>,
    task: AbortOnDropHandle<()>,
}

impl Leadership {
    pub(super) fn begin(elector: Elector, lease: Lease, sent: Instant) -> Self {
        let term = Arc::new(Term {
            last: Mutex::new(Renewal { deadline: sent + elector.config.renew_deadline, lease }),
            lost: CancellationToken::new(),
            released: CancellationToken::new(),
        });
        let task = tokio::spawn(hold(elector, Arc::clone(&term)));
        Self { term, task: AbortOnDropHandle::new(task) }
    }

    /// Cancelled when the lease is lost, not when it is released. The process should exit then.
    pub fn lost(&self) -> CancellationToken {
        self.term.lost.clone()
    }

    /// The fence to check before each write.
    pub fn fence(&self) -> Fence {
        Fence(Some(Arc::clone(&self.term)))
    }

    /// Whether this process may write, now.
    pub fn is_valid(&self) -> bool {
        self.term.is_valid()
    }

    /// Gives the lease up, so that another replica takes it at its next attempt. All writes must have ended before.
    pub async fn release(mut self) {
        self.term.released.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "failed to release the lease");
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        // Nobody renews any more; a fence that is still around has to know.
        if !self.term.released.is_cancelled() {
            self.term.lost.cancel();
        }
    }
}

/// Says whether this process may still write. Clones share one answer, and no is final.
///
/// A request that was sent while the answer was yes must end within the lease duration less the renew deadline, 5 s by default:
/// then another replica may lead.
#[derive(Clone, Debug)]
pub struct Fence(Option<Arc<Term>>);

impl Fence {
    /// A fence that never closes, for a process that runs without leader election.
    pub fn open() -> Self {
        Self(None)
    }

    /// Whether this process may write, now.
    pub fn is_valid(&self) -> bool {
        self.0.as_ref().is_none_or(|term| term.is_valid())
    }
}

#[derive(Debug)]
struct Term {
    last: Mutex<Renewal>,
    lost: CancellationToken,
    released: CancellationToken,
}

/// The last renewal that succeeded: the lease as it was written, and until when this process leads by it.
#[derive(Debug)]
struct Renewal {
    lease: Lease,
    deadline: Instant,
}

impl Term {
    fn is_valid(&self) -> bool {
        let valid = Instant::now() < self.last().deadline;
        if !valid {
            self.lost.cancel();
        }
        valid && !self.lost.is_cancelled() && !self.released.is_cancelled()
    }

    /// A renewal that comes after the deadline does not bring the term back: a caller of the fence may already know that it is over.
    fn extend(&self, lease: Lease, deadline: Instant) -> bool {
        let mut last = self.last();
        let in_time = Instant::now() < last.deadline && !self.lost.is_cancelled();
        if in_time {
            *last = Renewal { lease, deadline };
        }
        in_time
    }

    fn last(&self) -> MutexGuard<'_, Renewal> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a term ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it was not renewed in time")]
    Deadline,
    #[error("it is held by \"{0}\"")]
    Taken(String),
}

async fn hold(elector: Elector, term: Arc<Term>) {
    let lease = &elector.config.name;
    tokio::select! {
        biased;
        () = term.released.cancelled() => match release(&elector, &term).await {
            Ok(()) => tracing::info!(lease, "released"),
            Err(error) => tracing::warn!(lease, %error, "failed to release the lease"),
        },
        end = renew_until_lost(&elector, &term) => {
            tracing::error!(lease, %end, "lost the lease");
            term.lost.cancel();
        }
    }
}

/// Renews until that fails for good.
async fn renew_until_lost(elector: &Elector, term: &Term) -> End {
    loop {
        let deadline = term.last().deadline.into();
        // The deadline first: after a stop both timers are due, and a lease that is over must not be written.
        tokio::select! {
            biased;
            () = sleep_until(deadline) => return End::Deadline,
            () = term.lost.cancelled() => return End::Deadline,
            () = sleep(elector.config.retry_period) => {}
        }
        match timeout_at(deadline, renew(elector, term)).await {
            Err(_) | Ok(Ok(false)) => return End::Deadline,
            Ok(Ok(true)) => {}
            Ok(Err(RenewError::Taken(by))) => return End::Taken(by),
            Ok(Err(RenewError::Store(error))) => {
                tracing::warn!(lease = elector.config.name, %error, "failed to renew the lease");
            }
        }
    }
}

enum RenewError {
    Taken(String),
    Store(StoreError),
}

/// One write, with the version of the last one. After a conflict one more read shows whether the lease is still ours: a label was
/// changed, or an earlier renewal had its effect although its answer was lost.
async fn renew(elector: &Elector, term: &Term) -> Result<bool, RenewError> {
    let lease = term.last().lease.clone();
    match replace(elector, term, &lease).await {
        Err(StoreError::Conflict) => {}
        done => return done.map_err(RenewError::Store),
    }
    let found = timely(elector.config.request_limit(), elector.store.get()).await.map_err(RenewError::Store)?;
    match found {
        Some(lease) if record::holder(&lease) == Some(&elector.config.identity) => {
            replace(elector, term, &lease).await.map_err(RenewError::Store)
        }
        other => Err(RenewError::Taken(other.as_ref().and_then(record::holder).unwrap_or_default().to_owned())),
    }
}

async fn replace(elector: &Elector, term: &Term, lease: &Lease) -> Result<bool, StoreError> {
    let config = &elector.config;
    // Counted from before the request: the others count from its effect, which is later.
    let deadline = Instant::now() + config.renew_deadline;
    let renewed = timely(config.request_limit(), elector.store.replace(record::renewed(lease, config))).await?;
    Ok(term.extend(renewed, deadline))
}

/// A renewal may have been under way: then the version is old, and one more read gives the new one.
async fn release(elector: &Elector, term: &Term) -> Result<(), StoreError> {
    let lease = term.last().lease.clone();
    timely(elector.config.request_limit(), async {
        match elector.store.replace(record::released(&lease)).await {
            Err(StoreError::Conflict) => {}
            done => return done.map(drop),
        }
        match elector.store.get().await? {
            Some(lease) if record::holder(&lease) == Some(&elector.config.identity) => {
                elector.store.replace(record::released(&lease)).await.map(drop)
            }
            _ => Ok(()),
        }
    })
    .await
}
