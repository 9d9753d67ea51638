//! The common part of embedded services: the image, the volume, CPU and memory, and generated credentials.

use super::{
    credentials, defaults,
    mode::{Context, Server, Unresolved, ok_or_unresolved},
    volume,
};
use crate::{
    api::v1alpha1::{Resources, Storage},
    names::Component,
};

/// The block of an embedded service, and its defaults.
pub(super) struct ServerSpec<'a> {
    pub(super) component: Component,
    pub(super) image: &'a str,
    pub(super) storage: Option<&'a Storage>,
    pub(super) resources: Option<&'a Resources>,
    /// The requests of CPU and memory where the block has none.
    pub(super) requests: (&'static str, &'static str),
}

impl ServerSpec<'_> {
    pub(super) fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Server {
        let (cpu, memory) = self.requests;
        let sought = credentials::Sought::embedded(context.name, self.component);
        let credentials = credentials::resolve(&sought, context.observed);
        Server {
            image: defaults::image(defaults::registry(context.spec), self.image),
            volume: volume::resolve(self.storage, self.component, context.observed),
            resources: defaults::resources(self.resources, cpu, memory),
            credentials: ok_or_unresolved(credentials, self.component, unresolved),
        }
    }
}
