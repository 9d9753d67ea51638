//! The interface of the modes of a data service: `embedded`, `external`, and those to come.
//!
//! Each service has an enum of its modes, which its own folder matches exhaustively and no other code matches: the rest of the
//! crate asks through [`Mode`]. A new mode is one file here and one in `desired`, which the enum, the field of the spec and an
//! example name.

use super::{
    CredentialKeys, Credentials, Endpoint, Observed, ProbeTarget, Probing, References, Restorable, credential_keys,
    database::{PoolerLimits, Proxy},
    placeholders::Values,
    volume::Volume,
};
use crate::{
    api::v1alpha1::{ExternalBucket, PodTemplate, RorunStackSpec, Scheduling, Storage},
    contract::{ConnectionLimit, Provider},
    names::{Component, ObjectName, Waiting},
};
use k8s_openapi::api::core::v1::ResourceRequirements;
use std::collections::BTreeMap;

/// A data service in one of its modes.
pub trait Mode: Send + Sync {
    /// The server that the operator runs in a pod of the stack.
    fn server(&self) -> Option<&Server> {
        None
    }

    /// The major version of the server, which the spec says. `None`: it says nothing of it.
    fn major_version(&self) -> Option<&str> {
        None
    }

    /// How large the volume of a server is, which the spec says. `None`: it says nothing of it.
    fn volume_size(&self) -> Option<&str> {
        self.server().map(|server| server.volume.size.as_str())
    }

    /// What the provider of the service can restore by itself. `None`: it says nothing of it.
    fn restorable(&self) -> Option<Restorable> {
        None
    }

    /// How the operator probes the service. `None`: the state of its pods is all that counts.
    fn probing(&self) -> Option<&Probing> {
        None
    }

    /// Notes about fields of the spec that have no effect, while the service serves without them.
    fn notes(&self) -> &[String] {
        self.server().map_or(&[], |server| &server.volume.notes)
    }

    /// The image of the servers, which has the programs of their very version. `None`: the operator does not know it.
    fn dump_image(&self) -> Option<&str> {
        self.server().map(|server| server.image.as_str())
    }

    /// Whose the service is, by the spec or by its host. `None`: nobody's that is known.
    fn provider(&self) -> Option<&'static Provider> {
        None
    }

    /// What the pooler lets through that the operator asks for. `None`: there is none.
    fn pooler(&self) -> Option<PoolerLimits> {
        None
    }

    /// How many connections a server takes that nobody asks, since the operator decides its settings. `None`: it is asked.
    fn connection_limit(&self) -> Option<ConnectionLimit> {
        None
    }

    /// The targets of the probes. The argument is the folder of the backups in the bucket.
    fn endpoints(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        Vec::new()
    }

    /// What a Job asks from the place of the pods. The argument is the folder of the backups in the bucket.
    fn asked_from_pods(&self, _: Option<&str>) -> Vec<(ProbeTarget, Endpoint)> {
        Vec::new()
    }

    /// What the provider calls the service and no other, also one that is made again by its name and address. `None`: nobody tells it.
    fn identity(&self) -> Option<&str> {
        None
    }

    /// Whether the service exists, so that a Job may ask it.
    fn stands(&self) -> bool {
        true
    }

    /// What runs beside the containers of every pod that uses the service, which nothing else reaches. `None`: it needs nothing.
    fn proxy(&self) -> Option<&Proxy> {
        None
    }
}

/// A mode whose service clients reach by an address of the type `Access`.
pub trait ModeAccess: Mode {
    /// The address and the credentials.
    type Access;

    /// The address and the credentials. `None`: see [`super::Stack::unresolved`].
    fn access(&self) -> Option<&Self::Access>;

    /// The name of what serves now, where a restore may have put another one in its place.
    fn live(&self) -> Option<&str> {
        None
    }

    /// The address of a server that a restore has recovered beside the live one. `None`: it has none yet.
    fn recovered(&self, _name: &str) -> Option<&Self::Access> {
        None
    }

    /// Whether the server is one that the operator chose, and of a version that understands every setting which a session is given.
    fn knows_settings(&self) -> bool {
        self.major_version().and_then(|major| major.parse().ok()).is_some_and(knows_settings)
    }
}

/// Whether PostgreSQL of a major version looks after its client while a statement runs: since 14 it has the setting for that.
pub(super) fn knows_settings(major: u32) -> bool {
    major >= 14
}

/// The block of a mode in the spec.
pub(super) trait ModeSpec: Sync {
    /// Adds the Secrets that the block names, or that are named after the stack, with the keys that the operator reads.
    fn references(&self, _stack: &str, _: &mut References) {}

    /// Adds values for these Secrets.
    fn placeholders(&self, _stack: &str, _: &mut Values<'_>) {}

    /// Whether the operator runs the server itself, on a volume and with generated credentials.
    fn is_embedded(&self) -> bool {
        false
    }

    /// The keys of the credentials that the operator generates. `None`: it generates none.
    fn generates(&self, component: Component) -> Option<CredentialKeys> {
        self.is_embedded().then(|| credential_keys(component))
    }

    /// The volume that the block asks for.
    fn storage(&self) -> Option<&Storage> {
        None
    }

    /// The volumes that the block asks another project for.
    fn cluster(&self) -> Option<ClusterVolumes<'_>> {
        None
    }

    /// The fields for the pods of the server that the operator runs.
    fn pods(&self) -> Option<PodFields<'_>> {
        None
    }

    /// Whether a Job makes the role of the application on the server.
    fn is_provisioned(&self) -> bool {
        false
    }

    /// Whether the application's keys open its backups, which go to `destination`, or without one to the stack's own bucket.
    fn opens_backups(&self, _: Option<&ExternalBucket>) -> bool {
        false
    }

    /// Why Production refuses the mode.
    fn warning(&self, _: Component) -> Option<String> {
        None
    }
}

/// The volumes of each server of a cluster that another project runs, and its archive.
#[derive(Clone, Copy, Debug)]
pub struct ClusterVolumes<'a> {
    /// For the data.
    pub storage: Option<&'a Storage>,
    /// For the log. `None`: it has none of its own.
    pub wal_storage: Option<&'a Storage>,
    /// After how long at the latest its log is archived, in its own words. `None`: by default.
    pub archive_timeout: Option<&'a str>,
}

/// The fields of a block of the spec for the pods that it asks for.
#[derive(Clone, Copy)]
pub(super) struct PodFields<'a> {
    /// The port that the main container listens on; 0 if it listens on none.
    pub(super) port: i32,
    pub(super) template: Option<&'a PodTemplate>,
    /// `None` also of workloads, which resolve it themselves.
    pub(super) scheduling: Option<&'a Scheduling>,
}

/// The block of a mode that resolves to one of the modes of `Service`.
pub(super) trait Resolve: ModeSpec {
    /// The enum of the service's modes.
    type Service;

    /// Resolves defaults, Secrets and credentials. Reasons for what cannot be resolved go to `unresolved`.
    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Self::Service;
}

/// A block of a union, if the spec has it, as a block of any mode.
pub(super) fn written<T: Resolve>(block: Option<&T>) -> Option<&dyn Resolve<Service = T::Service>> {
    block.map(|block| block as &dyn Resolve<Service = T::Service>)
}

/// A server that the operator runs: one pod with a volume.
#[derive(Clone, Debug)]
pub struct Server {
    /// The image.
    pub image: String,
    /// The volume.
    pub volume: Volume,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// The generated credentials. `None`: see [`super::Stack::unresolved`].
    pub credentials: Option<Credentials>,
}

/// The components that cannot be resolved, and why.
pub(super) type Unresolved = BTreeMap<Component, Waiting>;

/// The value; `None` if there is none, and then the reason goes to `unresolved`.
pub(super) fn ok_or_unresolved<T>(
    result: Result<T, Waiting>,
    component: Component,
    unresolved: &mut Unresolved,
) -> Option<T> {
    result.map_err(|waiting| unresolved.insert(component, waiting)).ok()
}

/// The inputs of a mode beside its own block.
pub(super) struct Context<'a> {
    pub(super) spec: &'a RorunStackSpec,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) observed: &'a Observed,
}

impl Context<'_> {
    /// The address of a component's Service within the cluster.
    pub(super) fn service_host(&self, component: Component) -> String {
        service_host(self.name, self.namespace, component)
    }
}

/// The address of a component's Service within the cluster.
pub(super) fn service_host(stack: &str, namespace: &str, component: Component) -> String {
    format!("{}.{namespace}.svc", ObjectName::of(stack, component))
}

/// The warning about an embedded service in Staging.
pub(super) fn single_pod(component: Component) -> String {
    format!("{component}.embedded is a single pod without failover: Production will refuse it")
}
