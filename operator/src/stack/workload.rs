//! A stateless service of a valid stack.

use std::collections::BTreeMap;

use super::{ConfigInput, Connection, Disruption, Observed, SecretData, defaults};
use crate::{
    api::v1alpha1::{Autoscaling, Environment, ScalingBehavior, Scheduling, WorkloadSpec},
    names::{Component, Waiting, reason},
};
use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, ResourceRequirements};

/// A stateless service.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The component.
    pub component: Component,
    /// The image.
    pub image: String,
    /// The command. Empty: the image's.
    pub command: Vec<String>,
    /// The arguments. Empty: the image's.
    pub args: Vec<String>,
    /// The port that it listens on.
    pub port: i32,
    /// How many pods.
    pub replicas: Replicas,
    /// How fast its autoscaler scales. `None`: as Kubernetes does.
    pub scaling_behavior: Option<ScalingBehavior>,
    /// How many pods evictions leave. `None`: it has no PodDisruptionBudget.
    pub disruption: Option<Disruption>,
    /// The public URL of the API, if its pods are to have it.
    pub api_url: Option<String>,
    /// Environment variables of the user.
    pub env: Vec<EnvVar>,
    /// Secrets and `ConfigMaps` of the user.
    pub env_from: Vec<EnvFromSource>,
    /// Whether its pods get the connection Secret.
    pub connected: bool,
    /// How many connections to the database a pod opens. `None`: the spec does not say.
    pub database_connections: Option<i32>,
    /// CPU and memory.
    pub resources: ResourceRequirements,
    /// How the kubelet finds out whether it serves.
    pub health: HealthCheck,
    /// Whether a candidate of a new image is tested before the rollout.
    pub candidate: bool,
    /// How long a rollout may make no progress, in seconds.
    pub progress_deadline_seconds: i32,
    /// How long a pod may go on after it was told to stop, in seconds. `None`: as long as Kubernetes lets it, 30.
    pub termination_grace_period_seconds: Option<i32>,
    /// Where its pods may run.
    pub scheduling: Scheduling,
    /// Annotations of its `ServiceAccount`.
    pub service_account_annotations: BTreeMap<String, String>,
    /// Labels of the user for its pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations of the user for its pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// A hash of the Secrets and `ConfigMaps` that its pods use.
    pub config_hash: String,
}

/// How many pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// A fixed number.
    Fixed(i32),
    /// As many as the load asks for.
    Auto {
        /// The fewest.
        min: i32,
        /// The most.
        max: i32,
        /// Percent of the requested CPU to aim at.
        cpu: i32,
        /// Percent of the requested memory to aim at.
        memory: Option<i32>,
    },
}

impl Replicas {
    /// The fewest pods that are wanted at any time.
    pub fn floor(self) -> i32 {
        match self {
            Self::Fixed(count) => count,
            Self::Auto { min, .. } => min,
        }
    }
}

/// How the kubelet finds out whether a pod serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path that answers 200.
    pub path: String,
    /// How long the first answer may take, in seconds.
    pub startup_seconds: i32,
}

/// Resolves the defaults of a workload.
pub(super) fn resolve(
    spec: &WorkloadSpec,
    component: Component,
    environment: Environment,
    registry: Option<&str>,
) -> Workload {
    let health = spec.health.clone().unwrap_or_default();
    let startup_seconds = health.startup_seconds.unwrap_or(60);
    let path = if component == Component::Admin { "/" } else { "/health" };
    let replicas = replicas(spec, component, environment);
    Workload {
        component,
        image: defaults::image(registry, &spec.image),
        command: spec.command.clone(),
        args: spec.args.clone(),
        port: port(spec, component),
        replicas,
        scaling_behavior: spec.autoscaling.as_ref().and_then(|autoscaling| autoscaling.behavior.clone()),
        disruption: Disruption::resolve(spec.disruption.as_ref(), replicas),
        api_url: None,
        env: spec.env.clone(),
        env_from: spec.env_from.clone(),
        connected: component != Component::Admin,
        database_connections: spec.database_connections.filter(|_| component != Component::Admin),
        resources: defaults::resources(spec.resources.as_ref(), "100m", "128Mi"),
        health: HealthCheck { path: health.path.unwrap_or_else(|| path.to_owned()), startup_seconds },
        candidate: spec.candidate.unwrap_or(environment != Environment::Development),
        // A pod may take as long as it is given to start, and then be pulled and scheduled.
        progress_deadline_seconds: spec.progress_deadline_seconds.unwrap_or_else(|| 600.max(startup_seconds + 300)),
        termination_grace_period_seconds: spec.termination_grace_period_seconds,
        scheduling: spec.scheduling.clone().unwrap_or_default(),
        service_account_annotations: spec
            .service_account
            .as_ref()
            .map(|account| account.annotations.clone())
            .unwrap_or_default(),
        pod_labels: spec.pod_labels.clone(),
        pod_annotations: spec.pod_annotations.clone(),
        config_hash: String::new(),
    }
}

/// The port that a workload listens on.
pub(super) fn port(spec: &WorkloadSpec, component: Component) -> i32 {
    spec.port.unwrap_or(match component {
        Component::Ocr => 8000,
        Component::Admin => 8080,
        _ => 3000,
    })
}

fn replicas(spec: &WorkloadSpec, component: Component, environment: Environment) -> Replicas {
    let auto = |spec: &Autoscaling| Replicas::Auto {
        min: spec.min_replicas.unwrap_or(2),
        max: spec.max_replicas.unwrap_or(10),
        cpu: spec.target_cpu_utilization.unwrap_or(70),
        memory: spec.target_memory_utilization,
    };
    match (&spec.autoscaling, spec.replicas, environment, component) {
        (Some(autoscaling), ..) => auto(autoscaling),
        (None, Some(count), ..) => Replicas::Fixed(count),
        (None, None, Environment::Development, _) => Replicas::Fixed(1),
        (None, None, _, Component::Admin) => Replicas::Fixed(2),
        (None, None, ..) => auto(&Autoscaling::default()),
    }
}

impl Workload {
    /// Hashes the values that the pods use: the connection if they get it, and the user's Secrets and `ConfigMaps`, of a
    /// Secret that is named by key just that key. The error names what is missing.
    pub(super) fn hash_config(&mut self, connection: Option<&Connection>, observed: &Observed) -> Result<(), Waiting> {
        self.config_hash = match observed.configuration.get(&self.component) {
            Some(hashed) => hashed.clone()?,
            None => self.config_input(connection).hash(observed)?,
        };
        Ok(())
    }

    /// The input of the workload's hash.
    pub(super) fn config_input(&self, connection: Option<&Connection>) -> ConfigInput {
        // Hashed as one: of each part alone it would take several times as long.
        let mut parts = Vec::with_capacity(4096);
        let mut add = |part: &[u8]| {
            parts.extend_from_slice(&(part.len() as u64).to_be_bytes());
            parts.extend_from_slice(part);
        };
        if let Some(connection) = connection.filter(|_| self.connected) {
            for (key, value) in connection.hashed() {
                add(key.as_bytes());
                add(value.as_bytes());
            }
            add(connection.ca.as_deref().unwrap_or_default().as_bytes());
            // Only where they are apart: the hash of every other stack is that of 0.1.0.
            if connection.apart {
                add(connection.database_ca.as_deref().unwrap_or_default().as_bytes());
            }
        }
        ConfigInput::new(self, parts)
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or_default());
        }
        text
    })
}

/// A Secret or `ConfigMap`, or one key of it, that a workload uses.
#[derive(Clone, Debug)]
pub struct ConfigReference {
    /// Whether it is a Secret.
    pub secret: bool,
    /// Its name.
    pub name: String,
    /// The one key that is used. `None`: all.
    pub key: Option<String>,
    optional: bool,
    /// Whether it is mounted: it must be there, and the pods see what changes in it without being replaced.
    mounted: bool,
    field: String,
}

impl ConfigReference {
    /// What a volume mounts: these keys, or whatever there is.
    pub(super) fn mounted<'a>(
        secret: bool,
        name: &str,
        keys: impl Iterator<Item = &'a str>,
        field: &str,
    ) -> Vec<ConfigReference> {
        let of = |key: Option<&str>| ConfigReference {
            secret,
            name: name.to_owned(),
            key: key.map(str::to_owned),
            optional: false,
            mounted: true,
            field: field.to_owned(),
        };
        let named: Vec<_> = keys.map(|key| of(Some(key))).collect();
        if named.is_empty() { vec![of(None)] } else { named }
    }

    /// Whether no value of it is needed, only that it is there.
    pub fn is_presence(&self) -> bool {
        self.mounted && self.key.is_none()
    }

    /// The kind, in lower case.
    fn kind(&self) -> &'static str {
        if self.secret { "secret" } else { "configmap" }
    }

    /// All that distinguishes it from another reference.
    pub(super) fn identity(&self) -> String {
        let Self { name, key, optional, field, .. } = self;
        format!("{}/{name}/{}/{optional}/{field}", self.kind(), key.as_deref().unwrap_or_default())
    }

    /// The values that the pods are replaced for; none if it is mounted, or optional and not there.
    pub(super) fn values<'a>(&self, source: Option<&'a SecretData>) -> Result<Vec<(&'a String, &'a Vec<u8>)>, Waiting> {
        let kind = self.kind();
        let Some(data) = source else {
            return self.missing(reason::REFERENCE_MISSING, || {
                format!(
                    "{kind}/{}, named by {}, does not exist: create it in the stack's namespace",
                    self.name, self.field
                )
            });
        };
        let Some(key) = &self.key else { return Ok(data.iter().filter(|_| !self.mounted).collect()) };
        match data.get_key_value(key) {
            Some(_) if self.mounted => Ok(Vec::new()),
            Some(value) => Ok(vec![value]),
            None => self.missing(reason::KEY_MISSING, || {
                format!("{kind}/{}, named by {}, lacks the key {key}: add it", self.name, self.field)
            }),
        }
    }

    fn missing<T>(&self, why: reason::Reason, message: impl Fn() -> String) -> Result<Vec<T>, Waiting> {
        if self.optional { Ok(Vec::new()) } else { Err(Waiting::new(why, message())) }
    }
}

/// The Secrets and `ConfigMaps` that a workload's `env` and `envFrom` name.
pub(super) fn config_references(
    component: Component,
    env: &[EnvVar],
    env_from: &[EnvFromSource],
) -> impl Iterator<Item = ConfigReference> {
    let reference = |secret: bool, name: &str, key: Option<&str>, optional: Option<bool>, list: &str| ConfigReference {
        secret,
        name: name.to_owned(),
        key: key.map(str::to_owned),
        optional: optional.unwrap_or(false),
        mounted: false,
        field: format!("{component}.{list}"),
    };
    let from_env = env.iter().filter_map(|variable| variable.value_from.as_ref()).flat_map(move |source| {
        let secret =
            source.secret_key_ref.as_ref().map(|key| reference(true, &key.name, Some(&key.key), key.optional, "env"));
        let map = source
            .config_map_key_ref
            .as_ref()
            .map(|key| reference(false, &key.name, Some(&key.key), key.optional, "env"));
        secret.into_iter().chain(map)
    });
    let from_lists = env_from.iter().flat_map(move |source| {
        let secret = source.secret_ref.as_ref().map(|of| reference(true, &of.name, None, of.optional, "envFrom"));
        let map = source.config_map_ref.as_ref().map(|of| reference(false, &of.name, None, of.optional, "envFrom"));
        secret.into_iter().chain(map)
    });
    from_env.chain(from_lists).collect::<Vec<_>>().into_iter()
}
