//! Starts the controllers: one of each type in each scope.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{request, requests::Requests, stack};
use crate::{
    api::v1alpha1::{RorunBackup, RorunRestore},
    runtime::{Clients, RunError, Runtime, RuntimeSettings, leader::LeaderConfig, optional::OptionalSettings},
    services::Network,
    telemetry::{Health, Metrics},
};

/// The settings of the operator.
pub struct Settings {
    /// The namespaces to watch. Empty: all.
    pub namespaces: Vec<String>,
    /// The lease to hold. `None`: there is only one replica.
    pub lease: Option<LeaderConfig>,
    /// How many stacks are reconciled at once.
    pub concurrency: u16,
    /// How often a settled stack is reconciled without an event, in case one was lost. It costs no call.
    pub resync: Duration,
    /// The image of the operator itself, for the agent in backup pods.
    pub agent_image: String,
    /// An admission policy makes sure of who approves a release.
    pub approvals_verified: bool,
    /// How the services of stacks are reached.
    pub network: Network,
    /// The name of this replica, for Events.
    pub instance: Option<String>,
    /// The APIs of other projects that are used where the cluster serves them.
    pub optional: OptionalSettings,
}

/// Runs until `shutdown`, then finishes the reconciles that have begun and hands the lease over.
pub async fn run(
    clients: Clients,
    settings: Settings,
    (metrics, health): (Arc<Metrics>, Arc<Health>),
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let of_runtime = RuntimeSettings {
        namespaces: settings.namespaces.clone(),
        lease: settings.lease.clone(),
        concurrency: settings.concurrency,
        instance: settings.instance.clone(),
        optional: settings.optional.clone(),
    };
    let runtime = Runtime::new(clients, of_runtime, metrics, health);
    let one_reader = Arc::default();
    // A type costs its file and its line here.
    let controllers = runtime.scopes().iter().flat_map(|scope| {
        let requests = Arc::<Requests>::default();
        [
            stack::controller(&runtime, scope, &settings, (&one_reader, &requests)),
            request::controller::<RorunBackup>(&runtime, scope, &requests),
            request::controller::<RorunRestore>(&runtime, scope, &requests),
        ]
    });
    let controllers = controllers.collect();
    runtime.run(controllers, shutdown).await
}
