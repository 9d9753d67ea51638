//! The data services of a stack together, each in the mode that the spec chooses.

use std::collections::BTreeMap;

use super::{
    AccessKeys, CredentialKeys, Endpoint, ProbeTarget, References, Stack, bucket, database,
    mode::{ClusterVolumes, Mode, ModeSpec, PodFields, Server},
    placeholders::Values,
    redis,
};
use crate::{
    api::v1alpha1::{RorunStack, RorunStackSpec, Storage},
    names::Component,
};

/// The block of each service's mode.
fn chosen(spec: &RorunStackSpec) -> [(Component, &dyn ModeSpec); 3] {
    [
        (Component::Database, database::chosen(spec)),
        (Component::Redis, redis::chosen(spec)),
        (Component::Bucket, bucket::chosen(spec)),
    ]
}

/// The services that the operator runs on a volume and with generated credentials.
pub fn embedded(cr: &RorunStack) -> impl Iterator<Item = Component> {
    chosen(&cr.spec).into_iter().filter(|(_, mode)| mode.is_embedded()).map(|(component, _)| component)
}

/// The services whose credentials the operator generates, with their keys.
pub fn generated(cr: &RorunStack) -> impl Iterator<Item = (Component, CredentialKeys)> {
    chosen(&cr.spec).into_iter().filter_map(|(component, mode)| Some((component, mode.generates(component)?)))
}

/// The volume that the spec asks for, for an embedded service.
pub fn storage(cr: &RorunStack, component: Component) -> Option<&Storage> {
    chosen(&cr.spec).into_iter().find(|(of, _)| *of == component)?.1.storage()
}

/// The volumes of the database that another project runs.
pub fn cluster(cr: &RorunStack) -> Option<ClusterVolumes<'_>> {
    cluster_of(&cr.spec)
}

/// Likewise, of a spec.
pub(super) fn cluster_of(spec: &RorunStackSpec) -> Option<ClusterVolumes<'_>> {
    chosen(spec).into_iter().find_map(|(_, mode)| mode.cluster())
}

/// The fields for the pods of the servers that the operator runs.
pub(super) fn pods(spec: &RorunStackSpec) -> impl Iterator<Item = (Component, PodFields<'_>)> {
    chosen(spec).into_iter().filter_map(|(component, mode)| Some((component, mode.pods()?)))
}

/// The services whose server gets the role of the application by a Job.
pub(super) fn provisioned(spec: &RorunStackSpec) -> impl Iterator<Item = Component> {
    chosen(spec).into_iter().filter_map(|(component, mode)| mode.is_provisioned().then_some(component))
}

/// Adds the Secrets that the services name.
pub(super) fn references(stack: &str, spec: &RorunStackSpec, found: &mut References) {
    for (_, mode) in chosen(spec) {
        mode.references(stack, found);
    }
    if let Some(external) = super::backup::destination(spec) {
        external.references(stack, found);
    }
    super::recovery::buckets(spec).for_each(|copy| copy.references(stack, found));
    super::seed::references(stack, spec, found);
    if let Some(keys) = super::recovery::reader_secret(spec) {
        AccessKeys::reference(&keys, found);
    }
    if let Some(identity) = super::recovery::identity(spec) {
        // Only its pods read it.
        found.secret(&identity.name, []);
    }
}

/// Adds values for the Secrets that the services name.
pub(super) fn placeholders(stack: &str, spec: &RorunStackSpec, values: &mut Values<'_>) {
    for (_, mode) in chosen(spec) {
        mode.placeholders(stack, values);
    }
    if let Some(external) = super::backup::destination(spec) {
        external.placeholders(stack, values);
    }
    super::recovery::buckets(spec).for_each(|copy| copy.placeholders(stack, values));
    super::seed::placeholders(stack, spec, values);
    if let Some(keys) = super::recovery::reader_secret(spec) {
        AccessKeys::placeholders(&keys, values);
    }
    if let Some(identity) = super::recovery::identity(spec) {
        let value = values.value();
        values.secret(&identity.name, super::recovery::key(identity), value);
    }
}

/// The modes that Production refuses, as warnings.
pub(super) fn warnings(spec: &RorunStackSpec) -> impl Iterator<Item = String> {
    chosen(spec).into_iter().filter_map(|(component, mode)| mode.warning(component))
}

impl Stack {
    /// The mode of a data service.
    pub fn mode(&self, component: Component) -> Option<&dyn Mode> {
        match component {
            Component::Database => Some(self.database.mode()),
            Component::Redis => Some(self.redis.mode()),
            Component::Bucket => Some(self.bucket.mode()),
            _ => None,
        }
    }

    /// Whether a service has no address yet, though nothing is missing that a user has to mend: its own objects are applied, and what
    /// needs the address waits.
    pub fn lacks_address(&self, component: Component) -> bool {
        match component {
            Component::Database => self.database.mode().access().is_none(),
            Component::Redis => self.redis.mode().access().is_none(),
            Component::Bucket => self.bucket.mode().access().is_none(),
            _ => false,
        }
    }

    /// The server that the operator runs for a data service.
    pub fn server(&self, component: Component) -> Option<&Server> {
        self.mode(component)?.server()
    }

    /// The modes of the data services.
    pub(super) fn modes(&self) -> impl Iterator<Item = &dyn Mode> {
        let services = [Component::Database, Component::Redis, Component::Bucket];
        services.into_iter().filter_map(|component| self.mode(component))
    }

    /// The folder of the backups in the stack's own bucket.
    pub(super) fn backups_in_bucket(&self) -> Option<&str> {
        let shared = self.backup.as_ref().filter(|backup| !backup.own_destination);
        shared.map(|backup| backup.prefix.as_str())
    }

    /// What runs beside the containers of the application's pods to reach a service, so that a corrected one is another Job.
    pub(super) fn beside_pods(&self) -> Vec<String> {
        let proxies: Vec<_> = self.modes().filter_map(Mode::proxy).collect();
        let pulled = self.pull_secrets.iter().filter(|_| !proxies.is_empty()).cloned();
        proxies.iter().flat_map(|proxy| proxy.means()).chain(pulled).collect()
    }

    /// The services to probe: an external database by each of its URLs.
    pub fn endpoints(&self) -> BTreeMap<ProbeTarget, Endpoint> {
        let shared = self.backups_in_bucket();
        let mut endpoints: BTreeMap<_, _> = self.modes().flat_map(|mode| mode.endpoints(shared)).collect();
        endpoints.extend(self.destination().map(|endpoint| (Component::Backup.into(), endpoint)));
        // A role is the pods': with one of its own the operator would do for a tenant what the tenant may not.
        let by_role =
            |endpoint: &Endpoint| matches!(endpoint, Endpoint::Bucket { access, .. } if access.keys.is_none());
        endpoints.retain(|target, endpoint| self.not_probed(target.component).is_none() && !by_role(endpoint));
        endpoints
    }
}
