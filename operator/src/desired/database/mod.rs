//! PostgreSQL, in the mode that the spec chooses.

mod embedded;
mod external;

use super::{Component, Keys, mode::Mode};
use crate::{
    names::Component as Name,
    objects::{DesiredObject, LiveSet, Readiness},
    plan::Plan,
    stack::{Database as Resolved, Stack},
};

pub(super) struct Database;

impl Component for Database {
    fn name(&self) -> Name {
        Name::Database
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
    }
}
