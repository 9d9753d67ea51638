//! Equal inputs give equal plans and equal objects, whatever any cache holds: a reconcile makes both anew each time, and compares the
//! objects by their hashes with those of the reconcile before.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, prelude::*};
use rorun_operator::{
    api::v1alpha1::RorunStack,
    apply::{Owner, differences},
    desired::{desired, everything},
    objects::{DesiredObject, Digest, LiveSet, ObjectKey},
    plan::Plan,
    stack::{Observed, Stack, validate},
};

use super::{
    generate::{chaos, config, stacks},
    plans::{Moment, Turn, stories},
    support::{all_ready, valid},
};

/// More than any stack has objects.
const OBJECTS_MAX: usize = 64;

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_same_inputs_give_the_same_decision((cr, observed) in chaos()) {
        prop_assert_eq!(decision(&cr, &observed, &LiveSet::default()), decision(&cr, &observed, &LiveSet::default()));
    }

    #[test]
    fn the_same_inputs_give_the_same_hashes_whatever_the_cache_shows(
        cr in stacks(),
        shown in vec(any::<bool>(), OBJECTS_MAX),
        later in vec(any::<bool>(), OBJECTS_MAX),
    ) {
        let stack = valid(&cr);
        let all = hashes(everything(&stack, &Plan::default()));
        prop_assert!(all.len() <= OBJECTS_MAX);
        prop_assert_eq!(&hashes(everything(&valid(&cr), &Plan::default())), &all);
        for shown in [shown, later] {
            let live = part_of(&all_ready(&stack), &shown);
            for (key, hash) in hashes(desired(&stack, &Plan::default(), &live).objects) {
                prop_assert_eq!(all.get(&key), Some(&hash), "{}", key);
            }
        }
    }
}

proptest! {
    // Each is a story of many reconciles.
    #![proptest_config(ProptestConfig { cases: 24, ..config() })]

    /// At each step of releases, backups, restores and drills, whatever phases their Jobs have.
    #[test]
    fn the_same_moment_gives_the_same_plan_and_the_same_objects(
        (cr, turns) in stories(),
        shown in vec(any::<bool>(), OBJECTS_MAX),
    ) {
        let mut moment = Moment::first(&cr);
        for turn in turns.iter().chain([&Turn::Later(1)]) {
            let (stack, plan) = moment.planned();
            let (again, same) = moment.planned();
            prop_assert_eq!(&plan, &same, "{:?}", moment.observed);
            let all = hashes(everything(&stack, &plan));
            prop_assert_eq!(&hashes(everything(&again, &same)), &all);
            let live = part_of(&all_ready(&stack), &shown);
            let of_all = hashes(desired(&stack, &plan, &all_ready(&stack)).objects);
            for (key, hash) in hashes(desired(&stack, &plan, &live).objects) {
                let known = all.get(&key).or_else(|| of_all.get(&key));
                prop_assert_eq!(known, Some(&hash), "{}", key);
            }
            moment.apply(&plan);
            moment.happens(turn);
        }
    }
}

/// What a reconcile decides: the hash of each object, what it leaves as it is, and what it says of each component.
fn decision(cr: &RorunStack, observed: &Observed, live: &LiveSet) -> (BTreeMap<ObjectKey, Digest>, String) {
    let stack: Stack = validate(cr, observed);
    let mut desired = desired(&stack, &Plan::default(), live);
    let objects = std::mem::take(&mut desired.objects);
    (hashes(objects), format!("{desired:?}"))
}

/// The hash that the apply step writes into each object.
fn hashes(objects: Vec<DesiredObject>) -> BTreeMap<ObjectKey, Digest> {
    let owner = Owner {
        api_version: "rorun.app/v1alpha1".to_owned(),
        kind: "RorunStack".to_owned(),
        namespace: "shop".to_owned(),
        name: "shop".to_owned(),
        uid: "1".to_owned(),
    };
    let missing = differences(&owner, objects, &LiveSet::default());
    missing.into_iter().map(|missing| (missing.key, missing.hash)).collect()
}

/// The objects of which the cache shows no more than these.
fn part_of(all: &LiveSet, shown: &[bool]) -> LiveSet {
    all.iter().zip(shown).filter(|(_, shown)| **shown).map(|(live, _)| Arc::new(live.clone())).collect()
}
