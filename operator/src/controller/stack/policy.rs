//! When a stack is reconciled again although no event asks for it: a table by what it waits for.

use std::time::Duration;

use kube::runtime::controller::Action;

use super::Context;
use crate::{
    apply::{Applied, BELIEVED_FOR},
    names::{Component, reason},
    objects::Readiness,
    runtime::{RETRY, ResourceKey, spread},
};

/// How a reconcile ended.
pub(super) enum Ending {
    /// Everything is as desired, or a watch will report when it is.
    Settled,
    /// It will be settled once the cache shows the last writes, which it should soon.
    Unseen,
    /// An object changed after the reconcile had observed it.
    Again,
    /// A write was refused, and no watch will report when it is possible.
    Refused,
}

impl Ending {
    /// The ending of a reconcile that applied. A component may wait for an object that no watch shows, also when another one is
    /// the root cause.
    pub(super) fn of(applied: &Applied, readiness: &[(Component, Readiness)]) -> Self {
        let unwatched = readiness.iter().any(|(_, readiness)| match readiness {
            Readiness::Waiting(waiting) => matches!(
                waiting.reason,
                reason::NAME_TAKEN
                    | reason::FORBIDDEN
                    | reason::APPLY_FAILED
                    | reason::TERMINATING
                    | reason::VOLUME_TERMINATING
            ),
            Readiness::Ready => false,
        });
        if applied.again {
            Self::Again
        } else if !applied.refused.is_empty() || unwatched {
            Self::Refused
        } else if applied.unseen {
            Self::Unseen
        } else {
            Self::Settled
        }
    }
}

/// When the next reconcile is due.
pub(super) fn next(context: &Context, key: &ResourceKey, ending: &Ending) -> Action {
    next_within(context, key, ending, None)
}

/// As [`next`], or sooner where a verdict changes by time alone, in so many seconds; one more, since moments are whole seconds.
pub(super) fn next_within(context: &Context, key: &ResourceKey, ending: &Ending, requeue_after: Option<u64>) -> Action {
    let requeue = &context.runtime.requeue;
    let pause = match ending {
        Ending::Settled => {
            requeue.reset(key);
            spread(context.resync, key)
        }
        Ending::Unseen => spread(BELIEVED_FOR, key) + RETRY.0,
        Ending::Again | Ending::Refused => requeue.back_off(key),
    };
    let after = requeue_after.map(|seconds| Duration::from_secs(seconds) + Duration::from_secs(1));
    Action::requeue(after.map_or(pause, |after| after.min(pause)))
}
