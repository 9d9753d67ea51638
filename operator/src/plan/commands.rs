//! Commands: annotations that ask for something once. One is obeyed when its value differs from the last handled one, and it is
//! handled once the step that it asks for exists.

use super::meaning;
use crate::stack::{Command, Handled, Observed};

/// What a command that was not handled yet means, as the end of its step's name.
pub(super) fn pending(observed: &Observed, annotation: &str) -> Option<String> {
    let value = observed.annotations.get(annotation)?;
    let last = observed.handled.as_ref().and_then(|handled| handled.commands.get(annotation));
    if last.is_some_and(|last| last.value == *value) {
        return None;
    }
    let count = last.map_or(0, |last| last.count) + 1;
    Some(meaning(&[annotation, value, &count.to_string()]))
}

/// The record, with the commands that are handled now, each with its value. One that is gone stays in it: once it comes back with the
/// same value, nothing is asked for.
pub(super) fn handled(observed: &Observed, now: impl IntoIterator<Item = (String, String)>) -> Option<Handled> {
    let mut handled = observed.handled.clone().unwrap_or_default();
    let before = handled.revision;
    for (command, value) in now {
        let last = handled.commands.get(&command);
        if last.is_some_and(|last| last.value == value) {
            continue;
        }
        let count = last.map_or(0, |last| last.count) + 1;
        handled.commands.insert(command, Command { value, count });
        handled.revision = before + 1;
    }
    (handled.revision > 0).then_some(handled)
}
