//! Which steps are disturbed, and by what.

use super::Case;
use super::Disturbance::{
    self, Back, Deleted, Forward, Killed, KilledAfter, KilledBefore, Two, WithdrawnApproval, WrongApproval,
};
use super::Step::{self, AwaitingApproval, BackingUp, Migrating, RollingOut, Serving, Testing, Verifying};

const STEPS: [Step; 7] = [AwaitingApproval, BackingUp, Migrating, Testing, RollingOut, Verifying, Serving];
const DISTURBANCES: [Disturbance; 13] = [
    Killed,
    KilledBefore(1),
    KilledBefore(2),
    KilledBefore(3),
    KilledAfter(1),
    KilledAfter(2),
    KilledAfter(3),
    Back,
    Forward,
    Deleted,
    Two,
    WrongApproval,
    WithdrawnApproval,
];

const fn case(step: Step, disturbance: Disturbance) -> Case {
    Case { step, disturbance }
}

/// Each step and each disturbance.
pub(super) const QUICK: [Case; 14] = [
    case(AwaitingApproval, WrongApproval),
    case(AwaitingApproval, WithdrawnApproval),
    case(BackingUp, Back),
    case(BackingUp, Deleted),
    case(BackingUp, KilledAfter(1)),
    case(Migrating, Forward),
    case(Migrating, Killed),
    case(Migrating, Back),
    case(Migrating, Deleted),
    case(Testing, KilledBefore(2)),
    case(Testing, WithdrawnApproval),
    case(RollingOut, Two),
    case(Verifying, Forward),
    case(Serving, Back),
];

/// Every step with every disturbance.
pub(super) fn all() -> Vec<Case> {
    STEPS.into_iter().flat_map(|step| DISTURBANCES.map(|disturbance| case(step, disturbance))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_quick_form_has_each_step_and_each_disturbance() {
        let kind = |of: Disturbance| match of {
            KilledBefore(_) => KilledBefore(1),
            KilledAfter(_) => KilledAfter(1),
            other => other,
        };
        let all: Vec<Case> = all();
        assert_eq!(all.len(), 91);
        let of = |cases: &[Case]| -> (BTreeSet<Step>, BTreeSet<Disturbance>) {
            cases.iter().map(|case| (case.step, kind(case.disturbance))).unzip()
        };
        assert_eq!(of(&QUICK), of(&all));
    }

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        for case in all() {
            let text = serde_json::to_string(&case).expect("text");
            assert_eq!(serde_json::from_str::<Case>(&text).expect("a plan"), case, "{text}");
        }
    }
}
