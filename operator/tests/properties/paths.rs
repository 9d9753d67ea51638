//! Where a stack comes from does not matter: after a change it is what a new one of the same spec would be.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use rorun_operator::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    desired::{Desired, desired, everything, last_backup},
    objects::LiveSet,
    stack::Stack,
    status::{self, Report},
};
use serde_json::Value;

use super::{
    generate::{config, stacks},
    support::{all_ready, valid},
};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_change_wants_what_a_new_stack_wants(before in stacks(), after in stacks()) {
        let after = same_stack(&before, after);
        let (first, second) = (valid(&before), valid(&after));
        let wanted = desired(&second, &rorun_operator::plan::Plan::default(), &all_ready(&first));
        let fresh: Vec<_> = everything(&second, &rorun_operator::plan::Plan::default())
            .into_iter()
            .filter(|object| !wanted.waiting.keys().any(|held| held.as_str() == object.component()))
            .collect();
        prop_assert_eq!(wanted.objects, fresh);
    }

    #[test]
    fn a_status_tells_nothing_of_what_was_before(before in stacks(), after in stacks()) {
        let after = same_stack(&before, after);
        let (first, second) = (valid(&before), valid(&after));
        let of_first = tell(&before, &first, &all_ready(&first), None);
        let live = all_ready(&second);
        let changed = tell(&after, &second, &live, Some(of_first));
        let fresh = tell(&after, &second, &live, None);
        prop_assert_eq!(without_times(&changed), without_times(&fresh));
    }
}

/// The same stack after a change to the other spec, of which the API server makes a new generation.
fn same_stack(one: &RorunStack, other: RorunStack) -> RorunStack {
    let mut changed = RorunStack { metadata: one.metadata.clone(), ..other };
    if serde_json::to_value(&changed.spec).unwrap() != serde_json::to_value(&one.spec).unwrap() {
        changed.metadata.generation = one.metadata.generation.map(|generation| generation + 1);
    }
    changed
}

fn tell(cr: &RorunStack, stack: &Stack, live: &LiveSet, old: Option<RorunStackStatus>) -> RorunStackStatus {
    let Desired { readiness, notes, .. } = desired(stack, &rorun_operator::plan::Plan::default(), live);
    let readiness = readiness.into_iter().collect();
    let report = Report {
        cr,
        stack,
        release: &rorun_operator::plan::Release::default(),
        restores: &rorun_operator::plan::Restores::default(),
        operations: &rorun_operator::plan::Operations::default(),
        live,
        readiness,
        notes,
        backup: last_backup(live),
        verified: None,
        point_in_time: None,
        begun: BTreeMap::new(),
        old,
    };
    status::status(&report, Timestamp::UNIX_EPOCH)
}

/// The last good backup stays told of, whatever the spec says now.
fn without_times(status: &RorunStackStatus) -> Value {
    let mut status = serde_json::to_value(status).unwrap();
    if let Some(members) = status.as_object_mut() {
        members.remove("backup");
    }
    status
}
