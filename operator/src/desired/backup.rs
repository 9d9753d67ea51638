//! The CronJob that dumps the database into the bucket, inside the database's own image: the agent is copied in by an init
//! container.

mod results;

use std::collections::BTreeSet;

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec},
        core::v1::{
            ConfigMap, Container, EnvFromSource, PodTemplateSpec, Secret, SecretEnvSource, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Component, Keys, metadata, objectives,
    pod::{self, Pod},
    pod_template::{self, Unshaped},
    pods_readiness, point_in_time, preflight, proxy, recovery,
    schedule::{self, Runs},
    service,
};
use crate::{
    api::v1alpha1::RorunStackSpec,
    contract,
    names::{Component as Name, ROLE_CA, reason},
    objects::{ApplyPolicy, DesiredObject, LiveSet, ObjectKind, Readiness},
    plan::{Plan, Step},
    stack::{
        Backup as Resolved, BucketAccess, Connection, Probe, ProbeTarget, Stack, authorities, bucket_variables,
        database,
    },
};
use results::{cannot_start, last_run, newest_job, says_complete};
pub(super) use results::{has_ended, newest_backup};
pub use results::{known_points, last_backup};

/// A run that could not start in time, since the stack slept or the cluster was down, is made up for within this time, and of several the
/// last one: a long weekend, and the hour by which clocks are put back. The CronJob controller looks at 80 missed moments without a
/// warning, which are those of a schedule of each hour.
pub(super) const STARTING_DEADLINE_SECONDS: i64 = 73 * 3600;
/// How late a run may begin before it is told.
const LATE_SECONDS: i64 = 3600;
/// A backup that hangs is ended. Well below the age at which a later one takes its upload for a leftover (48 h).
pub(super) const ACTIVE_DEADLINE_SECONDS: i64 = 12 * 3600;

/// The container that dumps.
const DUMP: &str = "dump";

pub(super) struct Backup;

impl Component for Backup {
    fn name(&self) -> Name {
        Name::Backup
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Connection]
    }

    fn optional_kinds(&self, spec: &RorunStackSpec) -> Vec<&'static ObjectKind> {
        point_in_time::kinds(spec)
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let (Some(backup), Some(connection)) = (&stack.backup, &stack.connection) else { return Vec::new() };
        let Some(destination) = backup.destination.as_deref() else { return Vec::new() };
        let trusted = Trusted { database: connection.database_ca.as_deref(), bucket: destination.ca.as_deref() };
        let spec = || spared(job_spec(stack, backup, trusted), plan);
        let mut objects = vec![
            service::account(stack, Name::Backup, &stack.api.service_account_annotations),
            secret(stack, (backup, connection), destination, recovery::origin(stack, &plan.release).text()),
            cron_job(stack, backup, spec(), plan.dumps_paused),
        ];
        objects.extend(plan.backups.iter().map(|step| job(stack, step, spec())));
        // One that exists is among those that are kept.
        let point = plan.release.recovery_point.as_ref().filter(|step| !step.exists);
        objects.extend(point.map(|step| job(stack, step, recovery_point(spec(), plan))));
        let save = plan.restores.save().filter(|(_, step)| !step.exists);
        objects.extend(save.map(|(request, step)| {
            let spec = held(spec(), plan, contract::restore_hold(&request.uid), None);
            job(stack, step, spec)
        }));
        let archive = point_in_time::objects(stack, backup, destination);
        objects.extend(trusted.config_map(stack).into_iter().chain(archive));
        objects
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        let objects = pods_readiness(Name::Backup, objects, live);
        if !objects.is_ready() {
            return objects;
        }
        if stack.backup.as_ref().is_some_and(|backup| backup.own_destination) {
            let probe = preflight::readiness(stack, Name::Backup, live);
            // A destination that the operator does not probe is reported by the dumps that go there.
            if matches!(&probe, Readiness::Waiting(waiting) if waiting.reason != reason::NOT_PROBED) {
                return probe;
            }
        }
        if let Probe::Failed(waiting) = stack.probe(ProbeTarget::DIRECT) {
            return Readiness::Waiting(waiting.clone());
        }
        if let Some(stuck) = cannot_start(live).filter(|_| !says_complete(newest_job(live), live)) {
            return Readiness::waiting(reason::BACKUP_FAILED, format!("a backup cannot start: {}", stuck.message));
        }
        if let Some(waiting) = recovery::not_copied(stack, live).or_else(|| point_in_time::waiting(stack, live)) {
            return Readiness::Waiting(waiting);
        }
        let run = last_run(stack.last_backup, live);
        let failed = matches!(&run, Readiness::Waiting(waiting) if waiting.reason == reason::BACKUP_FAILED);
        match overdue(stack, live).filter(|_| !failed) {
            Some(message) => Readiness::waiting(reason::BACKUP_OVERDUE, message),
            None => match objectives::missed(stack, live).filter(|_| run.is_ready()) {
                Some(waiting) => Readiness::Waiting(waiting),
                None => run,
            },
        }
    }
}

/// The authorities of the two services that a dump goes by, each for its own.
#[derive(Clone, Copy)]
struct Trusted<'a> {
    database: Option<&'a str>,
    bucket: Option<&'a str>,
}

impl Trusted<'_> {
    /// The key in the `ConfigMap`, the argument that names the file, and the file.
    fn files(self) -> impl Iterator<Item = (&'static str, [&'static str; 2], String)> {
        let database = [contract::ARG_DATABASE_CA_FILE, contract::DATABASE_CA_PATH];
        let bucket = [contract::ARG_BUCKET_CA_FILE, contract::BUCKET_CA_PATH];
        let all = [
            (contract::DATABASE_CA_FILE, database, authorities([self.database])),
            (contract::BUCKET_CA_FILE, bucket, authorities([self.bucket])),
        ];
        all.into_iter().filter_map(|(key, argument, pem)| Some((key, argument, pem?)))
    }

    fn config_map(self, stack: &Stack) -> Option<DesiredObject> {
        let mut data: metadata::Strings = self.files().map(|(key, _, pem)| (key.to_owned(), pem)).collect();
        // A Job of an earlier release may still start a pod, which wants the two in one.
        data.insert(contract::CA_FILE.to_owned(), authorities([self.database, self.bucket])?);
        Some(DesiredObject::own(&ConfigMap {
            data: Some(data),
            metadata: metadata::owned(stack, Name::Backup, stack.child_role(Name::Backup, ROLE_CA)),
            ..ConfigMap::default()
        }))
    }
}

/// Why the CronJob's backups are overdue.
fn overdue(stack: &Stack, live: &LiveSet) -> Option<String> {
    let name = stack.child(Name::Backup);
    let fires = live.named("CronJob", &name)?.fires.as_deref()?;
    let runs = Runs {
        last: stack.last_backup,
        running: live.of_component("Job", Name::Backup.as_str()).any(|job| !has_ended(job)),
    };
    let backup = stack.backup.as_ref()?;
    let why = schedule::overdue((&backup.schedule, &backup.time_zone), fires, &runs, LATE_SECONDS, live)?;
    Some(format!("cronjob/{name}: {why}"))
}

/// Just what the agent reads. The stack that dumps are told is here and not in the CronJob: a schedule whose CronJob is written begins
/// anew, and each edit of the spec, and each release, changes it. Pods read it when they start, and none is replaced for it.
fn secret(
    stack: &Stack,
    (backup, connection): (&Resolved, &Connection),
    destination: &BucketAccess,
    origin: String,
) -> DesiredObject {
    let mut data = bucket_variables(destination);
    data.insert(contract::ENV_DATABASE_URL, connection.direct_url.clone());
    data.extend(recovery::variables(&backup.recovery));
    data.insert(contract::ENV_ORIGIN, origin);
    DesiredObject::own(&Secret {
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect()),
        metadata: metadata::owned(stack, Name::Backup, stack.child(Name::Backup)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// `suspend`: no dump begins for now.
fn cron_job(stack: &Stack, backup: &Resolved, spec: JobSpec, suspend: bool) -> DesiredObject {
    let labels = metadata::labels(stack, Name::Backup);
    DesiredObject::own(&CronJob {
        metadata: metadata::owned(stack, Name::Backup, stack.child(Name::Backup)),
        spec: Some(CronJobSpec {
            schedule: backup.schedule.clone(),
            time_zone: Some(backup.time_zone.clone()),
            concurrency_policy: Some("Forbid".to_owned()),
            // Explicit, so that the operator resumes backups that a user suspended by hand. To suspend them, suspend the stack.
            suspend: Some(suspend),
            starting_deadline_seconds: Some(STARTING_DEADLINE_SECONDS),
            successful_jobs_history_limit: Some(3),
            failed_jobs_history_limit: Some(3),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(spec),
            },
        }),
        ..CronJob::default()
    })
}

/// A dump that somebody asked for. One that exists is left as it is, whatever a dump of today looks like.
fn job(stack: &Stack, step: &Step, spec: JobSpec) -> DesiredObject {
    let metadata = metadata::owned(stack, Name::Backup, step.name.clone());
    let job = Job { metadata, spec: Some(spec), ..Job::default() };
    DesiredObject::new(&job, ApplyPolicy::RunOnce)
}

fn job_spec(stack: &Stack, backup: &Resolved, trusted: Trusted<'_>) -> JobSpec {
    JobSpec {
        active_deadline_seconds: Some(ACTIVE_DEADLINE_SECONDS),
        backoff_limit: Some(2),
        template: template(stack, backup, trusted),
        ..JobSpec::default()
    }
}

/// A dump that is held as the way back of a release, or a good one that is young enough in its place.
fn recovery_point(spec: JobSpec, plan: &Plan) -> JobSpec {
    let release = plan.release.target.content.release();
    held(spec, plan, release, Some(plan.release.reuse_within))
}

/// A dump that is held by this name, or a good one in its place that is younger than so many seconds.
fn held(spec: JobSpec, plan: &Plan, name: String, within: Option<i64>) -> JobSpec {
    let mut extra = vec![contract::ARG_HOLD.to_owned(), name];
    extra.extend(
        within.into_iter().flat_map(|within| [contract::ARG_REUSE_WITHIN_SECONDS.to_owned(), within.to_string()]),
    );
    let releases = plan.release.revisions.iter().map(|revision| revision.content.release());
    let restores = plan.restores.held.iter().map(|uid| contract::restore_hold(uid));
    let held: BTreeSet<String> = releases.chain(restores).collect();
    extra.extend(held.into_iter().flat_map(|release| [contract::ARG_HELD.to_owned(), release]));
    with_arguments(spec, extra)
}

/// A dump that leaves the recovery points which restores are about to use.
fn spared(spec: JobSpec, plan: &Plan) -> JobSpec {
    // As one argument each: a user wrote them.
    let spared = plan.restores.spared.iter().map(|id| format!("{}={id}", contract::ARG_SPARE));
    with_arguments(spec, spared.collect())
}

fn with_arguments(mut spec: JobSpec, arguments: Vec<String>) -> JobSpec {
    let containers = spec.template.spec.as_mut().map(|pod| &mut pod.containers);
    let dump = containers.and_then(|containers| containers.iter_mut().find(|container| container.name == DUMP));
    if let Some(dump) = dump {
        dump.args.get_or_insert_default().extend(arguments);
    }
    spec
}

/// The authorities of database and bucket for a pod that uses both as a dump does: the volume, its mount, and the arguments.
pub(super) fn trust(stack: &Stack, backup: &Resolved) -> Option<(Volume, VolumeMount, Vec<String>)> {
    let connection = stack.connection.as_ref()?;
    let bucket = backup.destination.as_ref().and_then(|destination| destination.ca.as_deref());
    let trusted = Trusted { database: connection.database_ca.as_deref(), bucket };
    let arguments: Vec<_> = trusted.files().flat_map(|(_, argument, _)| argument).map(str::to_owned).collect();
    let (volume, mount) = pod::authorities(stack.child_role(Name::Backup, ROLE_CA));
    (!arguments.is_empty()).then_some((volume, mount, arguments))
}

fn template(stack: &Stack, backup: &Resolved, trusted: Trusted<'_>) -> PodTemplateSpec {
    let mut dump = dump_container(stack, backup);
    let mut volumes = vec![pod::scratch("binary"), pod::scratch("tmp")];
    let arguments: Vec<_> = trusted.files().flat_map(|(_, argument, _)| argument).map(str::to_owned).collect();
    if !arguments.is_empty() {
        let (volume, mount) = pod::authorities(stack.child_role(Name::Backup, ROLE_CA));
        volumes.push(volume);
        dump.volume_mounts.get_or_insert_default().push(mount);
        dump.args.get_or_insert_default().extend(arguments);
    }
    pod::show_certificate(stack, &mut dump, &mut volumes);
    let template = backup_pod(stack, backup, dump, volumes).template(stack);
    pod_template::shaped(stack, Name::Backup, of_a_job(backup, template))
}

/// The template of a pod of a Job that works on backups: with the user's labels and annotations, and never started twice.
pub(super) fn of_a_job(backup: &Resolved, template: Unshaped) -> Unshaped {
    template.restarting("Never").with(|template| {
        if let Some(metadata) = &mut template.metadata {
            // The user's come first, so that ours win.
            let ours = metadata.labels.take().unwrap_or_default();
            metadata.labels = Some(backup.pod_labels.clone().into_iter().chain(ours).collect());
            metadata.annotations = Some(backup.pod_annotations.clone());
        }
    })
}

fn backup_pod<'a>(stack: &Stack, backup: &'a Resolved, dump: Container, volumes: Vec<Volume>) -> Pod<'a> {
    Pod {
        component: Name::Backup,
        containers: vec![dump],
        init_containers: [install(stack, backup)].into_iter().chain(proxy::proxy(stack)).collect(),
        volumes,
        // `pg_dump` wants no particular user, and its own image surely has this one.
        user: database::user(&backup.image),
        config_hash: None,
        image: &backup.image,
    }
}

/// Copies the agent into the image of the database.
pub(super) fn install(stack: &Stack, backup: &Resolved) -> Container {
    let mut install = pod::container(stack, "install", &stack.agent_image);
    install.args = Some([contract::AGENT, contract::INSTALL, contract::BINARY_PATH].map(str::to_owned).into());
    install.volume_mounts = Some(vec![pod::mount("binary", contract::BINARY_DIRECTORY)]);
    install.resources = Some(backup.resources.clone());
    install
}

/// The variables of a pod that uses database and bucket as a dump does.
pub(super) fn secret_source(stack: &Stack) -> EnvFromSource {
    let secret_ref = SecretEnvSource { name: stack.child(Name::Backup), optional: None };
    EnvFromSource { secret_ref: Some(secret_ref), ..EnvFromSource::default() }
}

fn dump_container(stack: &Stack, backup: &Resolved) -> Container {
    let mut dump = pod::container(stack, DUMP, &backup.image);
    dump.command = Some(vec![contract::BINARY_PATH.to_owned()]);
    let (days, kept) = (backup.retention_days.to_string(), backup.minimum_kept.to_string());
    let mut args = vec![
        contract::AGENT,
        contract::DUMP,
        contract::ARG_PREFIX,
        &backup.prefix,
        contract::ARG_RETENTION_DAYS,
        &days,
        contract::ARG_MINIMUM_KEPT,
        &kept,
    ];
    if let Some(owner) = &backup.owner {
        args.extend([contract::ARG_OWNER, owner]);
        if !stack.uid.is_empty() {
            args.extend([contract::ARG_STACK_UID, &stack.uid]);
        }
        args.extend(backup.adopt.iter().flat_map(|of| [contract::ARG_ADOPT, of]));
    }
    args.extend([contract::ARG_ENVIRONMENT, stack.environment.as_str()]);
    if backup.in_embedded_bucket {
        args.push(contract::ARG_DELETE_VERSIONS);
    }
    // As one argument each: a name may start with a hyphen.
    let excluded = backup.exclude_schemas.iter().map(|schema| format!("{}={schema}", contract::ARG_EXCLUDE_SCHEMA));
    let recovery = recovery::arguments(&backup.recovery, stack.last_verified.is_some());
    dump.args = Some(args.into_iter().map(str::to_owned).chain(excluded).chain(recovery).collect());
    dump.env_from = Some(vec![secret_source(stack)]);
    dump.volume_mounts = Some(vec![pod::mount("binary", contract::BINARY_DIRECTORY), pod::mount("tmp", "/tmp")]);
    dump.resources = Some(backup.resources.clone());
    dump
}
