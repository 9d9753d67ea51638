//! The S3 bucket, in the mode that the spec chooses.

mod embedded;
mod external;
mod s3;

use super::{Component, Keys, mode::Mode};
use crate::{
    api::v1alpha1::RorunStackSpec,
    names::Component as Name,
    objects::{BUCKET, DesiredObject, LiveSet, ObjectKind, Readiness},
    plan::Plan,
    stack::{Bucket as Resolved, Stack},
};

pub(super) struct Bucket;

impl Component for Bucket {
    fn name(&self) -> Name {
        Name::Bucket
    }

    fn optional_kinds(&self, spec: &RorunStackSpec) -> Vec<&'static ObjectKind> {
        let s3 = spec.bucket.as_ref().and_then(|bucket| bucket.s3.as_ref());
        s3.map(|_| BUCKET).into_iter().collect()
    }

    fn objects(&self, stack: &Stack, _: &Plan) -> Vec<DesiredObject> {
        mode(stack).objects(stack)
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        mode(stack).readiness(stack, objects, live)
    }
}

fn mode(stack: &Stack) -> &dyn Mode {
    match &stack.bucket {
        Resolved::Embedded(mode) => &**mode,
        Resolved::External(mode) => &**mode,
        Resolved::S3(mode) => &**mode,
    }
}
