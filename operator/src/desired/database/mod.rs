//! PostgreSQL, in the mode that the spec chooses.

mod cloud_native_pg;
mod embedded;
mod external;

use super::{Component, Keys, mode::Mode};
use crate::{
    api::v1alpha1::RorunStackSpec,
    names::Component as Name,
    objects::{CLUSTER, DesiredObject, LiveSet, ObjectKind, POOLER, Readiness},
    plan::Plan,
    stack::{Database as Resolved, Stack},
};

pub(super) struct Database;

impl Component for Database {
    fn name(&self) -> Name {
        Name::Database
    }

    /// What has no Pooler now may have one that goes.
    fn optional_kinds(&self, spec: &RorunStackSpec) -> Vec<&'static ObjectKind> {
        let cluster = spec.database.as_ref().is_some_and(|database| database.cloud_native_pg.is_some());
        if cluster { vec![CLUSTER, POOLER] } else { Vec::new() }
    }

    fn objects(&self, stack: &Stack, _: &Plan) -> Vec<DesiredObject> {
        mode(stack).objects(stack)
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        mode(stack).readiness(stack, objects, live)
    }
}

fn mode(stack: &Stack) -> &dyn Mode {
    match &stack.database {
        Resolved::Embedded(mode) => &**mode,
        Resolved::External(mode) => &**mode,
        Resolved::CloudNativePg(mode) => &**mode,
    }
}
