//! Whether backups come when they should: the CronJob fires, and the newest good backup is not too old.
//!
//! Only what was due since the CronJob is as it is counts, so a new schedule and a time of suspension are no fault.

use jiff::Timestamp;

use crate::{
    objects::{Fires, LiveSet},
    stack::Schedule,
};

/// The runs so far.
pub(super) struct Runs {
    /// When the newest good backup was complete, in seconds since 1970.
    pub(super) last: Option<i64>,
    /// Whether a Job runs: until it has ended the CronJob makes no other.
    pub(super) running: bool,
}

/// Why backups are overdue. `late` is how many seconds a run may begin late before that is told.
pub(super) fn overdue(
    (schedule, time_zone): (&str, &str),
    fires: &Fires,
    runs: &Runs,
    late: i64,
    live: &LiveSet,
) -> Option<String> {
    // While it is suspended nothing is due.
    let since = fires.counted_from?;
    // The spec's condition reports a schedule that cannot be parsed.
    let schedule = Schedule::parse(schedule, time_zone).ok()?;
    if !runs.running {
        let from = since.max(fires.last.unwrap_or(i64::MIN));
        let due = schedule.next(from)?;
        if live.has_passed(due + late) {
            return Some(format!(
                "it was due at {} and has not run: look at its events with kubectl describe",
                Timestamp::from_second(due).unwrap_or_default()
            ));
        }
    }
    let newest = runs.last.max(fires.succeeded);
    // Two periods are the time until the second run after the one that made it.
    let from = newest.map_or(since, |newest| newest.max(since));
    let second = schedule.next(schedule.next(from)?)?;
    let took = schedule.previous(from).map_or(0, |began| from - began);
    if !live.has_passed(second + took.min(late)) {
        return None;
    }
    Some(match newest.and_then(|newest| Timestamp::from_second(newest).ok()) {
        Some(newest) => format!("the newest good backup is of {newest}, older than two periods of the schedule"),
        None => "no backup was complete within two periods of the schedule".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const LATE: i64 = 3600;

    fn moment(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a moment").as_second()
    }

    fn backup<'a>(schedule: &'a str, zone: &'a str) -> (&'a str, &'a str) {
        (schedule, zone)
    }

    /// A CronJob that has been there for weeks: when it fired last, when its newest backup was complete, whether a Job runs.
    struct Past {
        fired: &'static str,
        newest: &'static str,
        running: bool,
    }

    fn judge(
        backup: (&str, &str),
        past: &Past,
        counted_from: Option<&str>,
        now: &str,
    ) -> (Option<String>, Option<u64>) {
        let live = LiveSet::default().at(moment(now));
        let fires = Fires { last: Some(moment(past.fired)), succeeded: None, counted_from: counted_from.map(moment) };
        let runs = Runs { last: Some(moment(past.newest)), running: past.running };
        (overdue(backup, &fires, &runs, LATE, &live), live.requeue_after())
    }

    const LONG_AGO: &str = "2026-01-01T00:00:00Z";

    #[rstest]
    #[case::it_fires("2026-05-04T11:15:00Z", "2026-05-04T11:16:00Z", false, "2026-05-04T12:10:00Z", "")]
    #[case::it_is_late("2026-05-04T10:15:00Z", "2026-05-04T10:16:00Z", false, "2026-05-04T12:14:00Z", "")]
    #[case::it_no_longer_fires(
        "2026-05-04T09:15:00Z",
        "2026-05-04T09:16:00Z",
        false,
        "2026-05-04T11:15:00Z",
        "due at 2026-05-04T10:15:00Z"
    )]
    #[case::one_runs_long("2026-05-04T09:15:00Z", "2026-05-04T09:16:00Z", true, "2026-05-04T11:15:30Z", "")]
    #[case::one_runs_for_two_periods(
        "2026-05-04T09:15:00Z",
        "2026-05-04T09:16:00Z",
        true,
        "2026-05-04T11:16:00Z",
        "newest good backup is of 2026-05-04T09:16:00Z"
    )]
    #[case::it_fires_and_nothing_comes_of_it(
        "2026-05-04T11:15:00Z",
        "2026-05-04T09:16:00Z",
        false,
        "2026-05-04T11:16:00Z",
        "older than two periods"
    )]
    fn an_hourly_schedule(
        #[case] fired: &'static str,
        #[case] newest: &'static str,
        #[case] running: bool,
        #[case] now: &str,
        #[case] words: &str,
    ) {
        let past = Past { fired, newest, running };
        let (told, requeue_after) = judge(backup("15 * * * *", "Etc/UTC"), &past, Some(LONG_AGO), now);
        match told {
            None => {
                assert!(words.is_empty() && requeue_after.is_some(), "it is not told, and turns in {requeue_after:?}");
            }
            Some(told) => assert!(!words.is_empty() && told.contains(words), "{told}"),
        }
        let (told, _) = judge(backup("15 * * * *", "Etc/UTC"), &past, None, now);
        assert_eq!(told, None, "nothing is due while it is suspended");
        let (told, _) = judge(backup("once in a while", "Etc/UTC"), &past, Some(LONG_AGO), now);
        assert_eq!(told, None, "what the API server takes and nobody else reads is not judged");
    }

    #[test]
    fn what_was_due_before_it_was_resumed_does_not_count() {
        let past = Past { fired: "2026-05-01T02:15:00Z", newest: "2026-05-01T02:16:00Z", running: false };
        let daily = backup("15 2 * * *", "Etc/UTC");
        let resumed = Some("2026-05-04T12:00:00Z");
        assert_eq!(judge(daily, &past, resumed, "2026-05-05T02:20:00Z").0, None);
        let (told, _) = judge(daily, &past, resumed, "2026-05-05T03:15:00Z");
        assert!(told.is_some_and(|told| told.contains("2026-05-05T02:15:00Z")));
    }

    #[test]
    fn a_weekend_is_no_period_of_a_schedule_of_working_days() {
        let past = Past { fired: "2026-05-01T02:15:00Z", newest: "2026-05-01T02:16:00Z", running: false };
        let daily = backup("15 2 * * 1-5", "Etc/UTC");
        assert_eq!(judge(daily, &past, Some(LONG_AGO), "2026-05-04T02:10:00Z").0, None, "Monday");
        assert!(judge(daily, &past, Some(LONG_AGO), "2026-05-04T03:15:00Z").0.is_some());
    }

    /// In New York 02:15 of 8 March 2026 does not exist, and a CronJob does not fire.
    #[test]
    fn a_moment_that_clocks_skip_is_not_missed() {
        let past = Past { fired: "2026-03-07T07:15:00Z", newest: "2026-03-07T07:16:00Z", running: false };
        let daily = backup("15 2 * * *", "America/New_York");
        assert_eq!(judge(daily, &past, Some(LONG_AGO), "2026-03-08T20:00:00Z").0, None);
        let (told, _) = judge(daily, &past, Some(LONG_AGO), "2026-03-09T07:15:00Z");
        assert!(told.is_some_and(|told| told.contains("2026-03-09T06:15:00Z")), "the day after");
    }

    #[test]
    fn one_that_never_was_good_is_told_after_two_periods() {
        let live = |now| LiveSet::default().at(moment(now));
        let fires = Fires {
            last: Some(moment("2026-05-04T02:15:00Z")),
            succeeded: None,
            counted_from: Some(moment("2026-05-02T12:00:00Z")),
        };
        let runs = Runs { last: None, running: false };
        let daily = backup("15 2 * * *", "Etc/UTC");
        assert_eq!(overdue(daily, &fires, &runs, LATE, &live("2026-05-04T02:20:00Z")), None);
        let told = overdue(daily, &fires, &runs, LATE, &live("2026-05-04T03:15:00Z"));
        assert!(told.is_some_and(|told| told.contains("no backup was complete")));
        // A complete Job of the CronJob counts, even if its pod is gone.
        let fires = Fires { succeeded: Some(moment("2026-05-04T02:16:00Z")), ..fires };
        assert_eq!(overdue(daily, &fires, &runs, LATE, &live("2026-05-04T03:15:00Z")), None);
    }
}
