//! The only place of the controllers with the clock.

use jiff::Timestamp;

/// The time, in whole seconds as statuses keep it.
#[expect(clippy::disallowed_methods, reason = "the clock of the controllers is read here and nowhere else")]
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
