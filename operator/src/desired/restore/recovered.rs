//! The Cluster that a restore to a moment recovers beside the live one, and what names the live one.

use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};

use crate::{
    desired::{database, metadata},
    names::{Component as Name, ROLE_CA, ROLE_LIVE},
    objects::{ApplyPolicy, DesiredObject},
    plan::restore::Beside,
    stack::{DatabaseAccess, RestoreRequest, Stack, clusters},
};

/// The file of its authorities.
pub(super) const COPY_CA_FILE: &str = "recovered.crt";

/// What is written beside the live Cluster. What names the live one is changed only as it was observed.
pub(super) fn beside(stack: &Stack, beside: &Beside) -> Vec<DesiredObject> {
    let named = beside.live.as_ref().map(|live| {
        let config_map = ConfigMap {
            data: Some(live.data()),
            metadata: metadata::retained(stack, Name::Restore, stack.child_role(Name::Database, ROLE_LIVE)),
            ..ConfigMap::default()
        };
        DesiredObject::new(&config_map, ApplyPolicy::Guarded)
    });
    let cluster = beside.cluster.as_ref().and_then(|cluster| database::beside(stack, cluster));
    named.into_iter().chain(cluster).collect()
}

/// The address of the Cluster that is recovered.
pub(super) fn recovered<'a>(stack: &'a Stack, request: &RestoreRequest) -> Option<&'a DatabaseAccess> {
    request.moment()?;
    stack.recovered_access(&clusters::recovered_name(&stack.name, &request.uid))
}

/// The pod of a migration on a Cluster that is recovered, whose certificate is of an authority of its own.
pub(super) fn trusting_copy(stack: &Stack, request: &RestoreRequest, mut template: PodTemplateSpec) -> PodTemplateSpec {
    if recovered(stack, request).is_none() {
        return template;
    }
    let live = stack.child_role(Name::Connection, ROLE_CA);
    let volumes = template.spec.iter_mut().flat_map(|spec| spec.volumes.iter_mut().flatten());
    for source in volumes.filter_map(|volume| volume.config_map.as_mut()).filter(|source| source.name == live) {
        source.name = stack.child_role(Name::Restore, ROLE_CA);
    }
    template
}
