//! The valid stack: a `RorunStack` with every default resolved.
//!
//! What enters: the resource and what was observed. What leaves: a [`Stack`]. What cannot be resolved now (a missing Secret, lost
//! credentials) is an entry of [`Stack::unresolved`]; the operator then leaves that component and those that need it as they are.
//! Forbidden here: the client, the clock, the environment, random numbers.

mod api_url;
mod backup;
pub mod bucket;
pub mod clusters;
mod configuration;
mod connection;
mod corrections;
mod credentials;
pub mod database;
mod defaults;
mod disruption;
mod endpoint;
mod from_pods;
mod hibernation;
mod ingress;
mod managed;
mod mode;
mod monitoring;
mod observed;
mod placeholders;
mod pod_template;
mod point_in_time;
mod preflight;
mod probes;
mod probing;
mod progress;
mod recovery;
pub mod redis;
mod references;
mod release;
mod released;
mod requests;
mod sanitize;
mod schedule;
mod secret;
mod seed;
mod server;
mod services;
mod validate;
mod volume;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

pub use backup::{Backup, backed_up, backup_folders, has_own_destination};
pub use bucket::{AccessKeys, Bucket, BucketAccess, SessionToken, asks_for_rules, bucket_port};
pub use clusters::{Clusters, ExistingCluster, LiveCluster, Recovered};
pub use configuration::{CONFIGURATION_MAX, ConfigHasher, ConfigInput, configuration_too_large};
pub use connection::{Connection, authorities, bucket_variables};
pub use corrections::{Corrected, Correction};
pub use credentials::{
    CredentialKeys, Credentials, connection_keys, credential_bytes, credential_keys, forms, keys_of,
};
pub use database::{Database, DatabaseAccess, NamedUrl, PROXY_HEALTH_PORT};
pub use defaults::image as full_image;
pub use disruption::Disruption;
pub use endpoint::Endpoint;
pub use from_pods::FromPods;
pub use hibernation::{Cause, Expiry, Hibernation};
pub use ingress::{Host, Ingress, Route};
pub use managed::{ManagedService, Restorable};
pub use mode::{ClusterVolumes, Mode, ModeAccess, Server};
pub use monitoring::Monitoring;
pub use observed::{
    Command, CredentialState, Excuse, Handled, JobPhase, Observed, ObservedCluster, ObservedJob, ObservedReleases,
    ObservedVolume, ObservedWorkload, Probe, RunningServer, SecretData, SecretTraits,
};
pub use placeholders::Placeholders;
pub use pod_template::{Block, JOBS, Own, PodPatch, PodShape, Replaced, own};
pub use point_in_time::{Archive, Archives, PointInTime};
pub use preflight::{ConnectionBudget, Finding};
pub use probes::{ProbeTarget, ServiceUrl};
pub use probing::Probing;
pub use progress::{Attempt, NotBegun, Progress, RecoveryPoint, Revision, RolledBack, Tested};
pub use recovery::{PointCopy, Recovery, Verify};
pub use redis::{Redis, RedisAccess};
pub use references::{References, references};
pub use release::{Beside, Content, Migration, Place, ReleaseSettings, WORKLOADS};
pub use requests::{BackupRequest, PointProblem, RESTORED, RestorePoint, RestoreRequest};
pub use sanitize::{SanitizeRequest, Statements, backup_references};
pub use schedule::Schedule;
pub use seed::{SEED_FROM, Seed};
pub use services::{cluster, embedded, generated, storage};
pub use validate::{config_inputs, validate, validate_served};
pub use volume::{Volume, grows};
pub use workload::{ConfigReference, HealthCheck, Replicas, Workload};

use crate::{
    api::v1alpha1::{BackupStatus, Environment, PullPolicy, ServiceStatus},
    contract::BucketRules,
    names::{Component, ObjectName, Role, Waiting},
};

/// The port of the embedded PostgreSQL.
pub const POSTGRES_PORT: i32 = 5432;
/// The port of the embedded Redis.
pub const REDIS_PORT: i32 = 6379;

/// A stack that cannot be wrong.
#[derive(Clone, Debug)]
pub struct Stack {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The environment.
    pub environment: Environment,
    /// Change nothing.
    pub suspend: bool,
    /// Whether the stack is to hibernate.
    pub hibernation: Hibernation,
    /// It hibernates: no pods run. The plan decides it.
    pub asleep: bool,
    /// No pod of the application runs for now: a restore switches its data. The plan decides it.
    pub stopped: bool,
    /// The API server.
    pub api: Workload,
    /// The OCR service.
    pub ocr: Option<Workload>,
    /// The admin panel.
    pub admin: Option<Workload>,
    /// What the spec says of a release.
    pub content: Content,
    /// What the pods of the workloads are made of beside that.
    pub beside: Beside,
    /// How a release reaches the users.
    pub release: ReleaseSettings,
    /// The stack with the workloads of the revision that served last. `None`: they are those of the spec, or none ever served.
    pub serving: Option<Box<Stack>>,
    /// The stack with the workloads of the release on its way, while those of another one serve. `None`: it is this one.
    pub target: Option<Box<Stack>>,
    /// The components that only a step brings: candidates of a release that are tested or did not pass, rules of the bucket that a
    /// Job sets or takes off, a Job that asks services, and a restore.
    pub steps: BTreeSet<Component>,
    /// PostgreSQL.
    pub database: Database,
    /// Redis.
    pub redis: Redis,
    /// The bucket.
    pub bucket: Bucket,
    /// The values of the connection Secret. `None`: a service that it needs is not resolved.
    pub connection: Option<Connection>,
    /// How requests reach the stack.
    pub ingress: Option<Ingress>,
    /// The rules that the bucket is to have. `None`: nothing was ever asked for.
    pub bucket_rules: Option<BucketRules>,
    /// The dumps of the database.
    pub backup: Option<Backup>,
    /// The recovery point that the database begins with, if the spec names one.
    pub seed: Option<Box<Seed>>,
    /// What collects the metrics of the application.
    pub monitoring: Option<Monitoring>,
    /// Names of Secrets to pull images with.
    pub pull_secrets: Vec<String>,
    /// When images are pulled.
    pub pull_policy: PullPolicy,
    /// The image of the operator itself, for the agent in backup pods.
    pub agent_image: String,
    /// How the operator probes the services. Defaults, for an absent one, to what suits the service.
    pub probing: BTreeMap<Component, Probing>,
    /// The results of the probes so far.
    pub probes: BTreeMap<ProbeTarget, Probe>,
    /// What a Job asks of services from the place of the pods. `None`: nothing.
    pub from_pods: Option<FromPods>,
    /// The services in the last status, if that is of this very spec.
    pub known_services: Vec<ServiceStatus>,
    /// When the newest good backup that is known was complete, in seconds since 1970.
    pub last_backup: Option<i64>,
    /// When the newest drill that found nothing wrong ended, in seconds since 1970.
    pub last_verified: Option<i64>,
    /// What the last status tells of the newest good backup and the last drill: their pods may be gone.
    pub known_backup: BackupStatus,
    /// Why components cannot be resolved now.
    pub unresolved: BTreeMap<Component, Waiting>,
    /// What the spec says of the pods of a component.
    pub pods: BTreeMap<Component, PodShape>,
    /// Components whose pods cannot be as the spec asks for, and why. The operator leaves these pods as they are, and no other
    /// component waits for it.
    pub pods_refused: BTreeMap<Component, Waiting>,
    /// The corrections that the Deployments record.
    pub corrected: BTreeMap<Component, Corrected>,
    /// The same of the Deployments of candidates, by the workload.
    pub corrected_candidates: BTreeMap<Component, Corrected>,
    /// The components whose correction is deferred: another stack's comes first.
    pub deferred: BTreeSet<Component>,
    /// Warnings for Events: the stack works, and a later change would be refused.
    pub warnings: Vec<String>,
}

impl Stack {
    /// The name of a component's own child.
    pub fn child(&self, component: Component) -> String {
        ObjectName::of(&self.name, component).into()
    }

    /// The name of the live Cluster, of a database of CloudNativePG.
    pub fn cluster(&self) -> String {
        self.database.mode().live().map_or_else(|| self.child(Component::Database), str::to_owned)
    }

    /// The address of a Cluster that a restore has recovered. `None`: it has none yet.
    pub fn recovered_access(&self, cluster: &str) -> Option<&DatabaseAccess> {
        self.database.mode().recovered(cluster)
    }

    /// The name of a component's child with a role of its own.
    pub fn child_role(&self, component: Component, role: Role) -> String {
        ObjectName::with_role(&self.name, component, role).into()
    }

    /// The address of a component's Service within the cluster.
    pub fn service_host(&self, component: Component) -> String {
        mode::service_host(&self.name, &self.namespace, component)
    }

    /// Whether no pod of the application is to run: the stack hibernates, or a restore switches its data.
    pub fn has_no_pods(&self) -> bool {
        self.asleep || self.stopped
    }

    /// Notes about fields of the spec that have no effect, while the component serves without them.
    pub fn notes(&self, component: Component) -> &[String] {
        self.mode(component).map_or(&[], Mode::notes)
    }

    /// The stack with the workloads of the release that the spec asks for.
    pub fn target(&self) -> &Stack {
        self.target.as_deref().unwrap_or(self)
    }

    /// The workload of a component.
    pub fn workload(&self, component: Component) -> Option<&Workload> {
        match component {
            Component::Api => Some(&self.api),
            Component::Ocr => self.ocr.as_ref(),
            Component::Admin => self.admin.as_ref(),
            _ => None,
        }
    }

    /// The drills of the backups.
    pub fn verify(&self) -> Option<&Verify> {
        self.backup.as_ref()?.recovery.verify.as_ref()
    }

    /// Whether the spec asks for the component.
    pub fn has(&self, component: Component) -> bool {
        match component {
            Component::Ocr => self.ocr.is_some(),
            Component::Admin => self.admin.is_some(),
            Component::Ingress => self.ingress.is_some(),
            Component::Backup => self.backup.is_some(),
            Component::Drill => self.verify().is_some(),
            Component::Migration => self.release.approval_required || self.release.migration.is_some(),
            Component::Monitoring => self.monitoring.is_some(),
            Component::SmokeTest | Component::Restore | Component::Sanitize => self.steps.contains(&component),
            // It tells at once what of `jobs` is refused, which the next Job would otherwise find out.
            Component::Preflight => self.steps.contains(&component) || self.pods_refused.contains_key(&component),
            Component::BucketRules => {
                let asked = |rules: &BucketRules| {
                    rules.lifecycle.is_some() || !rules.origins.is_empty() || rules.replication.is_some()
                };
                self.steps.contains(&component)
                    || self.bucket_rules.as_ref().is_some_and(asked)
                    || self.unresolved.contains_key(&component)
            }
            _ => true,
        }
    }
}
