//! The stateless services: API, OCR service and admin panel.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Container, ContainerPort, EnvFromSource, HTTPGetAction, Lifecycle, LifecycleHandler, PodTemplateSpec,
            Probe, SecretEnvSource, SleepAction, TCPSocketAction, TopologySpreadConstraint, Volume,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Component, Keys, autoscaler, images, metadata,
    pod::{self, Pod},
    pod_template, proxy, service, serving, trust,
};
use crate::{
    contract,
    names::{Component as Name, ROLE_CA, Waiting, annotation},
    objects::{DesiredObject, LiveSet, Readiness},
    plan::{
        Plan,
        release::{Pick, State},
    },
    stack::{Replicas, Stack, Workload as Resolved},
};

/// The user of the application's pods. A number, since the kubelet cannot tell whether a name is root.
pub(super) const USER: i64 = 10001;
pub(super) const PORT_NAME: &str = "http";

/// A stateless service.
pub(super) struct Workload {
    name: Name,
    requires: &'static [Name],
    waits_for: &'static [Name],
}

/// The OCR service.
pub(super) static OCR: Workload = Workload { name: Name::Ocr, requires: &[Name::Connection], waits_for: DATA };
/// The API server.
pub(super) static API: Workload = Workload { name: Name::Api, requires: &[Name::Connection], waits_for: DATA };
/// The admin panel: static files, so it needs nothing.
pub(super) static ADMIN: Workload = Workload { name: Name::Admin, requires: &[], waits_for: &[] };

const DATA: &[Name] = &[Name::Database, Name::Redis, Name::Bucket];

impl Component for Workload {
    fn name(&self) -> Name {
        self.name
    }

    fn requires(&self) -> &'static [Name] {
        self.requires
    }

    fn waits_for(&self) -> &'static [Name] {
        self.waits_for
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let Some(workload) = stack.workload(self.name) else { return Vec::new() };
        let mut objects = vec![
            service::account(stack, self.name, &workload.service_account_annotations),
            service::service(stack, self.name, workload.port, PORT_NAME),
            deployment(
                stack,
                workload,
                plan.release.picked().and_then(|revision| revision.content.workload(self.name)),
            ),
        ];
        objects.extend(autoscaler::autoscaler(stack, workload));
        objects.extend(autoscaler::disruption_budget(stack, workload));
        objects
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        stack
            .workload(self.name)
            .map_or(Readiness::Ready, |workload| serving::readiness(stack, workload, objects, live))
    }

    fn planned(&self, _: &Stack, plan: &Plan, live: &LiveSet) -> Option<Waiting> {
        let release = &plan.release;
        if release.state == State::RolledBack {
            return release.waiting.clone().filter(|_| self.name == Name::Api);
        }
        // Without a revision that served there are no pods to be left as they are.
        let missing =
            release.pick == Pick::Unchanged && live.of_component("Deployment", self.name.as_str()).next().is_none();
        missing.then(|| super::waits(self.name, Name::Migration))
    }

    fn note(&self, stack: &Stack, live: &LiveSet) -> Option<String> {
        let workload = stack.workload(self.name)?;
        let notes = [
            serving::note(stack, workload, live),
            images::note(workload, live),
            stack.disruption_note(self.name),
            stack.migrations_note().filter(|_| self.name == Name::Api),
        ];
        let notes: Vec<_> = notes.into_iter().flatten().collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// `revision`: which one of the workload the pods are of.
fn deployment(stack: &Stack, workload: &Resolved, revision: Option<String>) -> DesiredObject {
    let component = workload.component;
    let mut template = template(stack, workload);
    let mut metadata = metadata::owned(stack, component, stack.child(component));
    let corrected =
        trust::corrected(stack, workload, &stack.corrected, &mut template).map(|corrected| corrected.to_string());
    let notes = [(annotation::CORRECTED, corrected), (annotation::REVISION, revision)];
    let notes: metadata::Strings =
        notes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    metadata.annotations = (!notes.is_empty()).then_some(notes);
    DesiredObject::own(&Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            // With an autoscaler the number is not ours: an applied one would be set back at each change.
            replicas: match workload.replicas {
                _ if stack.has_no_pods() => Some(0),
                Replicas::Fixed(count) => Some(count),
                Replicas::Auto { .. } => None,
            },
            progress_deadline_seconds: Some(workload.progress_deadline_seconds),
            revision_history_limit: Some(5),
            selector: metadata::selector(stack, component),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    })
}

/// The template of its pods.
pub(super) fn template(stack: &Stack, workload: &Resolved) -> PodTemplateSpec {
    let Parts { container, init_containers, volumes } = parts(stack, workload);
    let template = Pod {
        component: workload.component,
        containers: vec![container],
        init_containers,
        volumes,
        user: USER,
        config_hash: Some(&workload.config_hash),
        image: &workload.image,
    }
    .template(stack)
    .with(|template| {
        if let Some(metadata) = &mut template.metadata {
            // The user's come first, so that ours win: selectors must match for ever.
            let ours = metadata.labels.take().unwrap_or_default();
            metadata.labels = Some(workload.pod_labels.clone().into_iter().chain(ours).collect());
            let ours = metadata.annotations.take().unwrap_or_default();
            metadata.annotations = Some(workload.pod_annotations.clone().into_iter().chain(ours).collect());
        }
        if let Some(spec) = &mut template.spec {
            spec.termination_grace_period_seconds = workload.termination_grace_period_seconds.map(i64::from);
            let scheduling = &workload.scheduling;
            spec.node_selector = Some(scheduling.node_selector.clone());
            spec.tolerations = Some(scheduling.tolerations.clone());
            spec.affinity.clone_from(&scheduling.affinity);
            spec.priority_class_name.clone_from(&scheduling.priority_class_name);
            spec.topology_spread_constraints =
                scheduling.topology_spread_constraints.clone().or_else(|| spread(stack, workload));
        }
    });
    pod_template::shaped(stack, workload.component, template)
}

/// What a pod is made of.
pub(super) struct Parts {
    pub(super) container: Container,
    pub(super) init_containers: Vec<Container>,
    pub(super) volumes: Vec<Volume>,
}

/// What a pod of a workload is made of.
pub(super) fn parts(stack: &Stack, workload: &Resolved) -> Parts {
    let mut container = pod::container(stack, workload.component.as_str(), &workload.image);
    let mut volumes = vec![pod::scratch("tmp")];
    let mut mounts = vec![pod::mount("tmp", "/tmp")];
    let mut env = vec![pod::variable("PORT", workload.port.to_string())];
    env.extend(workload.api_url.as_ref().map(|url| pod::variable("API_URL", url.clone())));
    let pool = workload.database_connections;
    env.extend(pool.map(|connections| pod::variable("DATABASE_POOL_SIZE", connections.to_string())));
    let (mut env_from, mut init_containers) = (Vec::new(), Vec::new());
    if workload.connected {
        init_containers.extend(proxy::proxy(stack));
        let secret_ref = SecretEnvSource { name: stack.child(Name::Connection), optional: None };
        env_from.push(EnvFromSource { secret_ref: Some(secret_ref), ..EnvFromSource::default() });
        match stack.connection.as_ref().filter(|connection| connection.ca.is_some()) {
            Some(connection) if connection.apart => {
                let trust = trust::trust(stack, workload, connection);
                init_containers.push(trust.init);
                volumes.extend(trust.volumes);
                mounts.push(trust.mount);
                env.extend(trust.variables);
            }
            // Only the database names authorities.
            Some(_) => {
                let (volume, mount) = pod::authorities(stack.child_role(Name::Connection, ROLE_CA));
                volumes.push(volume);
                mounts.push(mount);
                env.extend(["NODE_EXTRA_CA_CERTS", "PGSSLROOTCERT"].map(|name| pod::variable(name, contract::CA_PATH)));
            }
            None => {}
        }
        if let Some((volume, mount)) = pod::client_certificate(stack) {
            volumes.push(volume);
            mounts.push(mount);
            let files = [("PGSSLCERT", contract::CLIENT_CERTIFICATE_PATH), ("PGSSLKEY", contract::CLIENT_KEY_PATH)];
            env.extend(files.map(|(name, path)| pod::variable(name, path)));
        }
    }
    env.retain(|ours| workload.env.iter().all(|theirs| theirs.name != ours.name));
    env.extend(workload.env.iter().cloned());
    env_from.extend(workload.env_from.iter().cloned());
    container.command = Some(workload.command.clone());
    container.args = Some(workload.args.clone());
    container.env = Some(env);
    container.env_from = Some(env_from);
    container.volume_mounts = Some(mounts);
    container.resources = Some(workload.resources.clone());
    container.ports = Some(vec![ContainerPort {
        name: Some(PORT_NAME.to_owned()),
        container_port: workload.port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    // Endpoints are taken out while the pod still serves: without the pause the last requests would meet a closed port.
    container.lifecycle = Some(Lifecycle {
        pre_stop: Some(LifecycleHandler { sleep: Some(SleepAction { seconds: 5 }), ..LifecycleHandler::default() }),
        ..Lifecycle::default()
    });
    probes(&mut container, workload);
    Parts { container, init_containers, volumes }
}

/// How often the kubelet asks a pod that starts, in seconds.
const STARTUP_PERIOD: i32 = 2;

/// Readiness and start-up ask the health path. Liveness asks only for an open port: a health check that asks the database
/// must take a pod out of service while the database is down, not kill it.
fn probes(container: &mut Container, workload: &Resolved) {
    let port = IntOrString::String(PORT_NAME.to_owned());
    let health = HTTPGetAction {
        path: Some(workload.health.path.clone()),
        port: port.clone(),
        scheme: Some("HTTP".to_owned()),
        ..HTTPGetAction::default()
    };
    container.startup_probe = Some(Probe {
        http_get: Some(health.clone()),
        period_seconds: Some(STARTUP_PERIOD),
        timeout_seconds: Some(5),
        failure_threshold: Some((workload.health.startup_seconds / STARTUP_PERIOD).max(1)),
        ..Probe::default()
    });
    container.readiness_probe = Some(Probe {
        http_get: Some(health),
        period_seconds: Some(5),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    });
    container.liveness_probe = Some(Probe {
        tcp_socket: Some(TCPSocketAction { port, ..TCPSocketAction::default() }),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    });
}

/// Over nodes and zones as evenly as can be, without keeping a pod from running.
fn spread(stack: &Stack, workload: &Resolved) -> Option<Vec<TopologySpreadConstraint>> {
    if workload.replicas.floor() < 2 {
        return None;
    }
    let constraint = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(metadata::selector(stack, workload.component)),
        ..TopologySpreadConstraint::default()
    };
    Some(vec![constraint("kubernetes.io/hostname"), constraint("topology.kubernetes.io/zone")])
}
