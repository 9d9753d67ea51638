//! An S3 server in the cluster: one pod with a volume. The controller creates the bucket in it.

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort, EnvVar, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    api::v1alpha1::BucketServer,
    desired::{
        Keys, credentials, metadata,
        mode::Mode,
        pod::{self, Pod},
        pods_readiness, probed, service,
    },
    names::{Component as Name, ROLE_CREDENTIALS, reason},
    objects::{DesiredObject, LiveSet, Readiness},
    stack::{Stack, bucket::Embedded, bucket_port},
};

/// The uid of `rustfs` in its image; the other servers run as any.
const USER: i64 = 10001;
const PORT_NAME: &str = "s3";
const DATA: &str = "/data";

/// How long the server may take to answer when its port is open, in seconds.
const ANSWERS_WITHIN: i64 = 30;

impl Mode for Embedded {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let Some(credentials) = &self.server.credentials else { return Vec::new() };
        vec![
            service::account(stack, Name::Bucket, &metadata::Strings::new()),
            credentials::secret(stack, Name::Bucket, credentials),
            service::volume(stack, Name::Bucket, &self.server.volume),
            service::service(stack, Name::Bucket, bucket_port(self.software), PORT_NAME),
            service::stateful_set(stack, pod(stack, self)),
        ]
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        let pods = pods_readiness(Name::Bucket, objects, live);
        // Where the operator does not probe the server, its pod decides, as that of an embedded database does.
        if !pods.is_ready() || stack.not_probed(Name::Bucket).is_some() {
            return pods;
        }
        let probe = probed(stack, Name::Bucket);
        if !probe.is_ready() && has_just_started(live) {
            return Readiness::waiting(reason::PROGRESSING, "bucket is being asked whether it answers");
        }
        probe
    }
}

fn has_just_started(live: &LiveSet) -> bool {
    let mut pods = live.of_component("Pod", Name::Bucket.as_str()).filter(|pod| pod.readiness.is_ready());
    pods.find_map(|pod| pod.since).is_some_and(|since| !live.has_passed(since + ANSWERS_WITHIN))
}

fn pod<'a>(stack: &Stack, mode: &'a Embedded) -> Pod<'a> {
    Pod {
        component: Name::Bucket,
        containers: vec![container(stack, mode)],
        init_containers: Vec::new(),
        volumes: vec![pod::claim("data", stack.child(Name::Bucket)), pod::scratch("tmp")],
        user: USER,
        config_hash: None,
        image: &mode.server.image,
    }
}

/// The differences between the servers: the command, the arguments, and the names of the variables with the keys.
struct Launch {
    command: &'static [&'static str],
    args: &'static [&'static str],
    key_names: (&'static str, &'static str),
    env: &'static [(&'static str, &'static str)],
}

fn launch(software: BucketServer) -> Launch {
    match software {
        // Without these the master, volume and filer servers listen on every address without a login; with another address
        // than 127.0.0.1 the server stores it and does not find its files when the pod's address changes. Its default of 30 GB
        // for a file of objects would leave no room for even one on a small volume: every write would fail.
        BucketServer::SeaweedFS => Launch {
            command: &["weed"],
            args: &[
                "server",
                "-dir=/data",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                "-s3.ip.bind=0.0.0.0",
                "-volume.port=9340",
                "-volume.max=0",
                "-master.volumeSizeLimitMB=64",
                "-master.telemetry=false",
            ],
            key_names: ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            env: &[],
        },
        BucketServer::MinIO => Launch {
            command: &["minio"],
            args: &["server", DATA, "--address=:9000"],
            key_names: ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
            env: &[("MINIO_BROWSER", "off"), ("HOME", "/tmp")],
        },
        BucketServer::RustFS => Launch {
            command: &[],
            args: &[],
            key_names: ("RUSTFS_ACCESS_KEY", "RUSTFS_SECRET_KEY"),
            env: &[("RUSTFS_VOLUMES", DATA), ("RUSTFS_ADDRESS", ":9000"), ("RUSTFS_CONSOLE_ENABLE", "false")],
        },
    }
}

fn container(stack: &Stack, mode: &Embedded) -> Container {
    let launch = launch(mode.software);
    let secret = stack.child_role(Name::Bucket, ROLE_CREDENTIALS);
    let mut env: Vec<EnvVar> = launch.env.iter().map(|(name, value)| pod::variable(name, *value)).collect();
    env.push(pod::secret_variable(launch.key_names.0, &secret, "accessKeyId"));
    env.push(pod::secret_variable(launch.key_names.1, &secret, "secretAccessKey"));
    let texts = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect());
    let mut container = pod::container(stack, "s3", &mode.server.image);
    container.command = texts(launch.command);
    container.args = texts(launch.args);
    container.env = Some(env);
    container.ports = Some(vec![ContainerPort {
        name: Some(PORT_NAME.to_owned()),
        container_port: bucket_port(mode.software),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    container.resources = Some(mode.server.resources.clone());
    container.volume_mounts = Some(vec![pod::mount("data", DATA), pod::mount("tmp", "/tmp")]);
    // All S3 servers have an open port in common; the controller probes whether the server answers.
    let ask = |period, failures| Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::String(PORT_NAME.to_owned()),
            ..TCPSocketAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    container.startup_probe = Some(ask(1, 300));
    container.readiness_probe = Some(ask(5, 3));
    container.liveness_probe = Some(ask(10, 6));
    container
}
