//! Which backups to remove. Pure: the list and the time come in, identifiers come out.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::BackupId;

/// A run may take long, and a run without a manifest may still be going on. After this time it is not.
const LEFTOVER_AGE: SignedDuration = SignedDuration::from_hours(48);

/// What is in the bucket under one identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The identifier, which holds the time.
    pub id: BackupId,
    /// Whether manifest and dump are both there.
    pub good: bool,
}

/// The backups to remove, oldest first.
///
/// A good one is removed when it is older than `days` and at least `minimum_kept` newer good ones exist, in any case one:
/// so the newest good one is never removed. What is not good is removed when it can no longer be a run going on.
pub fn expired(now: Timestamp, backups: &[Backup], days: u32, minimum_kept: u32) -> Vec<BackupId> {
    let mut newest_first: Vec<_> = backups.iter().collect();
    newest_first.sort_by(|one, other| other.id.cmp(&one.id));
    let age = SignedDuration::from_hours(24 * i64::from(days));
    let mut newer_good = 0;
    let mut removed = Vec::new();
    for backup in newest_first {
        let remove = if backup.good {
            older(now, &backup.id, age) && newer_good >= minimum_kept.max(1)
        } else {
            is_leftover(now, &backup.id)
        };
        newer_good += u32::from(backup.good);
        if remove {
            removed.push(backup.id.clone());
        }
    }
    removed.reverse();
    removed
}

/// The good backups that stay whatever their age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spared {
    /// The newest one that a drill restored.
    pub verified: Option<BackupId>,
    /// Drills take place: an older backup goes only if a newer one is verified.
    pub verified_only: bool,
    /// Those that are in this bucket alone, while copies are asked for.
    pub not_copied: BTreeSet<BackupId>,
}

impl Spared {
    /// Whether this one stays.
    pub fn keeps(&self, id: &BackupId) -> bool {
        let newer_is_verified = self.verified.as_ref().is_some_and(|verified| verified > id);
        self.verified.as_ref() == Some(id) || (self.verified_only && !newer_is_verified) || self.not_copied.contains(id)
    }
}

/// Whether a run without a result is over.
pub(super) fn is_leftover(now: Timestamp, id: &BackupId) -> bool {
    older(now, id, LEFTOVER_AGE)
}

/// Whether a run was started longer ago than that.
pub(super) fn older(now: Timestamp, id: &BackupId, age: SignedDuration) -> bool {
    now.duration_since(id.created()) > age
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const HOUR: i64 = 3600;
    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).expect("time")
    }

    fn backup(hours_ago: i64, good: bool) -> Backup {
        Backup { id: BackupId::new(Timestamp::from_second(NOW - hours_ago * HOUR).expect("time")), good }
    }

    /// `ages` in days; a minus marks one that is not good.
    fn removed_ages(ages: &[i64], days: u32, minimum_kept: u32) -> Vec<i64> {
        let backups: Vec<_> = ages.iter().map(|age| backup(age.abs() * 24 + 1, *age > 0)).collect();
        let removed = expired(now(), &backups, days, minimum_kept);
        removed.iter().map(|id| (NOW - id.created().as_second()) / (24 * HOUR)).collect()
    }

    #[rstest]
    #[case::nothing(&[], 7, 1, &[])]
    #[case::only_one_however_old(&[400], 1, 1, &[])]
    #[case::zero_minimum_is_one(&[400], 1, 0, &[])]
    #[case::old_ones_go(&[1, 5, 8, 9], 7, 2, &[9, 8])]
    #[case::minimum_holds_old_ones(&[20, 30, 40, 50], 7, 3, &[50])]
    #[case::young_ones_stay(&[1, 2, 3, 4], 7, 1, &[])]
    #[case::bad_ones_do_not_count(&[-1, -9, 10, 11], 7, 1, &[11, 9])]
    #[case::a_running_one_stays(&[-1, 10], 7, 1, &[])]
    fn the_rule(#[case] ages: &[i64], #[case] days: u32, #[case] kept: u32, #[case] expected: &[i64]) {
        assert_eq!(removed_ages(ages, days, kept), expected);
    }

    #[test]
    fn a_clock_that_was_ahead_does_no_harm() {
        let backups = [backup(-500, true), backup(-400, false), backup(1, true)];
        assert_eq!(expired(now(), &backups, 1, 1), []);
    }

    #[rstest]
    #[case::nothing_is_verified_and_nothing_has_to_be(None, false, [false, false, false])]
    #[case::nothing_is_verified_yet(None, true, [true, true, true])]
    #[case::the_newest_verified_one_stays(Some(1), false, [false, true, false])]
    #[case::what_is_not_verified_is_no_reason(Some(1), true, [false, true, true])]
    fn a_verified_one_is_the_reason_to_remove_older_ones(
        #[case] verified: Option<usize>,
        #[case] verified_only: bool,
        #[case] expected: [bool; 3],
    ) {
        let ids = [30, 20, 10].map(|days| backup(days * 24, true).id);
        let verified = verified.map(|index| ids[index].clone());
        let spared = Spared { verified, verified_only, not_copied: BTreeSet::new() };
        assert_eq!(ids.each_ref().map(|id| spared.keeps(id)), expected);
        let spared = Spared { not_copied: BTreeSet::from([ids[0].clone()]), ..Spared::default() };
        assert_eq!(ids.each_ref().map(|id| spared.keeps(id)), [true, false, false]);
    }

    fn any_backups() -> impl Strategy<Value = Vec<Backup>> {
        prop::collection::vec((-100i64..2000, any::<bool>()), 0..40)
            .prop_map(|list| list.into_iter().map(|(age, good)| backup(age, good)).collect())
    }

    fn remaining(backups: &[Backup], removed: &[BackupId]) -> Vec<Backup> {
        backups.iter().filter(|backup| !removed.contains(&backup.id)).cloned().collect()
    }

    fn good(backups: &[Backup]) -> Vec<BackupId> {
        let mut ids: Vec<_> = backups.iter().filter(|backup| backup.good).map(|backup| backup.id.clone()).collect();
        ids.sort();
        ids
    }

    proptest! {
        #[test]
        fn the_newest_good_ones_stay(backups in any_backups(), days in 0u32..60, kept in 0u32..10) {
            let removed = expired(now(), &backups, days, kept);
            let good = good(&backups);
            let newest = good.iter().rev().take(kept.max(1) as usize);
            for id in newest {
                prop_assert!(!removed.contains(id), "{id}");
            }
        }

        #[test]
        fn only_what_is_old_goes(backups in any_backups(), days in 0u32..60, kept in 0u32..10) {
            let removed = expired(now(), &backups, days, kept);
            for backup in backups.iter().filter(|backup| removed.contains(&backup.id)) {
                let hours = now().duration_since(backup.id.created()).as_hours();
                let least = if backup.good { i64::from(days) * 24 } else { 48 };
                prop_assert!(hours >= least, "{hours}");
            }
        }

        #[test]
        fn a_second_look_finds_nothing(backups in any_backups(), days in 0u32..60, kept in 0u32..10) {
            let rest = remaining(&backups, &expired(now(), &backups, days, kept));
            prop_assert_eq!(expired(now(), &rest, days, kept), []);
        }

        #[test]
        fn a_crash_between_two_deletions_does_no_harm(
            backups in any_backups(), days in 0u32..60, kept in 1u32..10, deleted in 0usize..10,
        ) {
            let removed = expired(now(), &backups, days, kept);
            let (first, rest) = removed.split_at(deleted.min(removed.len()));
            let again = expired(now(), &remaining(&backups, first), days, kept);
            prop_assert_eq!(again, rest);
        }

        #[test]
        fn more_days_or_a_higher_minimum_never_remove_more(
            backups in any_backups(), days in 0u32..60, kept in 0u32..10, more in 0u32..60,
        ) {
            let removed = expired(now(), &backups, days, kept);
            for id in expired(now(), &backups, days + more, kept) {
                prop_assert!(removed.contains(&id));
            }
            for id in expired(now(), &backups, days, kept + more) {
                prop_assert!(removed.contains(&id));
            }
        }

        #[test]
        fn the_order_of_the_list_is_of_no_matter(backups in any_backups(), days in 0u32..60, kept in 0u32..10) {
            let reversed: Vec<_> = backups.iter().rev().cloned().collect();
            prop_assert_eq!(expired(now(), &backups, days, kept), expired(now(), &reversed, days, kept));
        }
    }
}
