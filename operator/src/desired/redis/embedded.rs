//! Redis or Valkey in the cluster: one pod with a volume.

use k8s_openapi::api::core::v1::{Container, ContainerPort, ExecAction, Probe};

use crate::{
    desired::{
        Keys, credentials, metadata,
        mode::Mode,
        pod::{self, Pod},
        pods_readiness, service,
    },
    names::{Component as Name, ROLE_CREDENTIALS},
    objects::{DesiredObject, LiveSet, Readiness},
    stack::{REDIS_PORT, Server, Stack, redis::Embedded},
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

impl Mode for Embedded {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let server = &self.server;
        let Some(credentials) = &server.credentials else { return Vec::new() };
        vec![
            service::account(stack, Name::Redis, &metadata::Strings::new()),
            credentials::secret(stack, Name::Redis, credentials),
            service::volume(stack, Name::Redis, &server.volume),
            service::service(stack, Name::Redis, REDIS_PORT, PORT_NAME),
            service::stateful_set(stack, pod(stack, server)),
        ]
    }

    fn readiness(&self, _: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        pods_readiness(Name::Redis, objects, live)
    }
}

fn pod<'a>(stack: &Stack, server: &'a Server) -> Pod<'a> {
    Pod {
        component: Name::Redis,
        containers: vec![container(stack, server)],
        init_containers: Vec::new(),
        volumes: vec![pod::claim("data", stack.child(Name::Redis)), pod::memory("auth")],
        user: USER,
        config_hash: None,
        image: &server.image,
    }
}

fn container(stack: &Stack, server: &Server) -> Container {
    let mut container = pod::container(stack, "redis", &server.image);
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
    container.resources = Some(server.resources.clone());
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
