//! Every state that three children can get into within twelve steps.

use std::sync::atomic::{AtomicUsize, Ordering};

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    core::{Budget, Core, Flaw},
    pass,
};

/// How many steps.
const DEPTH: usize = 12;
/// What may happen within them, beside what the operator and its cache do.
const BUDGET: Budget = Budget { edits: 1, meddling: 1, faults: 1, crashes: 1 };

#[test]
fn no_state_is_wrong_and_every_state_leads_to_the_end() {
    let core = Core { budget: BUDGET, flaw: None };
    let checker = core.checker().target_max_depth(DEPTH).threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!(
        "{states} states by {} steps to depth {depth}; the engine decided {} times",
        checker.state_count(),
        pass::taken()
    );
    checker.assert_properties();
    assert_eq!(depth, DEPTH);
    assert!(states > 5_000, "only {states} states");
}

/// The checker would notice: each of these is found, and the way to it is printed.
#[test]
fn every_flaw_is_found() {
    let found = AtomicUsize::new(0);
    for flaw in [Flaw::NoUid, Flaw::NoVersion, Flaw::NoLook] {
        let core = Core { budget: Budget { edits: 1, meddling: 2, faults: 0, crashes: 1 }, flaw: Some(flaw) };
        let checker =
            core.checker().target_max_depth(DEPTH).threads(2).finish_when(HasDiscoveries::Any).spawn_bfs().join();
        let discoveries = checker.discoveries();
        let (property, path) = discoveries.iter().next().unwrap_or_else(|| panic!("{flaw:?} is not noticed"));
        println!("{flaw:?}: {property}: {:?}", path.clone().into_actions());
        found.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(found.into_inner(), 3);
}
