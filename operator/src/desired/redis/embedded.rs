//! Redis or Valkey in the cluster: one pod with a volume.

use k8s_openapi::api::core::v1::{Container, ContainerPort, ExecAction, Probe, SecretVolumeSource, Volume};

use crate::{
    desired::{
        Keys, credentials, metadata,
        mode::Mode,
        pod::{self, Pod},
        pods_readiness, service,
    },
    names::{Component as Name, ROLE_CREDENTIALS},
    objects::{DesiredObject, LiveSet, Readiness},
    stack::{Credentials, REDIS_PORT, Stack, redis::Embedded},
};

/// The uid of `valkey` and of `redis` in the official images.
const USER: i64 = 999;
const PORT_NAME: &str = "redis";

const TLS_VOLUME: &str = "rorun-server-tls";

const FIND: &str = r#"server=$(command -v valkey-server || command -v redis-server) || { echo "neither valkey-server nor redis-server is in PATH" >&2; exit 127; }
umask 077
"#;

/// The password goes through a file in memory: an argument would show in the list of processes.
const PASSWORD_ALONE: &str = r#"printf 'requirepass "%s"\n' "$REDISCLI_AUTH" > /run/auth/auth.conf
"#;

/// The user may do all that an application does with data, and is told by `INFO`, `CONFIG GET` and `CLIENT LIST` what a queue asks for,
/// but cannot stop, reconfigure or replicate the server. The categories are those of the table of commands of Redis and Valkey:
/// `CONFIG GET` and `CLIENT LIST` are in `@admin`, and up to version 6 all of `CLIENT` is.
const USER_OF_ITS_OWN: &str = r#"hash=$(printf %s "$REDISCLI_AUTH" | sha256sum)
printf 'user default off\nuser "%s" on #%s ~* &* +@all -@admin +client|getname +client|id +client|list +client|setname +config|get\n' "$REDIS_USERNAME" "${hash%% *}" > /run/auth/auth.conf
"#;

/// Queues must not lose entries, so nothing is evicted, and every second is synced to disk.
const START: &str = r#"exec "$server" /run/auth/auth.conf --dir /data --appendonly yes --appendfsync everysec --maxmemory-policy noeviction --protected-mode no"#;

/// Clients prove themselves by their password.
const TLS: &str = " --port 0 --tls-port 6379 --tls-cert-file /run/rorun-tls/tls.crt --tls-key-file /run/rorun-tls/tls.key \
                   --tls-ca-cert-file /run/rorun-tls/ca.crt --tls-auth-clients no";

impl Mode for Embedded {
    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let server = &self.server;
        let Some(credentials) = &server.credentials else { return Vec::new() };
        vec![
            service::account(stack, Name::Redis, &metadata::Strings::new()),
            credentials::secret(stack, Name::Redis, credentials),
            service::volume(stack, Name::Redis, &server.volume),
            service::service(stack, Name::Redis, REDIS_PORT, PORT_NAME),
            service::stateful_set(stack, pod(stack, self, credentials)),
        ]
    }

    fn readiness(&self, _: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        pods_readiness(Name::Redis, objects, live)
    }
}

fn pod<'a>(stack: &Stack, redis: &'a Embedded, credentials: &Credentials) -> Pod<'a> {
    let mut volumes = vec![pod::claim("data", stack.child(Name::Redis)), pod::memory("auth")];
    volumes.extend(redis.tls.as_ref().map(|tls| Volume {
        name: TLS_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(tls.secret.clone()),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }));
    Pod {
        component: Name::Redis,
        containers: vec![container(stack, redis, credentials)],
        init_containers: Vec::new(),
        volumes,
        user: USER,
        config_hash: redis.tls.as_ref().map(|tls| &*tls.hash),
        image: &redis.server.image,
    }
}

fn container(stack: &Stack, redis: &Embedded, credentials: &Credentials) -> Container {
    let server = &redis.server;
    let has_user = credentials.generates("username");
    let mut container = pod::container(stack, "redis", &server.image);
    let shell = |script: &str| Some(["sh", "-c", script].map(str::to_owned).into());
    let access = if has_user { USER_OF_ITS_OWN } else { PASSWORD_ALONE };
    container.command = shell(&[FIND, access, START, redis.tls.as_ref().map_or("", |_| TLS)].concat());
    let secret = stack.child_role(Name::Redis, ROLE_CREDENTIALS);
    let mut env = vec![pod::secret_variable("REDISCLI_AUTH", &secret, "password")];
    env.extend(has_user.then(|| pod::secret_variable("REDIS_USERNAME", &secret, "username")));
    container.env = Some(env);
    container.ports = Some(vec![ContainerPort {
        name: Some(PORT_NAME.to_owned()),
        container_port: REDIS_PORT,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    container.resources = Some(server.resources.clone());
    let mut mounts = vec![pod::mount("data", "/data"), pod::mount("auth", "/run/auth")];
    mounts.extend(redis.tls.as_ref().map(|_| {
        let mut mount = pod::mount(TLS_VOLUME, "/run/rorun-tls");
        mount.read_only = Some(true);
        mount
    }));
    container.volume_mounts = Some(mounts);
    let tls = redis.tls.is_some();
    // The kubelet renews the authority's file while the server still has the certificate of before: that alone ends no server.
    let alive = ask(has_user, if tls { " --tls --insecure" } else { "" });
    let ready = ask(has_user, if tls { " --tls --cacert /run/rorun-tls/ca.crt" } else { "" });
    let ask = |script: &str, period, failures| Probe {
        exec: Some(ExecAction { command: shell(script) }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    };
    // Loading a large append-only file takes long.
    container.startup_probe = Some(ask(&alive, 1, 600));
    container.readiness_probe = Some(ask(&ready, 5, 3));
    container.liveness_probe = Some(ask(&alive, 10, 6));
    container
}

/// The client reads the password from `REDISCLI_AUTH`.
fn ask(user: bool, tls: &str) -> String {
    let user = if user { r#" --user "$REDIS_USERNAME""# } else { "" };
    format!(r#"client=$(command -v valkey-cli || command -v redis-cli) && [ "$("$client"{user}{tls} ping)" = PONG ]"#)
}
