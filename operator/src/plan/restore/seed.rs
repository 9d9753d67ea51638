//! The seed of a new stack: a restore that the stack asks for itself, once. What became of it is recorded, so that nothing is filled
//! again, whatever becomes of its Jobs or of the volume.

use super::{State, attempt, facts::Facts};
use crate::stack::{Observed, RestoreRequest, Stack};

/// The key of a command that records the point that the database was filled with, and what of it is in the bucket.
const SEEDED: &str = "seed";
/// That of the data that were found instead.
const FOUND: &str = "seed-found";
/// The longest words of an agent that are recorded.
const LONGEST: usize = 400;

/// The seed that is due, or goes on. A stack that has started without is not seeded any more.
pub(super) fn due<'a>(stack: &'a Stack, observed: &Observed) -> Option<&'a RestoreRequest> {
    let request = &stack.seed.as_ref()?.request;
    let started = observed.releases.served().is_some() || !observed.releases.workloads.is_empty();
    let has_begun = || {
        let mut kinds =
            super::Kind::ALL.into_iter().flat_map(|kind| attempt::names(&stack.name, request, kind).take(1));
        kinds.any(|name| observed.jobs.iter().any(|job| job.name == name))
    };
    (seeded(observed).is_none() && (!started || has_begun())).then_some(request)
}

/// What is recorded.
pub(super) fn seeded(observed: &Observed) -> Option<Result<String, String>> {
    let commands = &observed.handled.as_ref()?.commands;
    let of = |key| commands.get(key).map(|command| command.value.clone());
    of(SEEDED).map(Ok).or_else(|| of(FOUND).map(Err))
}

/// What became of a seed that is over.
pub(super) fn outcome(facts: &Facts<'_>) -> Option<Result<String, String>> {
    if !facts.request.seeds() || facts.state() != State::Complete {
        return None;
    }
    let id = facts.request.point.as_ref().map(|point| point.id.clone()).unwrap_or_default();
    let short = |words: &str| words.chars().take(LONGEST).collect::<String>();
    if let Some(found) = facts.found_data() {
        return Some(Err(short(found)));
    }
    let placed = facts.done(super::Kind::Objects).map(|done| &done.result);
    let count = placed.and_then(|placed| placed.objects).filter(|count| *count > 0);
    let count = count.map(|count| format!(", and the bucket with {count} objects of it")).unwrap_or_default();
    let kept = placed.and_then(|placed| placed.warnings.first());
    let kept = kept.map(|kept| format!("; {kept}")).unwrap_or_default();
    Some(Ok(short(&format!("{id}{count}{kept}"))))
}

/// It as a record.
pub(super) fn record(outcome: Result<String, String>) -> (String, String) {
    match outcome {
        Ok(point) => (SEEDED.to_owned(), point),
        Err(found) => (FOUND.to_owned(), found),
    }
}
