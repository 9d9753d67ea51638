//! Redis or Valkey. Embedded: one pod with a volume. External: nothing to make.

use k8s_openapi::api::core::v1::{Container, ContainerPort, ExecAction, Probe, ResourceRequirements};

use super::{
    Component, Places, credentials, metadata,
    pod::{self, Pod},
    pods_readiness, probed, service,
};
use crate::{
    names::{Component as Name, ROLE_CREDENTIALS},
    objects::{DesiredObject, LiveSet, Readiness},
    plan::Plan,
    stack::{REDIS_PORT, Redis as Resolved, Stack},
};

/// The uid of `valkey` and of `redis` in the official images.
const USER: i64 = 999;
const PORT_NAME: &str = "redis";

/// The password goes through a file in memory: an argument would show in the list of processes. Queues must not lose entries,
/// so nothing is evicted, and every second is synced to disk.
const START: &str = r#"server=$(command -v valkey-server || command -v redis-server) || { echo "neither valkey-server nor redis-server is in PATH" >&2; exit 127; }
umask 077
printf 'requirepass "%s"\n' "$REDISCLI_AUTH" > /run/auth/auth.conf
exec "$server" /run/auth/auth.conf --dir /data --appendonly yes --appendfsync everysec --maxmemory-policy noeviction --protected-mode no"#;

/// The client reads the password from `REDISCLI_AUTH`.
const ASK: &str = r#"client=$(command -v valkey-cli || command -v redis-cli) && [ "$("$client" ping)" = PONG ]"#;

pub(super) struct Redis;

impl Component for Redis {
    fn name(&self) -> Name {
        Name::Redis
    }

    fn objects(&self, stack: &Stack, _: &Plan) -> Vec<DesiredObject> {
        let Resolved::Embedded { image, volume, resources, credentials: Some(credentials) } = &stack.redis else {
            return Vec::new();
        };
        vec![
            service::account(stack, Name::Redis, &metadata::Strings::new()),
            credentials::secret(stack, Name::Redis, credentials),
            service::volume(stack, Name::Redis, volume),
            service::service(stack, Name::Redis, REDIS_PORT, PORT_NAME),
            service::stateful_set(stack, pod(stack, image, resources)),
        ]
    }

    fn readiness(&self, stack: &Stack, objects: &mut Places<'_>, live: &LiveSet) -> Readiness {
        match stack.redis {
            Resolved::Embedded { .. } => pods_readiness(Name::Redis, objects, live),
            Resolved::External(_) => probed(stack, Name::Redis),
        }
    }
}

fn pod<'a>(stack: &Stack, image: &'a str, resources: &ResourceRequirements) -> Pod<'a> {
    Pod {
        component: Name::Redis,
        containers: vec![container(stack, image, resources)],
        init_containers: Vec::new(),
        volumes: vec![pod::claim("data", stack.child(Name::Redis)), pod::memory("auth")],
        user: USER,
        config_hash: None,
        image,
    }
}

fn container(stack: &Stack, image: &str, resources: &ResourceRequirements) -> Container {
    let mut container = pod::container(stack, "redis", image);
    let shell = |script: &str| Some(["sh", "-c", script].map(str::to_owned).into());
    container.command = shell(START);
    container.env =
        Some(vec![pod::secret_variable("REDISCLI_AUTH", &stack.child_role(Name::Redis, ROLE_CREDENTIALS), "password")]);
    container.ports = Some(vec![ContainerPort {
        name: Some(PORT_NAME.to_owned()),
        container_port: REDIS_PORT,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    container.resources = Some(resources.clone());
    container.volume_mounts = Some(vec![pod::mount("data", "/data"), pod::mount("auth", "/run/auth")]);
    let ask = |period, failures| Probe {
        exec: Some(ExecAction { command: shell(ASK) }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    // Loading a large append-only file takes long.
    container.startup_probe = Some(ask(1, 600));
    container.readiness_probe = Some(ask(5, 3));
    container.liveness_probe = Some(ask(10, 6));
    container
}
