//! When a CronJob fires: exactly what the API server takes as its schedule and time zone, and the next moment.
//!
//! The grammar is that of `ParseStandard` of robfig/cron v3, which the API server uses
//! (source: <https://pkg.go.dev/github.com/robfig/cron/v3>, `pkg/apis/batch/validation` of Kubernetes): other crates know more
//! than it, and what they know more would be refused by the API server. The crate computes the moments.

use std::str::FromStr;

use croner::Cron;
use jiff::{Timestamp, Zoned, tz::TimeZone};

use crate::names::{Waiting, reason};

/// A schedule that the API server takes.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// `None`: a field names no value, as `,` does, which the API server takes.
    cron: Option<Cron>,
    zone: TimeZone,
}

/// One of the five fields.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day of the month", min: 1, max: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, names: MONTHS },
    Field { name: "day of the week", min: 0, max: 6, names: DAYS },
];

/// Names of whole schedules.
const DESCRIPTORS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Refuses what the API server would refuse in the CronJob of the backups, and a schedule that never fires.
pub(super) fn check(schedule: &str, time_zone: &str) -> Result<Schedule, Waiting> {
    let parsed = Schedule::parse(schedule, time_zone).and_then(|parsed| match parsed.next(0) {
        Some(_) => Ok(parsed),
        None => Err(format!("schedule {schedule} never fires: no such day comes")),
    });
    parsed.map_err(|problem| {
        let message = format!("spec.backup.{problem}; the schedule that was applied before stays as it is");
        Waiting::new(reason::INVALID_SPEC, message)
    })
}

impl Schedule {
    /// Reads the schedule and the time zone of a CronJob. The error is a sentence about the value, for behind the name of its
    /// field.
    pub fn parse(schedule: &str, time_zone: &str) -> Result<Self, String> {
        let expanded = match DESCRIPTORS.iter().find(|(name, _)| *name == schedule) {
            Some((_, fields)) => fields,
            None if schedule.starts_with('@') => {
                let names: Vec<_> = DESCRIPTORS.iter().map(|(name, _)| *name).collect();
                return Err(format!("schedule {schedule} is none of {}", names.join(", ")));
            }
            None => schedule,
        };
        if expanded.contains("TZ") {
            return Err("schedule names a time zone: set timeZone instead".to_owned());
        }
        let parts: Vec<&str> = expanded.split_whitespace().collect();
        if parts.len() != FIELDS.len() {
            let count = parts.len();
            return Err(format!(
                "schedule has {count} fields, not 5: minute, hour, day of the month, month, day of the week"
            ));
        }
        let fields = FIELDS.iter().zip(parts).map(|(field, text)| {
            field.read(text).map_err(|problem| format!("schedule has the {} {text}, {problem}", field.name))
        });
        let fields: Vec<String> = fields.collect::<Result<_, String>>()?;
        let cron = if fields.iter().any(String::is_empty) {
            None
        } else {
            let cron = Cron::from_str(&fields.join(" "));
            Some(cron.map_err(|error| format!("schedule cannot be used: {error}"))?)
        };
        Ok(Self { cron, zone: zone(time_zone)? })
    }

    /// The first moment after another one, both in seconds since 1970. `None`: it never fires again, as on the 30th of
    /// February. A moment that clocks skip in spring is none for a CronJob, while the crate moves it to the end of the gap.
    pub fn next(&self, after: i64) -> Option<i64> {
        let (cron, mut at) = (self.cron.as_ref()?, self.zoned(after)?);
        loop {
            at = cron.find_next_occurrence(&at, false).ok()?;
            if cron.is_time_matching(&at).ok()? {
                return Some(at.timestamp().as_second());
            }
        }
    }

    /// The last moment until another one, both in seconds since 1970.
    pub fn previous(&self, until: i64) -> Option<i64> {
        let at = self.cron.as_ref()?.find_previous_occurrence(&self.zoned(until)?, true).ok()?;
        Some(at.timestamp().as_second())
    }

    fn zoned(&self, second: i64) -> Option<Zoned> {
        Some(Timestamp::from_second(second).ok()?.to_zoned(self.zone.clone()))
    }
}

/// A time zone by its exact name: the API server opens a file of that name, so case matters.
fn zone(name: &str) -> Result<TimeZone, String> {
    let known = TimeZone::get(name).ok().filter(|zone| zone.iana_name() == Some(name));
    known.ok_or_else(|| {
        format!("timeZone {name} is not known: write a name of the IANA time zone database as it is spelled there, e.g. Africa/Lagos")
    })
}

impl Field {
    /// The values as a list of numbers, or `*`; empty for none. The first two differ in meaning: of the two fields of days, one
    /// that is `*` leaves the choice to the other.
    fn read(&self, text: &str) -> Result<String, String> {
        let mut values = vec![false; self.max as usize + 1];
        let mut all = false;
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (range, star) = self.range(item)?;
            all |= star;
            range.for_each(|value| values[value as usize] = true);
        }
        let list: Vec<_> =
            (self.min..=self.max).filter(|value| values[*value as usize]).map(|v| v.to_string()).collect();
        Ok(if all { "*".to_owned() } else { list.join(",") })
    }

    /// `*`, `?`, `a`, `a-b`, each with `/step` behind it.
    fn range(&self, item: &str) -> Result<(impl Iterator<Item = u32> + use<>, bool), String> {
        let (range, step) = match item.split('/').collect::<Vec<_>>()[..] {
            [range] => (range, None),
            [range, step] => (range, Some(number(step)?)),
            _ => return Err("which has too many slashes".to_owned()),
        };
        let ends: Vec<_> = range.split('-').collect();
        let star = matches!(ends[0], "*" | "?");
        let (start, end) = match ends[..] {
            _ if star => (self.min, self.max),
            [only] if step.is_some() => (self.value(only)?, self.max),
            [only] => (self.value(only)?, self.value(only)?),
            [start, end] => (self.value(start)?, self.value(end)?),
            _ => return Err("which has too many hyphens".to_owned()),
        };
        if start < self.min || end > self.max {
            return Err(format!("which is outside of {} to {}", self.min, self.max));
        }
        if start > end {
            return Err("which begins after its end".to_owned());
        }
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err("whose step is 0".to_owned());
        }
        Ok(((start..=end).step_by(step as usize), star && step == 1))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        match named.and_then(|index| u32::try_from(index).ok()) {
            Some(index) => Ok(index + self.min),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("of which {text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("15 2 * * *", "Etc/UTC", "2026-03-01T02:14:00Z", "2026-03-01T02:15:00Z")]
    #[case("15 2 * * *", "Africa/Lagos", "2026-03-01T02:14:00Z", "2026-03-02T01:15:00Z")]
    #[case("0/20 * * * *", "Etc/UTC", "2026-03-01T00:20:00Z", "2026-03-01T00:40:00Z")]
    #[case("@weekly", "Etc/UTC", "2026-03-02T00:00:00Z", "2026-03-08T00:00:00Z")]
    // Both fields of days are restricted: either is enough. A step restricts, a star does not.
    #[case("0 0 13 * FRI", "Etc/UTC", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z")]
    #[case("0 0 ? jan-feb mon", "Etc/UTC", "2026-03-01T00:00:00Z", "2027-01-04T00:00:00Z")]
    fn the_next_moment_is_that_of_the_cron_job(
        #[case] schedule: &str,
        #[case] zone: &str,
        #[case] after: Timestamp,
        #[case] next: Timestamp,
    ) {
        assert_eq!(Schedule::parse(schedule, zone).unwrap().next(after.as_second()), Some(next.as_second()));
    }

    #[test]
    fn a_day_that_never_comes_has_no_moment() {
        let never = Schedule::parse("0 0 30 2 *", "Etc/UTC").unwrap();
        assert_eq!(never.next(0), None);
    }

    #[rstest]
    #[case("61 * * * *", "Etc/UTC", "schedule has the minute 61, which is outside of 0 to 59")]
    #[case("0 0 * * 7", "Etc/UTC", "schedule has the day of the week 7, which is outside of 0 to 6")]
    #[case(
        "0 0 * *",
        "Etc/UTC",
        "schedule has 4 fields, not 5: minute, hour, day of the month, month, day of the week"
    )]
    #[case("0 9-5 * * *", "Etc/UTC", "schedule has the hour 9-5, which begins after its end")]
    #[case("*/0 * * * *", "Etc/UTC", "schedule has the minute */0, whose step is 0")]
    #[case("0 0 * * mon-", "Etc/UTC", "schedule has the day of the week mon-, of which \"\" is no number")]
    #[case(
        "@noon",
        "Etc/UTC",
        "schedule @noon is none of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
    )]
    fn a_schedule_that_is_refused_is_told_with_its_fault(
        #[case] schedule: &str,
        #[case] zone: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(Schedule::parse(schedule, zone).unwrap_err(), expected);
    }

    #[rstest]
    #[case("Africa/Lagoss")]
    #[case("africa/lagos")]
    #[case("Local")]
    #[case("")]
    fn a_time_zone_goes_by_its_exact_name(#[case] zone: &str) {
        let error = Schedule::parse("@daily", zone).unwrap_err();
        assert!(error.starts_with(&format!("timeZone {zone} is not known")), "{error}");
    }
}
