//! Every state that three children can get into within twelve steps, and single steps.

use stateright::{Checker, HasDiscoveries, Model};

use serde_json::Value;

use crate::{
    children::{Credentials, SECRET},
    core::{Core, Fault, Flaw},
    interned::Interned,
    reconcile::{self, Step, numbered, step},
};

/// How many steps.
const DEPTH: usize = 12;
/// How many edits, meddlings, faults and crashes, of whichever kind, within them.
const DISTURBANCES: u8 = 2;

#[test]
fn no_state_is_wrong_and_every_state_leads_to_the_end() {
    let core = Core { disturbances: DISTURBANCES, flaw: None };
    // One thread: several do not go strictly by depth, and the last steps from a state that was reached the long way are lost.
    let checker = core.checker().target_max_depth(DEPTH).threads(1).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!(
        "{states} states by {} steps to depth {depth}; the engine decided {} times",
        checker.state_count(),
        reconcile::taken()
    );
    checker.assert_properties();
    assert_eq!(depth, DEPTH);
    assert!(states > 50_000, "only {states} states");
}

/// The checker would notice: each of these is found, and the way to it is printed.
#[test]
fn every_flaw_is_found() {
    for (flaw, disturbances) in [(Flaw::Uid, 3), (Flaw::Version, 2), (Flaw::Look, 1)] {
        let core = Core { disturbances, flaw: Some(flaw) };
        let checker =
            core.checker().target_max_depth(DEPTH).threads(2).finish_when(HasDiscoveries::Any).spawn_bfs().join();
        let discoveries = checker.discoveries();
        let (property, path) = discoveries.iter().next().unwrap_or_else(|| panic!("{flaw:?} is not noticed"));
        println!("{flaw:?}: {property}: {:?}", path.clone().into_actions());
    }
}

/// The cache shows nothing, and the API server has the credentials: either they lost their labels, and get them back, or the reconcile
/// before has done so, and nothing is written.
#[test]
fn credentials_get_their_labels_back_once() {
    let from_nothing = Step {
        // It wants no ConfigMap, which would be made before.
        generation: 2,
        credentials: Credentials::Known("a".to_owned()),
        seen: [None; 3],
        there: [None; 3],
        settled: [const { None }; 3],
        fault: Fault::Pass,
        flaw: None,
    };
    let (child, made) = step(&from_nothing).written.clone().expect("a write");
    let made = made.filter(|_| child == SECRET).expect("the Secret is made first");
    let written = |secret: Interned| {
        let there = [Some(secret), None, None];
        step(&Step { there, ..from_nothing.clone() }).written.as_ref().map(|(child, _)| *child)
    };
    let mut stripped = made.clone();
    stripped["metadata"]["labels"]["app.kubernetes.io/managed-by"] = Value::Null;
    assert_eq!(written(numbered(&stripped, "1", 1)), Some(SECRET), "the labels stay away");
    assert_ne!(written(numbered(&made, "1", 1)), Some(SECRET), "the labels are written again");
}
