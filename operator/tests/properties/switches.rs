//! Switching a component off.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::select};
use rorun_operator::{
    desired::desired,
    objects::{DesiredObject, LiveSet, ObjectKey},
    plan::{picked, plan},
};
use serde_json::json;

use super::{
    generate::{config, fixtures},
    support::{Fixture, all_there, objects, stack, valid_with},
};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_component_that_is_switched_off_takes_its_own_objects_along_and_no_data(
        fixture in fixtures(),
        field in select(vec!["ocr", "admin", "ingress", "backup"]),
    ) {
        // Staging has backups even if they are left out, and Production must name them.
        prop_assume!(field != "backup" || fixture.0["spec"]["environment"] == "Development");
        let before = objects(&fixture.clone().build());
        let after = keys(&off(fixture, field));
        for object in &before {
            // Without backups there is nothing to verify.
            let own = object.component() == field || (field == "backup" && object.component() == "drill");
            prop_assert_eq!(after.contains(&object.key()), !own, "{}", object.key());
            // The archive of the log outlives the field that asked for it, as data do.
            let archive = object.kind.kind == "ObjectStore" || object.name.ends_with("-backup-archive");
            prop_assert!(!own || archive || object.policy.is_owned(), "{}", object.key());
        }
        let known: BTreeSet<_> = before.iter().map(DesiredObject::key).collect();
        prop_assert!(after.is_subset(&known), "{:?}", after.difference(&known).collect::<Vec<_>>());
    }
}

/// A release that is held, of a cluster that no revision of is known: what runs of the workloads stays, also of one that the spec
/// no longer has.
#[test]
fn a_workload_that_a_held_release_leaves_out_is_not_pruned() {
    let cr = stack("shop").set("release", json!({"approval": "Required"})).build();
    let observed = all_there(&cr);
    let stack = valid_with(&cr, &observed);
    let plan = plan(&stack, &observed, 0);
    let stack = picked(stack, &plan);
    let desired = desired(&stack, &plan, &LiveSet::default());
    assert!(stack.admin.is_none() && desired.left_alone().contains("admin"), "{:?}", desired.left_alone());
}

/// Without the component, and without the host that leads to it.
fn off(fixture: Fixture, field: &str) -> Fixture {
    match field {
        "ocr" | "admin" => fixture.without(field).without(&format!("ingress.{field}Host")).without("ingress.paths"),
        field => fixture.without(field),
    }
}

fn keys(fixture: &Fixture) -> BTreeSet<ObjectKey> {
    objects(&fixture.clone().build()).iter().map(DesiredObject::key).collect()
}
