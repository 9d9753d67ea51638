//! Whether the backups can meet what they are measured by, and do. Only objectives that the spec writes are judged.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{
    backup::{has_ended, newest_backup},
    last_verified,
};
use crate::{
    api::v1alpha1::BackupStatus,
    names::{Component as Name, Waiting, reason},
    objects::LiveSet,
    stack::{Backup, Schedule, Stack},
};

/// How an identifier of a recovery point begins.
const TIME: &str = "%Y%m%dT%H%M%SZ";
/// How much later than its schedule a point may begin: a pod has to start, and the CronJob controller looks every ten seconds.
const GRACE: i64 = 600;
/// Enough of a schedule to see its longest pause: a year of days, or half a week of quarters of an hour.
const FIRES: usize = 400;
/// A Monday, to measure schedules from: the result must not depend on today.
const FROM: i64 = 1_767_571_200;

/// When the data of a point are of: its identifier says when it was begun.
pub fn begun(id: &str) -> Option<Timestamp> {
    let time = DateTime::strptime(TIME, id.split('-').next()?).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The objective that is missed, or that the schedule cannot meet.
pub(super) fn missed(stack: &Stack, live: &LiveSet) -> Option<Waiting> {
    let backup = stack.backup.as_ref()?;
    let message =
        impossible(stack, backup).or_else(|| too_old(stack, backup, live)).or_else(|| too_slow(stack, backup, live))?;
    Some(Waiting::new(reason::OBJECTIVE_MISSED, format!("{message} (docs/recovery.md)")))
}

/// Said at once, before anything is lost.
fn impossible(stack: &Stack, backup: &Backup) -> Option<String> {
    let rpo = backup.recovery.rpo?;
    if stack.database.mode().restorable().is_some() {
        // What the provider archives counts, however seldom dumps are made.
        return None;
    }
    // The log counts, and its last segment is archived when it is full or this old.
    if let Some(asked) = &backup.point_in_time {
        return asked.archive_timeout.is_none_or(|timeout| timeout > rpo).then(|| {
            format!(
                "backup.objectives.rpo is {}, and the log is archived later: write \
                 database.cloudNativePG.parameters.archive_timeout, e.g. `{rpo}s`, or a longer rpo",
                words(rpo)
            )
        });
    }
    let pause = longest_pause(&backup.schedule, &backup.time_zone)?;
    (pause > rpo).then(|| {
        format!(
            "backup.objectives.rpo is {}, and the schedule {} pauses for {}: back up more often, or write a longer rpo",
            words(rpo),
            backup.schedule,
            words(pause)
        )
    })
}

/// The longest time between two runs.
fn longest_pause(schedule: &str, time_zone: &str) -> Option<i64> {
    let schedule = Schedule::parse(schedule, time_zone).ok()?;
    let fires = std::iter::successors(schedule.next(FROM), |at| schedule.next(*at)).take(FIRES);
    let fires: Vec<i64> = fires.collect();
    fires.windows(2).filter_map(|pair| Some(pair.get(1)? - pair.first()?)).max()
}

/// Nothing runs, and the newest point is older than the objective.
fn too_old(stack: &Stack, backup: &Backup, live: &LiveSet) -> Option<String> {
    let rpo = backup.recovery.rpo?;
    if backup.point_in_time.is_some() {
        // Who comes here archives the log. Of one that does not `not_archived` tells it.
        return None;
    }
    if let Some(found) = stack.database.mode().restorable() {
        // As of when RDS was asked: its controller asks every few hours, and an archive that goes on is not older for that.
        return (found.asked > found.until + rpo + GRACE).then(|| {
            let [asked, until] = [found.asked, found.until].map(|at| Timestamp::from_second(at).unwrap_or_default());
            format!(
                "backup.objectives.rpo is {}, and at {asked} RDS could restore the data only as of {until}: see the events of the \
                 instance in AWS",
                words(rpo)
            )
        });
    }
    let newest = newest_backup(stack, live).restorable_until.map(|until| until.0.as_second());
    let newest = newest.or(stack.last_backup)?;
    let running = live.of_component("Job", Name::Backup.as_str()).any(|job| !has_ended(job));
    // The clock stands while the stack sleeps and wakes: it begins anew when the CronJob is resumed, which makes up for the run that was
    // missed.
    let fires = live.named("CronJob", &stack.child(Name::Backup)).and_then(|there| there.fires.as_deref());
    let from = match fires {
        Some(fires) if stack.hibernation.slept || stack.hibernation.has_woken => newest.max(fires.counted_from?),
        _ => newest,
    };
    if running || stack.asleep || !live.has_passed(from + rpo + GRACE) {
        return None;
    }
    let at = Timestamp::from_second(newest).unwrap_or_default();
    Some(format!("backup.objectives.rpo is {}, and the data can be restored only as of {at}", words(rpo)))
}

/// Nothing archives the log, and the newest data that can be recovered are older than the objective.
pub(super) fn not_archived(stack: &Stack, live: &LiveSet, since: Option<Timestamp>) -> Option<String> {
    let (rpo, since) = (stack.backup.as_ref()?.recovery.rpo?, since?);
    live.has_passed(since.as_second() + rpo + GRACE).then(|| {
        format!(
            "backup.objectives.rpo is {}, and the data can be recovered only as of {since} (docs/recovery.md)",
            words(rpo)
        )
    })
}

/// The last drill or restore, scaled by size: nothing that is there can be restored in time.
fn too_slow(stack: &Stack, backup: &Backup, live: &LiveSet) -> Option<String> {
    let known = &stack.known_backup;
    let drills = known.last_verified.clone().into_iter().chain(last_verified(live));
    let status = BackupStatus {
        last_verified: drills.max_by_key(|drill| drill.at.0),
        last_restored: known.last_restored.clone(),
        last_successful: newest_backup(stack, live).last_successful,
        ..BackupStatus::default()
    };
    let (rto, (takes, by_drill)) = (backup.recovery.rto?, status.restore_takes()?);
    let (by, way_out) =
        if by_drill { ("drill", "give backup.verify.resources more") } else { ("restore", "give the database more") };
    (takes > rto).then(|| {
        format!(
            "backup.objectives.rto is {}, and a restore takes about {} by the last {by}: {way_out}, or write a longer rto",
            words(rto),
            words(takes)
        )
    })
}

fn words(seconds: i64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let part = |amount: i64, unit: &str| if amount > 0 { format!("{amount}{unit}") } else { String::new() };
    let text = [part(hours, "h"), part(minutes, "m"), part(seconds, "s")].concat();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_as_good_as_its_longest_pause() {
        let pause = |schedule: &str| longest_pause(schedule, "Etc/UTC").map(words);
        assert_eq!(pause("15 * * * *").as_deref(), Some("1h"));
        assert_eq!(pause("15 2 * * *").as_deref(), Some("24h"));
        assert_eq!(pause("15 2 * * 1-5").as_deref(), Some("72h"), "a weekend");
        assert_eq!(pause("*/15 8-18 * * *").as_deref(), Some("13h15m"), "a night");
        assert_eq!(longest_pause("0 0 30 2 *", "Etc/UTC"), None);
    }

    /// As of when it was asked: an archive that nobody asks about is not older for that.
    #[test]
    fn the_archive_of_rds_counts_however_seldom_dumps_are_made() {
        use serde_json::json;

        use crate::stack::{ManagedService, Observed, Restorable, validate};

        let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"}, "spec": {
            "environment": "Development",
            "api": {"image": "a"},
            "database": {"rds": {"instanceClass": "db.t4g.medium", "storage": {"size": "20Gi"}, "caSecretRef": {"name": "ca"}}},
            "backup": {"schedule": "0 2 * * *", "objectives": {"rpo": "1h"}},
        }});
        let cr = serde_json::from_value(cr).expect("a stack");
        let told = |restorable: Option<Restorable>| {
            let service = ManagedService { restorable, ..ManagedService::default() };
            let managed = [("shop-database".to_owned(), service)].into();
            let stack = validate(&cr, &Observed { managed, ..Observed::default() });
            missed(&stack, &LiveSet::default()).map(|waiting| waiting.message)
        };
        let asked = 1_800_000_000;
        let since = |seconds| told(Some(Restorable { until: asked - seconds, asked }));
        assert!(told(None).is_some_and(|message| message.contains("pauses for 24h")), "RDS says nothing yet");
        assert_eq!(since(300), None);
        assert_eq!(since(3600 + GRACE), None);
        let message = since(3600 + GRACE + 1).expect("it is missed");
        let words = "at 2027-01-15T08:00:00Z RDS could restore the data only as of 2027-01-15T06:49:59Z";
        assert!(message.contains("rpo is 1h") && message.contains(words), "{message}");
    }

    /// A stack that has woken gets the time to make up for what was due while it slept; one that never slept gets none.
    #[test]
    fn the_clock_of_a_stack_that_slept_begins_when_it_has_woken() {
        use serde_json::json;

        use crate::{
            objects::{KINDS, LiveObject},
            stack::{Hibernation, Observed, validate},
        };

        let cr = json!({"metadata": {"name": "shop", "namespace": "n", "uid": "u"}, "spec": {
            "environment": "Development", "api": {"image": "a"},
            "backup": {"schedule": "*/30 * * * *", "objectives": {"rpo": "1h"}},
        }});
        let cr = serde_json::from_value(cr).expect("a stack");
        let moment = |text: &str| text.parse::<Timestamp>().expect("a moment").as_second();
        let told = |has_woken, suspend, now| {
            let hibernation = Hibernation { has_woken, ..Hibernation::default() };
            let last_backup = Some(moment("2026-05-04T20:00:00Z"));
            let mut stack = validate(&cr, &Observed { hibernation, ..Observed::default() });
            stack.last_backup = last_backup;
            let applied = json!({
                "manager": "rorun-operator", "operation": "Apply", "apiVersion": "batch/v1", "fieldsType": "FieldsV1",
                "time": "2026-05-05T07:00:00Z", "fieldsV1": {"f:spec": {"f:suspend": {}}},
            });
            let name = stack.child(Name::Backup);
            let there = json!({"metadata": {"name": name, "managedFields": [applied]}, "spec": {"suspend": suspend}});
            let kind = KINDS.iter().find(|kind| kind.kind == "CronJob").expect("a kind");
            let there =
                LiveObject::new(kind, serde_json::from_value(there).expect("an object")).expect("it has a name");
            let live: LiveSet = [there.into()].into_iter().collect();
            missed(&stack, &live.at(moment(now))).map(|waiting| waiting.message)
        };
        let only = "backup.objectives.rpo is 1h, and the data can be restored only as of 2026-05-04T20:00:00Z (docs/recovery.md)";
        assert_eq!(told(false, false, "2026-05-05T07:05:00Z").as_deref(), Some(only), "nothing excuses it");
        assert_eq!(told(true, false, "2026-05-05T07:05:00Z"), None, "it has just woken");
        assert_eq!(told(true, false, "2026-05-05T08:11:00Z").as_deref(), Some(only), "nothing came of it");
        assert_eq!(told(true, true, "2026-05-05T08:11:00Z"), None, "it wakes: the CronJob is not resumed yet");
    }

    #[test]
    fn a_point_is_of_the_moment_that_it_was_begun() {
        let moment = begun("20261124T021500Z-x7k2p").map(|at| at.to_string());
        assert_eq!(moment.as_deref(), Some("2026-11-24T02:15:00Z"));
        assert_eq!(begun("yesterday"), None);
    }
}
