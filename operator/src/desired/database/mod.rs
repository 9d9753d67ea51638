//! PostgreSQL, in the mode that the spec chooses.

mod cloud_native_pg;
mod embedded;
mod external;
mod rds;

use super::{Component, Keys, mode::Mode};
use crate::{
    api::v1alpha1::RorunStackSpec,
    names::Component as Name,
    objects::{CLUSTER, DB_INSTANCE, DesiredObject, LiveSet, ObjectKind, POOLER, Readiness},
    plan::Plan,
    stack::{Database as Resolved, Recovered, Stack},
};

pub(super) struct Database;

impl Component for Database {
    fn name(&self) -> Name {
        Name::Database
    }

    /// What has no Pooler now may have one that goes.
    fn optional_kinds(&self, spec: &RorunStackSpec) -> Vec<&'static ObjectKind> {
        let Some(database) = &spec.database else { return Vec::new() };
        match (&database.cloud_native_pg, &database.rds) {
            (Some(_), _) => vec![CLUSTER, POOLER],
            (None, Some(_)) => vec![DB_INSTANCE],
            (None, None) => Vec::new(),
        }
    }

    fn note(&self, stack: &Stack, live: &LiveSet) -> Option<String> {
        let notes = stack.notes(Name::Database).iter().cloned().chain(mode(stack).note(live));
        let notes: Vec<_> = notes.collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    fn objects(&self, stack: &Stack, _: &Plan) -> Vec<DesiredObject> {
        mode(stack).objects(stack)
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        mode(stack).readiness(stack, objects, live)
    }
}

/// The Cluster that a restore recovers beside the live one.
pub(super) fn beside(stack: &Stack, cluster: &(String, Recovered)) -> Option<DesiredObject> {
    match &stack.database {
        Resolved::CloudNativePg(mode) => Some(mode.beside(stack, cluster)),
        _ => None,
    }
}

fn mode(stack: &Stack) -> &dyn Mode {
    match &stack.database {
        Resolved::Embedded(mode) => &**mode,
        Resolved::External(mode) => &**mode,
        Resolved::CloudNativePg(mode) => &**mode,
        Resolved::Rds(mode) => &**mode,
    }
}
