//! Which pairs are played, and what goes wrong meanwhile.

use super::Operation::{self, Deletion, Dump, Hibernation, Release, Restore};
use super::{Case, Leader};
use crate::plan::{Call, Fault, Plan};

/// What tells of an operation, or does it. What is written else is the same with one operation: other suites disturb that.
const OF_OPERATIONS: [&str; 5] = ["jobs", "rorunstacks", "rorunbackups", "rorunrestores", "controllerrevisions"];
/// How many writes the watches are late.
const LATE: usize = 3;
/// So many plans of each pair, evenly.
const OF_EACH: usize = 16;

/// Every ordered pair. A stack can neither be deleted twice, nor sleep twice.
pub(super) fn pairs() -> impl Iterator<Item = (Operation, Operation)> {
    let all = [Dump, Release, Restore, Hibernation, Deletion];
    let pairs = all.into_iter().flat_map(move |first| all.into_iter().map(move |second| (first, second)));
    pairs.filter(|pair| !matches!(pair, (Hibernation, Hibernation) | (Deletion, Deletion)))
}

/// What goes wrong in a plan of the quick form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// This, at the how-manieth write of this resource.
    At(&'static str, usize, Fault),
    /// The leader is lost.
    Leader(Leader),
}

/// A plan of the quick form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The pair.
    pub(super) pair: (Operation, Operation),
    kind: Kind,
}

const fn sample(first: Operation, second: Operation, kind: Kind) -> Sample {
    Sample { pair: (first, second), kind }
}

/// Each fault, each operation as the first and as the second one, and each Job on live data.
pub(super) const QUICK: [Sample; 10] = [
    sample(Dump, Release, Kind::At("jobs", 0, Fault::Hold(LATE))),
    sample(Dump, Deletion, Kind::At("jobs", 0, Fault::KillAfterCommit)),
    sample(Release, Dump, Kind::At("jobs", 1, Fault::KillBefore)),
    sample(Release, Hibernation, Kind::At("jobs", 0, Fault::Miss(LATE))),
    sample(Release, Restore, Kind::Leader(Leader::Frozen)),
    sample(Restore, Release, Kind::At("rorunrestores", 0, Fault::Hold(LATE))),
    sample(Restore, Hibernation, Kind::At("rorunstacks", 3, Fault::KillAfterCommit)),
    sample(Restore, Deletion, Kind::Leader(Leader::Killed)),
    sample(Hibernation, Restore, Kind::At("rorunstacks", 0, Fault::KillBefore)),
    sample(Deletion, Dump, Kind::At("rorunbackups", 0, Fault::KillAfterCommit)),
];

impl Sample {
    /// The plan, by the writes of the pair when nothing goes wrong.
    pub(super) fn case(&self, writes: &[(Call, usize)]) -> Option<Case> {
        let case = Case::undisturbed(self.pair.0, self.pair.1);
        match self.kind {
            Kind::Leader(leader) => Some(Case { leader: Some(leader), ..case }),
            Kind::At(resource, index, fault) => {
                let of_resource: Vec<_> = writes.iter().filter(|(call, _)| call.resource == resource).collect();
                let place = of_resource.get(index).or(of_resource.last())?;
                Some(Case { plans: vec![plan(place, fault)], ..case })
            }
        }
    }
}

fn plan((at, occurrence): &(Call, usize), fault: Fault) -> Plan {
    Plan { at: at.clone(), occurrence: *occurrence, fault }
}

/// A sample of the plans of a pair: a crash before and after each write, watches that are late or cut off, and a leader that is lost.
pub(super) fn all(pair: (Operation, Operation), writes: &[(Call, usize)]) -> Vec<Case> {
    let undisturbed = Case::undisturbed(pair.0, pair.1);
    let faults = [Fault::KillBefore, Fault::KillAfterCommit, Fault::Hold(LATE), Fault::Miss(LATE)];
    let places: Vec<_> = writes.iter().filter(|(call, _)| OF_OPERATIONS.contains(&call.resource.as_str())).collect();
    let every: Vec<Plan> = places.iter().flat_map(|place| faults.map(|fault| plan(place, fault))).collect();
    // No multiple of the number of faults, or one of them would be played alone.
    let step = every.len().div_ceil(OF_EACH) | 1;
    let mut cases: Vec<Case> =
        every.into_iter().step_by(step).map(|plan| Case { plans: vec![plan], ..undisturbed.clone() }).collect();
    let leaders = [Leader::Frozen, Leader::Killed];
    cases.extend(leaders.map(|leader| Case { leader: Some(leader), ..undisturbed.clone() }));
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn write(resource: &str, occurrence: usize) -> (Call, usize) {
        let verb = "patch".to_owned();
        (Call { verb, resource: resource.to_owned(), name: "shop".to_owned(), ..Call::default() }, occurrence)
    }

    #[test]
    fn the_quick_form_has_each_operation_as_the_first_and_as_the_second() {
        let firsts: BTreeSet<_> = QUICK.iter().map(|sample| sample.pair.0).collect();
        let seconds: BTreeSet<_> = QUICK.iter().map(|sample| sample.pair.1).collect();
        assert_eq!((firsts.len(), seconds.len(), pairs().count()), (5, 5, 23));
        assert!(QUICK.iter().all(|sample| pairs().any(|pair| pair == sample.pair)));
    }

    #[test]
    fn plans_are_of_what_tells_of_operations_and_each_fault_is_played() {
        let writes: Vec<_> = (1..=20).flat_map(|number| [write("jobs", number), write("services", number)]).collect();
        let cases = all((Dump, Release), &writes);
        assert_eq!(cases.iter().filter(|case| case.leader.is_some()).count(), 2);
        let plans: Vec<_> = cases.iter().flat_map(|case| &case.plans).collect();
        assert!((12..=OF_EACH).contains(&plans.len()) && plans.iter().all(|plan| plan.at.resource == "jobs"));
        assert_eq!(plans.iter().map(|plan| plan.fault).collect::<BTreeSet<_>>().len(), 4);
        let case = sample(Dump, Release, Kind::At("jobs", 1, Fault::KillBefore)).case(&writes).expect("a plan");
        assert_eq!((case.plans[0].occurrence, case.plans[0].fault), (2, Fault::KillBefore));
    }

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        let writes = [write("jobs", 1)];
        for case in all((Restore, Deletion), &writes) {
            let text = serde_json::to_string(&case).expect("text");
            assert_eq!(serde_json::from_str::<Case>(&text).expect("a plan"), case, "{text}");
        }
    }
}
