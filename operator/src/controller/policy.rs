//! When a stack is looked at again though nothing happened: a table by what it waits for.

use std::time::Duration;

use kube::runtime::controller::Action;

use super::{Context, StackKey};
use crate::{
    apply::{Applied, BELIEVED_FOR},
    names::{Component, reason},
    objects::Readiness,
};

/// The first and the longest pause before something is tried again that no watch tells of.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// How a reconcile ended.
pub(super) enum Ending {
    /// Everything is as it should be, or a watch will tell.
    Settled,
    /// So it will be when the cache shows what was written, which it should soon.
    Unseen,
    /// It changed underneath.
    Again,
    /// It could not be done, and no watch will tell when it can.
    Refused,
}

impl Ending {
    /// The ending of a pass that refused something, or not. What a component waits for may be an object that no watch shows,
    /// also when something else is the root cause.
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

/// The pause before the next look.
pub(super) fn next(context: &Context, key: &StackKey, ending: &Ending) -> Action {
    next_within(context, key, ending, None)
}

/// As [`next`], or as soon as a verdict turns by time alone, in so many seconds; one more, since moments are of whole seconds.
pub(super) fn next_within(context: &Context, key: &StackKey, ending: &Ending, requeue_after: Option<u64>) -> Action {
    let pause = match ending {
        Ending::Settled => {
            context.memory().attempts.remove(key);
            spread(context.resync, key)
        }
        Ending::Unseen => spread(BELIEVED_FOR, key) + RETRY.0,
        Ending::Again | Ending::Refused => back_off(context, key),
    };
    let turns = requeue_after.map(|seconds| Duration::from_secs(seconds) + Duration::from_secs(1));
    Action::requeue(turns.map_or(pause, |turns| turns.min(pause)))
}

/// Twice as long each time in a row, up to the longest.
pub(super) fn back_off(context: &Context, key: &StackKey) -> Duration {
    let mut memory = context.memory();
    let attempts = memory.attempts.entry(key.clone()).or_default();
    let pause = RETRY.0.saturating_mul(1 << (*attempts).min(10)).min(RETRY.1);
    *attempts += 1;
    context.metrics.retry_scheduled();
    spread(pause, key)
}

/// Up to a fifth longer, by name, so that stacks do not come all at once.
pub(super) fn spread(pause: Duration, key: &StackKey) -> Duration {
    let sum: u32 = key.name.bytes().chain(key.namespace.bytes()).map(u32::from).sum();
    pause + pause / 5 * (sum % 16) / 16
}
