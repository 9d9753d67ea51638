//! A bucket that the operator did not make: there is nothing to apply.

use crate::{
    desired::{Keys, mode::Mode, preflight},
    names::Component as Name,
    objects::{DesiredObject, LiveSet, Readiness},
    stack::{Stack, bucket::External},
};

impl Mode for External {
    fn objects(&self, _: &Stack) -> Vec<DesiredObject> {
        Vec::new()
    }

    fn readiness(&self, stack: &Stack, _: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        preflight::readiness(stack, Name::Bucket, live)
    }
}
