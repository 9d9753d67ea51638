//! The migration of a release: a Job of the API's new image, which ends before anything of the release serves.

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Container, EnvVar, PodTemplateSpec, Secret},
    },
};

use super::{
    Component,
    failure_policy::failure_policy,
    metadata,
    pod::{self, Pod},
    pod_template, service,
    workload::{self, USER},
};
use crate::{
    contract::{self, PostgresUrl},
    names::{Component as Name, Waiting},
    objects::{ApplyPolicy, DesiredObject, LiveSet},
    plan::{Plan, Step, release::State},
    stack::{Connection, Migration as Resolved, Stack, Workload},
};

/// What keeps an autoscaler of nodes from taking the pod's node away: a migration that is ended half-way may have to be mended
/// by hand (sources: the FAQ of cluster-autoscaler, the documentation of Karpenter on disruption).
const STAYS: [(&str, &str); 2] =
    [("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"), ("karpenter.sh/do-not-disrupt", "true")];

/// What the sessions of a migration ask of PostgreSQL: it notices within 10 s that their client is gone without a word, with its node,
/// also while a statement runs, and shows whose they are (documentation of PostgreSQL 14, `client_connection_check_interval`).
const SESSION_SETTINGS: [(&str, &str); 6] = [
    ("application_name", contract::MIGRATION_SESSION),
    ("client_connection_check_interval", "3000"),
    ("tcp_keepalives_idle", "3"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "3"),
    // Of an answer that nobody acknowledges no keepalive is sent.
    ("tcp_user_timeout", "6000"),
];

/// The key of the URL that the lock is taken by, in the dialect of libpq.
const LOCK_URL: &str = "LOCK_URL";

/// A host that no name leads to (RFC 6761, section 6.4).
const NOWHERE: &str = "copy.invalid";

/// The container that holds the lock, and its volume.
const LOCK: &str = "lock";
/// The container that ends once the lock is held, before the command.
const AWAIT_LOCK: &str = "await-lock";
/// How long a migration waits for the lock. The plan starts none while a dump of the stack runs, so this is for dumps by hand. It is
/// short, since a release that is withdrawn meanwhile waits for the end of its Job; the plan makes another Job.
const LOCK_WAIT_SECONDS: i32 = 120;

pub(super) struct Migration;

impl Component for Migration {
    fn name(&self) -> Name {
        Name::Migration
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Connection]
    }

    fn waits_for(&self) -> &'static [Name] {
        &[Name::Database]
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let (Some(migration), Some(step)) = (&stack.release.migration, &plan.release.migration) else {
            return Vec::new();
        };
        let Some(connection) = &stack.connection else { return Vec::new() };
        let url = migration_url(stack, connection);
        let urls = [(contract::ENV_DATABASE_URL, &url), ("DATABASE_URL", &url), (LOCK_URL, &connection.direct_url)];
        let urls = urls.map(|(key, url)| (key.to_owned(), ByteString(url.clone().into_bytes())));
        let secret = Secret {
            data: Some(urls.into()),
            metadata: metadata::owned(stack, Name::Migration, stack.child(Name::Migration)),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        vec![
            service::account(stack, Name::Migration, &stack.api.service_account_annotations),
            DesiredObject::own(&secret),
            job(stack, migration, step),
        ]
    }

    fn planned(&self, stack: &Stack, plan: &Plan, live: &LiveSet) -> Option<Waiting> {
        let waiting = plan.release.waiting.clone()?;
        let migrates = plan.release.state.migrates();
        let later = [State::Testing, State::SmokeTestFailed, State::Verifying, State::RolledBack];
        if later.contains(&plan.release.state) {
            return None;
        }
        if plan.release.state == State::BackingUp {
            // Why no backup can be made says more than that one is waited for.
            let why = stack.unresolved.get(&Name::Backup).or_else(|| stack.pods_refused.get(&Name::Backup));
            return Some(
                why.cloned().or_else(|| super::worst_pod_that_goes_on(Name::Backup, 0, live)).unwrap_or(waiting),
            );
        }
        // A pod that cannot start tells more than that its Job runs, and less than what kept its command from that.
        let told = plan.release.target.progress.not_begun.is_some();
        let trouble = super::worst_pod_that_goes_on(Name::Migration, 0, live).filter(|_| migrates && !told);
        Some(trouble.unwrap_or(waiting))
    }
}

fn job(stack: &Stack, migration: &Resolved, step: &Step) -> DesiredObject {
    let job = Job {
        metadata: metadata::owned(stack, Name::Migration, step.name.clone()),
        spec: Some(JobSpec {
            // Whether a migration that failed may run again is for somebody to say. The reason of the Job's failure is another one
            // where the command never ran.
            backoff_limit: Some(0),
            pod_failure_policy: Some(failure_policy(Some((Some(AWAIT_LOCK), contract::NOT_BEGUN)))),
            pod_replacement_policy: Some("Failed".to_owned()),
            template: template(stack, migration),
            ..JobSpec::default()
        }),
        ..Job::default()
    };
    DesiredObject::new(&job, ApplyPolicy::RunOnce)
}

/// The URL that the migration uses, in the dialect of the application: the server itself, past any pooler. A server that the operator
/// chose understands the settings; a service outside may refuse a session for one that it does not know, and gets a name alone.
fn migration_url(stack: &Stack, connection: &Connection) -> String {
    let direct = connection.data.get("DIRECT_URL").unwrap_or(&connection.direct_url);
    let Ok(url) = PostgresUrl::parse(direct) else { return direct.clone() };
    if !stack.database.mode().knows_settings() {
        return named(&url).unwrap_or_else(|| direct.clone());
    }
    let settings: Vec<_> = SESSION_SETTINGS.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
    url.with(&[("options", &settings.join(" "))]).to_string()
}

/// The URL with the name by which a later migration finds the session, should this one be ended. `None`: it stays as the user wrote it,
/// since it names its sessions, or says that it leads to a pooler, whose sessions go on under that name for somebody else.
fn named(url: &PostgresUrl) -> Option<String> {
    let is_named = |(name, value): (&str, &str)| {
        let of_a_session = ["application_name", "fallback_application_name"].contains(&name);
        of_a_session || (name == "options" && value.contains("application_name"))
    };
    let is_pooled = url.parameter("pgbouncer") == Some("true");
    let as_it_is = is_pooled || url.parameters().any(is_named);
    (!as_it_is).then(|| url.with(&[("application_name", contract::MIGRATION_SESSION)]).to_string())
}

fn template(stack: &Stack, migration: &Resolved) -> PodTemplateSpec {
    let api = &stack.target().api;
    let workload::Parts { container, mut init_containers, mut volumes } = workload::parts(stack, api);
    init_containers.extend([lock(stack, &container), await_lock(stack)]);
    volumes.push(pod::scratch(LOCK));
    let template = Pod {
        component: Name::Migration,
        containers: vec![migrate(stack, migration, api, container)],
        init_containers,
        volumes,
        user: USER,
        config_hash: None,
        image: &api.image,
    }
    .template(stack)
    .restarting("Never")
    .with(|template| {
        if let Some(metadata) = &mut template.metadata {
            metadata.annotations = Some(STAYS.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        }
        if let Some(spec) = &mut template.spec {
            // Of the pod, not of the Job: it begins when a node has taken the pod, and the pod stays, so that it tells whether the
            // command was ever run.
            spec.active_deadline_seconds = Some(i64::from(migration.timeout_seconds + LOCK_WAIT_SECONDS));
        }
    });
    pod_template::shaped(stack, Name::Migration, template)
}

/// The migration of the serving release on a copy of the database, which nothing else uses, so that no lock is needed. `url`: a variable
/// with the URL of the copy. `copy`: the name of the copy, where it is beside the live database.
pub(super) fn on_a_copy(stack: &Stack, url: impl Fn(&str) -> EnvVar, copy: Option<String>) -> Option<PodTemplateSpec> {
    let migration = stack.release.migration.as_ref()?;
    let workload::Parts { container, init_containers, volumes } = workload::parts(stack, &stack.api);
    let mut migrate = migrate(stack, migration, &stack.api, container);
    // Every way to the live database that the environment knows leads to the copy, or nowhere.
    let urls = [contract::ENV_DATABASE_URL, "DATABASE_URL"].map(&url);
    let reads = EnvVar { name: "DATABASE_READ_URL".to_owned(), ..url("DATABASE_URL") };
    let part = match copy {
        Some(copy) => pod::variable("PGDATABASE", copy),
        // Its server is known to the URL alone.
        None => pod::variable("PGHOST", NOWHERE.to_owned()),
    };
    let env = migrate.env.get_or_insert_default();
    for variable in urls.into_iter().chain([reads, part]) {
        env.retain(|before| before.name != variable.name);
        env.push(variable);
    }
    let template = Pod {
        component: Name::Restore,
        containers: vec![migrate],
        init_containers,
        volumes,
        user: USER,
        config_hash: None,
        image: &stack.api.image,
    }
    .template(stack)
    .restarting("Never");
    Some(pod_template::shaped(stack, Name::Migration, template))
}

/// Holds the lock that excludes dumps, as a native sidecar: the kubelet stops it once the migration has ended.
fn lock(stack: &Stack, api: &Container) -> Container {
    let mut lock = pod::container(stack, LOCK, &stack.agent_image);
    let wait = LOCK_WAIT_SECONDS.to_string();
    let mut args = vec![contract::AGENT, contract::HOLD_LOCK, contract::ARG_TIMEOUT_SECONDS, &wait];
    let connection = stack.connection.as_ref();
    if connection.is_some_and(|connection| connection.database_ca.is_some()) {
        let apart = connection.is_some_and(|connection| connection.apart);
        args.extend([
            contract::ARG_DATABASE_CA_FILE,
            if apart { contract::DATABASE_CA_PATH } else { contract::CA_PATH },
        ]);
    }
    lock.args = Some(args.into_iter().map(str::to_owned).collect());
    let secret = stack.child(Name::Migration);
    lock.env = Some(vec![pod::secret_variable(contract::ENV_DATABASE_URL, &secret, LOCK_URL)]);
    let files = [contract::CA_DIRECTORY, contract::CLIENT_DIRECTORY];
    let files = api.volume_mounts.iter().flatten().filter(|mount| files.contains(&mount.mount_path.as_str()));
    lock.volume_mounts = Some(files.cloned().chain([pod::mount(LOCK, contract::LOCK_DIRECTORY)]).collect());
    lock.resources = Some(pod::small());
    lock.restart_policy = Some("Always".to_owned());
    lock
}

/// Ends once the lock is held. Its failure is that of the pod, which no startup probe of the sidecar is: the kubelet starts that one anew.
fn await_lock(stack: &Stack) -> Container {
    let mut wait = pod::container(stack, AWAIT_LOCK, &stack.agent_image);
    let seconds = LOCK_WAIT_SECONDS.to_string();
    let args = [contract::AGENT, contract::AWAIT_LOCK, contract::ARG_TIMEOUT_SECONDS, &seconds];
    wait.args = Some(args.map(str::to_owned).into());
    wait.volume_mounts = Some(vec![pod::mount(LOCK, contract::LOCK_DIRECTORY)]);
    wait.resources = Some(pod::small());
    wait
}

/// The API's container with another command: nobody asks it whether it serves.
fn migrate(stack: &Stack, migration: &Resolved, api: &Workload, container: Container) -> Container {
    Container {
        name: "migrate".to_owned(),
        command: Some(migration.command.clone()),
        args: None,
        env: Some(env(stack, migration, container.env.unwrap_or_default())),
        resources: Some(api.resources.clone()),
        ports: None,
        lifecycle: None,
        startup_probe: None,
        readiness_probe: None,
        liveness_probe: None,
        // The last lines of its log are what the status tells of a failure.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..container
    }
}

/// The API's variables, a home that can be written, the migration's own; and past all of these the direct URL.
fn env(stack: &Stack, migration: &Resolved, api: Vec<EnvVar>) -> Vec<EnvVar> {
    let secret = stack.child(Name::Migration);
    let urls = [contract::ENV_DATABASE_URL, "DATABASE_URL"].map(|key| pod::secret_variable(key, &secret, key));
    let defaults = [
        pod::variable("HOME", "/tmp"),
        pod::variable("npm_config_cache", "/tmp/.npm"),
        // As far as the client reads it: libpq and node-postgres do.
        pod::variable("PGAPPNAME", contract::MIGRATION_SESSION),
    ];
    let layers = [defaults.to_vec(), api, migration.env.clone(), urls.to_vec()];
    let mut env: Vec<EnvVar> = Vec::new();
    for variable in layers.into_iter().flatten() {
        env.retain(|earlier| earlier.name != variable.name);
        env.push(variable);
    }
    env
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        names::reason,
        objects::{LiveObject, kind_of},
    };

    /// Else it would be told as one that crashes again and again, until its Job has failed and once another one is asked for.
    #[test]
    fn how_a_pod_ended_is_for_its_job_to_say() {
        let pod = |phase: &str, lock: &str| {
            let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
            let object = json!({
                "metadata": {"name": "shop-migration-1-x", "namespace": "n", "uid": "1", "labels": {
                    "app.kubernetes.io/instance": "shop", "app.kubernetes.io/component": "migration"}},
                "status": {"phase": phase, "containerStatuses": [{"name": "migrate", "state": ended}],
                    "initContainerStatuses": [{"name": "lock", "state": {"waiting": {"reason": lock}}}]},
            });
            let live: LiveSet =
                [Arc::new(LiveObject::whole(kind_of("", "Pod").unwrap(), object).unwrap())].into_iter().collect();
            super::super::worst_pod_that_goes_on(Name::Migration, 0, &live).map(|waiting| waiting.reason)
        };
        assert_eq!(pod("Failed", ""), None);
        assert_eq!(pod("Pending", "CrashLoopBackOff"), Some(reason::CRASH_LOOP), "it has not ended");
    }

    /// A server that nobody knows gets a name and no setting, and a name of the user's stays.
    #[test]
    fn the_sessions_of_a_migration_have_a_name_unless_the_user_gave_them_one() {
        let named = |query: &str| named(&PostgresUrl::parse(&format!("postgresql://u:p%2F@h:5432/d{query}")).unwrap());
        for (query, told) in [
            ("", "?application_name=rorun-operator-migrates"),
            (
                "?schema=public&sslmode=require",
                "?schema=public&sslmode=require&application_name=rorun-operator-migrates",
            ),
            ("?options=-c%20search_path%3Da", "?options=-c%20search_path%3Da&application_name=rorun-operator-migrates"),
        ] {
            assert_eq!(named(query).as_deref(), Some(&*format!("postgresql://u:p%2F@h:5432/d{told}")));
        }
        for query in [
            "?application_name=mine",
            "?fallback_application_name=mine",
            "?options=-c%20application_name%3Dmine",
            "?pgbouncer=true",
        ] {
            assert_eq!(named(query), None, "{query}");
        }
    }

    /// The kernel finds that the client is gone, and the statement that runs looks after it at its next check.
    #[test]
    fn the_server_notices_within_ten_seconds_that_the_client_of_a_statement_is_gone() {
        let of = |name: &str| {
            let setting = SESSION_SETTINGS.iter().find(|(of, _)| *of == name).map(|(_, value)| value.parse::<u32>());
            setting.unwrap().unwrap()
        };
        let kernel = 1000 * (of("tcp_keepalives_idle") + of("tcp_keepalives_interval") * of("tcp_keepalives_count"));
        assert!(kernel.max(of("tcp_user_timeout")) + of("client_connection_check_interval") < 10_000);
    }
}
