//! Which of several restores goes on.

use super::{State, facts::Facts};
use crate::names::{Waiting, reason};

/// Chooses the restore that goes on: one that has begun, or the oldest that may begin. All others wait for it.
pub(super) fn choose(all: &mut [Facts<'_>], foreign: Option<&str>) -> Option<usize> {
    let may_begin = |facts: &Facts<'_>| !matches!(facts.state(), State::Waiting | State::Refused | State::Broken);
    // One that fills holds the application of a new stack from the start.
    let begun = all.iter().position(Facts::is_on_its_way).filter(|index| !is_spent(&all[*index]));
    let spent = || all.iter().position(Facts::is_on_its_way);
    // Whatever else may begin: the application is stopped until this one is whole.
    let half = all.iter().position(Facts::is_half_done);
    let chosen = half
        .or(begun)
        .or_else(|| all.iter().position(may_begin))
        .or_else(spent)
        .or_else(|| all.iter().position(|facts| facts.request.fills && facts.state() != State::Complete));
    let first = chosen.map(|index| all[index].request.subject());
    for (index, facts) in all.iter_mut().enumerate() {
        if facts.held.is_some() || facts.is_refused() {
            continue;
        }
        if let Some(first) = first.as_ref().filter(|_| chosen != Some(index)) {
            if !facts.has_begun() {
                facts.held = Some(Waiting::new(reason::DEPENDENCY_NOT_READY, format!("{first} goes first")));
            }
        } else if let Some(job) = foreign {
            if facts.has_begun() {
                facts.blocked = Some(job.to_owned());
            } else {
                facts.held =
                    Some(Waiting::new(reason::DEPENDENCY_NOT_READY, format!("it begins once {job} has ended")));
            }
        }
    }
    chosen
}

/// A new stack that could not be filled: another restore may fill it.
fn is_spent(facts: &Facts<'_>) -> bool {
    facts.request.fills && matches!(facts.state(), State::Refused)
}
