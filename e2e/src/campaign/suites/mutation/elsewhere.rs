//! Fields and values whose effect is not in a child, each with the reason.

use serde_json::Value;

use super::schema::Change;

/// Places of which no value shows in a child: where the effect is.
const ELSEWHERE: &[(&str, &str)] = &[("environment", "it cannot change: admission refuses every other value")];

/// Changes that make no difference: the end of the place, the value, and why.
const SAME: &[(&str, &str, &str)] = &[];

/// Whether no child is expected to show a value of the place.
pub(super) fn is_elsewhere(place: &str) -> bool {
    ELSEWHERE.iter().any(|(end, _)| place.ends_with(end))
}

/// Whether the change makes no difference.
pub(super) fn makes_no_difference(change: &Change) -> bool {
    let value = change.value.as_ref().unwrap_or(&Value::Null);
    let is = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|same| same == *value);
    SAME.iter().any(|(end, same, _)| change.place.ends_with(end) && is(same))
}
