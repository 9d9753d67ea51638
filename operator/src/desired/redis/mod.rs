//! Redis, in the mode that the spec chooses.

mod elasti_cache;
mod embedded;
mod external;

use super::{Component, Keys, mode::Mode};
use crate::{
    api::v1alpha1::{ElastiCacheRedis, RorunStackSpec},
    names::Component as Name,
    objects::{DesiredObject, LiveSet, ObjectKind, REPLICATION_GROUP, Readiness, SERVERLESS_CACHE},
    plan::Plan,
    stack::{Redis as Resolved, Stack},
};

pub(super) struct Redis;

impl Component for Redis {
    fn name(&self) -> Name {
        Name::Redis
    }

    fn optional_kinds(&self, spec: &RorunStackSpec) -> Vec<&'static ObjectKind> {
        let cache = spec.redis.as_ref().and_then(|redis| redis.elasti_cache.as_ref());
        let kind =
            |cache: &ElastiCacheRedis| if cache.serverless.is_some() { SERVERLESS_CACHE } else { REPLICATION_GROUP };
        cache.map(kind).into_iter().collect()
    }

    fn objects(&self, stack: &Stack, _: &Plan) -> Vec<DesiredObject> {
        mode(stack).objects(stack)
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        mode(stack).readiness(stack, objects, live)
    }
}

fn mode(stack: &Stack) -> &dyn Mode {
    match &stack.redis {
        Resolved::Embedded(mode) => &**mode,
        Resolved::External(mode) => &**mode,
        Resolved::ElastiCache(mode) => &**mode,
    }
}
