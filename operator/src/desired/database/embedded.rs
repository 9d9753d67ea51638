//! PostgreSQL in the cluster: one pod with a volume.

use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, ExecAction, Probe};

use crate::{
    desired::{
        Keys, credentials, metadata,
        mode::Mode,
        pod::{self, Pod},
        pods_readiness, service,
    },
    names::{Component as Name, ROLE_CREDENTIALS},
    objects::{DesiredObject, LiveSet, Readiness},
    stack::{
        POSTGRES_PORT, Server, Stack,
        database::{DataFiles, Embedded},
    },
};

const PORT_NAME: &str = "postgresql";

impl Mode for Embedded {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let server = &self.server;
        let (Some(credentials), Some(files)) = (&server.credentials, &self.files) else { return Vec::new() };
        vec![
            service::account(stack, Name::Database, &metadata::Strings::new()),
            credentials::secret(stack, Name::Database, credentials),
            service::volume(stack, Name::Database, &server.volume),
            service::service(stack, Name::Database, POSTGRES_PORT, PORT_NAME),
            service::stateful_set(stack, pod(stack, server, files)),
        ]
    }

    fn readiness(&self, _: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        pods_readiness(Name::Database, objects, live)
    }
}

fn pod<'a>(stack: &Stack, server: &'a Server, files: &DataFiles) -> Pod<'a> {
    Pod {
        component: Name::Database,
        containers: vec![container(stack, server, files)],
        init_containers: Vec::new(),
        volumes: vec![
            pod::claim("data", stack.child(Name::Database)),
            pod::scratch("run"),
            pod::scratch("tmp"),
            pod::memory("shm"),
        ],
        user: files.user,
        config_hash: None,
        image: &server.image,
    }
}

fn container(stack: &Stack, server: &Server, files: &DataFiles) -> Container {
    let mut container = pod::container(stack, "postgres", &server.image);
    container.env = Some(environment(&stack.child_role(Name::Database, ROLE_CREDENTIALS), files));
    container.ports = Some(vec![ContainerPort {
        name: Some(PORT_NAME.to_owned()),
        container_port: POSTGRES_PORT,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    container.resources = Some(server.resources.clone());
    container.volume_mounts = Some(vec![
        pod::mount("data", files.mount()),
        pod::mount("run", "/var/run/postgresql"),
        pod::mount("tmp", "/tmp"),
        pod::mount("shm", "/dev/shm"),
    ]);
    // The server that the image starts while it creates the database listens on its socket only: 127.0.0.1 distinguishes them.
    let ask = |period, failures| Probe {
        exec: Some(ExecAction {
            command: Some(
                ["pg_isready", "-q", "-h", "127.0.0.1", "-U", "rorun", "-d", "rorun"].map(str::to_owned).into(),
            ),
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    // Recovery after a crash may take long: the liveness probe starts only when the server has answered once.
    container.startup_probe = Some(ask(1, 3600));
    container.readiness_probe = Some(ask(5, 3));
    container.liveness_probe = Some(ask(10, 6));
    container
}

fn environment(secret: &str, files: &DataFiles) -> Vec<EnvVar> {
    vec![
        pod::secret_variable("POSTGRES_USER", secret, "username"),
        pod::secret_variable("POSTGRES_PASSWORD", secret, "password"),
        pod::secret_variable("POSTGRES_DB", secret, "database"),
        pod::variable("PGDATA", files.directory()),
    ]
}
