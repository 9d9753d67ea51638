//! Switching a component off.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::select};
use rorun_operator::objects::{ApplyPolicy, DesiredObject, ObjectKey};

use super::{
    generate::{config, fixtures},
    support::{Fixture, objects},
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
            let own = object.component() == field;
            prop_assert_eq!(after.contains(&object.key()), !own, "{}", object.key());
            prop_assert!(!own || object.policy == ApplyPolicy::Own, "{}", object.key());
        }
        let known: BTreeSet<_> = before.iter().map(DesiredObject::key).collect();
        prop_assert!(after.is_subset(&known), "{:?}", after.difference(&known).collect::<Vec<_>>());
    }
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
