//! The CronJob that dumps the database into the bucket, inside the database's own image: the agent is copied in by an init
//! container.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec},
        core::v1::{ConfigMap, Container, EnvFromSource, PodTemplateSpec, Secret, SecretEnvSource, Volume},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::{
    Component, Keys, metadata, objectives,
    pod::{self, Pod},
    pod_template, pods_readiness, point_in_time, probed, recovery,
    schedule::{self, Runs},
    service, trouble,
};
use crate::{
    api::v1alpha1::{BackupRecord, BackupStatus, RorunStackSpec},
    contract,
    names::{Component as Name, ROLE_CA, Waiting, reason},
    objects::{ApplyPolicy, DesiredObject, LiveObject, LiveSet, ObjectKind, Readiness},
    plan::{Plan, Step},
    stack::{
        Backup as Resolved, BucketAccess, Connection, Probe, ProbeTarget, Stack, authorities, bucket_variables,
        database,
    },
};

/// A backup that could not start within this time is skipped rather than run late.
pub(super) const STARTING_DEADLINE_SECONDS: i64 = 3600;
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
        let mut objects = vec![
            service::account(stack, Name::Backup, &metadata::Strings::new()),
            secret(stack, connection, destination),
            cron_job(stack, backup, trusted, plan.dumps_paused),
        ];
        objects.extend(plan.backups.iter().map(|step| job(stack, step, job_spec(stack, backup, trusted))));
        // One that exists is among those that are kept.
        let point = plan.release.recovery_point.as_ref().filter(|step| !step.exists);
        objects.extend(point.map(|step| job(stack, step, recovery_point(job_spec(stack, backup, trusted), plan))));
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
            let probe = probed(stack, Name::Backup);
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
    let why = schedule::overdue((&backup.schedule, &backup.time_zone), fires, &runs, STARTING_DEADLINE_SECONDS, live)?;
    Some(format!("cronjob/{name}: {why}"))
}

/// A Job whose pod is refused goes on trying.
pub(super) fn has_ended(job: &LiveObject) -> bool {
    let goes_on = |waiting: &Waiting| matches!(waiting.reason, reason::PROGRESSING | reason::PODS_REFUSED);
    !matches!(&job.readiness, Readiness::Waiting(waiting) if goes_on(waiting))
}

/// Why a pod cannot start before a user acts, or why it is refused. Its Job would run until its deadline.
fn cannot_start(live: &LiveSet) -> Option<Waiting> {
    const WHY: [reason::Reason; 3] = [reason::IMAGE_PULL_FAILED, reason::CONTAINER_CONFIG_ERROR, reason::UNSCHEDULABLE];
    let pods = live.of_component("Pod", Name::Backup.as_str()).filter(|pod| !pod.deleting);
    let waiting = pods.filter_map(|pod| trouble(pod, 0, live)).find(|waiting| WHY.contains(&waiting.reason));
    waiting.or_else(|| {
        live.of_component("Job", Name::Backup.as_str()).find_map(|job| match &job.readiness {
            Readiness::Waiting(waiting) if waiting.reason == reason::PODS_REFUSED => Some(waiting.clone()),
            _ => None,
        })
    })
}

fn newest<'a>(jobs: impl Iterator<Item = &'a LiveObject>) -> Option<&'a LiveObject> {
    jobs.max_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)))
}

fn newest_job(live: &LiveSet) -> Option<&LiveObject> {
    newest(live.of_component("Job", Name::Backup.as_str()))
}

/// The newest Job that ended decides; one that runs does not, unless its dump is complete: a container beside it may keep the
/// pod running. `last` is when the newest good backup was complete.
fn last_run(last: Option<i64>, live: &LiveSet) -> Readiness {
    let jobs = live.of_component("Job", Name::Backup.as_str());
    let dumped = |job: &LiveObject| says_complete(Some(job), live);
    let Some(job) = newest(jobs.filter(|job| has_ended(job) || dumped(job))) else {
        return Readiness::waiting(reason::NO_BACKUP_YET, "no backup has run yet");
    };
    let Readiness::Waiting(waiting) = &job.readiness else { return Readiness::Ready };
    // A Job that failed for its deadline alone has left a good backup.
    if dumped(job) || last.is_some_and(|last| last >= job.created) {
        return Readiness::Ready;
    }
    let said = failure_of(job, live).map(|said| format!("job/{}: {said}", job.name));
    Readiness::waiting(reason::BACKUP_FAILED, said.unwrap_or_else(|| waiting.message.clone()))
}

/// The newest good backup with the other results of its run, whether a pod still reports it or the status alone.
pub(super) fn newest_backup(stack: &Stack, live: &LiveSet) -> BackupStatus {
    let at = |backup: &BackupStatus| backup.last_successful.as_ref().map(|record| record.at.0);
    let known = &stack.known_backup;
    last_backup(live).filter(|told| at(told) >= at(known)).unwrap_or_else(|| known.clone())
}

/// The newest good backup that a pod still reports, with the other results of that run.
pub fn last_backup(live: &LiveSet) -> Option<BackupStatus> {
    let pods = live.of_component("Pod", Name::Backup.as_str());
    let records = pods.filter_map(|pod| match outcome(pod)? {
        contract::DumpOutcome::Complete(record) => Some(record).filter(|record| !record.reused),
        contract::DumpOutcome::Failed { .. } => None,
    });
    let record = records.max_by(|a, b| a.at.cmp(&b.at))?;
    // In whole seconds, as the API server keeps it: with more, the status would be another one after each restart.
    let at = Time(Timestamp::from_second(record.at.as_second()).unwrap_or(record.at));
    let id = record.id.clone();
    let last = BackupRecord { id: record.id, at, size_bytes: record.size_bytes, location: record.location };
    let done = record.adoption.as_ref().filter(|adoption| adoption.done).map(|adoption| adoption.value.clone());
    Some(BackupStatus {
        last_successful: Some(last),
        shared_with: record.shared_with,
        without_owner: Some(record.without_owner.into()).filter(|count| *count > 0),
        not_removed: record.not_removed,
        adopted: done,
        adoption: record.adoption.map(|adoption| adoption.message),
        not_locked: record.not_locked,
        not_whole: record.not_whole,
        not_copied: record.not_copied,
        restorable_until: objectives::begun(&id).map(Time),
        ..BackupStatus::default()
    })
}

/// The result that the agent reported.
fn outcome(pod: &LiveObject) -> Option<contract::DumpOutcome> {
    serde_json::from_str(pod.note.as_deref()?).ok()
}

/// The result that the agent reported in the newest pod of a Job.
fn outcome_of(job: &LiveObject, live: &LiveSet) -> Option<contract::DumpOutcome> {
    let pods = live.of_component("Pod", Name::Backup.as_str());
    let of_job = pods.filter(|pod| pod.owner.as_ref().is_some_and(|owner| *owner.uid == *job.uid));
    outcome(of_job.max_by(|a, b| a.created.cmp(&b.created))?)
}

/// Why the agent says that it failed.
fn failure_of(job: &LiveObject, live: &LiveSet) -> Option<String> {
    match outcome_of(job, live)? {
        contract::DumpOutcome::Failed { message } => Some(message),
        contract::DumpOutcome::Complete(_) => None,
    }
}

/// Whether a pod of a Job says that its dump is complete, whatever became of the pod.
fn says_complete(job: Option<&LiveObject>, live: &LiveSet) -> bool {
    matches!(job.and_then(|job| outcome_of(job, live)), Some(contract::DumpOutcome::Complete(_)))
}

/// Just what the agent reads.
fn secret(stack: &Stack, connection: &Connection, destination: &BucketAccess) -> DesiredObject {
    let mut data = bucket_variables(destination);
    data.insert(contract::ENV_DATABASE_URL, connection.direct_url.clone());
    data.extend(stack.backup.iter().flat_map(|backup| recovery::variables(&backup.recovery)));
    DesiredObject::own(&Secret {
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect()),
        metadata: metadata::owned(stack, Name::Backup, stack.child(Name::Backup)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// `suspend`: no dump begins for now.
fn cron_job(stack: &Stack, backup: &Resolved, trusted: Trusted<'_>, suspend: bool) -> DesiredObject {
    let labels = metadata::labels(stack, Name::Backup);
    let spec = job_spec(stack, backup, trusted);
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
fn recovery_point(mut spec: JobSpec, plan: &Plan) -> JobSpec {
    let release = plan.release.target.content.release();
    let within = plan.release.reuse_within.to_string();
    let mut extra = vec![contract::ARG_HOLD.to_owned(), release];
    extra.extend([contract::ARG_REUSE_WITHIN_SECONDS.to_owned(), within]);
    let held: BTreeSet<String> = plan.release.revisions.iter().map(|revision| revision.content.release()).collect();
    extra.extend(held.into_iter().flat_map(|release| [contract::ARG_HELD.to_owned(), release]));
    let containers = spec.template.spec.as_mut().map(|pod| &mut pod.containers);
    let dump = containers.and_then(|containers| containers.iter_mut().find(|container| container.name == DUMP));
    if let Some(dump) = dump {
        dump.args.get_or_insert_default().extend(extra);
    }
    spec
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
    let mut template = backup_pod(stack, backup, dump, volumes).template(stack);
    if let Some(metadata) = &mut template.metadata {
        // The user's come first, so that ours win.
        let ours = metadata.labels.take().unwrap_or_default();
        metadata.labels = Some(backup.pod_labels.clone().into_iter().chain(ours).collect());
        metadata.annotations = Some(backup.pod_annotations.clone());
    }
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Never".to_owned());
    }
    pod_template::shaped(stack, Name::Backup, template)
}

fn backup_pod<'a>(stack: &Stack, backup: &'a Resolved, dump: Container, volumes: Vec<Volume>) -> Pod<'a> {
    let mut install = pod::container(stack, "install", &stack.agent_image);
    install.args = Some([contract::AGENT, contract::INSTALL, contract::BINARY_PATH].map(str::to_owned).into());
    install.volume_mounts = Some(vec![pod::mount("binary", contract::BINARY_DIRECTORY)]);
    install.resources = Some(backup.resources.clone());
    Pod {
        component: Name::Backup,
        containers: vec![dump],
        init_containers: vec![install],
        volumes,
        // `pg_dump` wants no particular user, and its own image surely has this one.
        user: database::user(&backup.image),
        config_hash: None,
        image: &backup.image,
    }
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
    if backup.in_embedded_bucket {
        args.push(contract::ARG_DELETE_VERSIONS);
    }
    // As one argument each: a name may start with a hyphen.
    let excluded = backup.exclude_schemas.iter().map(|schema| format!("{}={schema}", contract::ARG_EXCLUDE_SCHEMA));
    let recovery = recovery::arguments(&backup.recovery, stack.last_verified.is_some());
    dump.args = Some(args.into_iter().map(str::to_owned).chain(excluded).chain(recovery).collect());
    let secret_ref = SecretEnvSource { name: stack.child(Name::Backup), optional: None };
    dump.env_from = Some(vec![EnvFromSource { secret_ref: Some(secret_ref), ..EnvFromSource::default() }]);
    dump.volume_mounts = Some(vec![pod::mount("binary", contract::BINARY_DIRECTORY), pod::mount("tmp", "/tmp")]);
    dump.resources = Some(backup.resources.clone());
    dump
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::objects::kind_of;

    fn pod(name: &str, status: &serde_json::Value) -> Arc<LiveObject> {
        let labels = json!({"app.kubernetes.io/component": "backup", "app.kubernetes.io/instance": "shop"});
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "labels": labels});
        let body = json!({"metadata": metadata, "status": status});
        Arc::new(LiveObject::whole(kind_of("", "Pod").expect("a kind"), body).expect("a pod"))
    }

    #[test]
    fn a_pod_that_cannot_start_is_told_and_one_that_failed_is_not_taken_for_one() {
        let failed = json!({"phase": "Failed", "containerStatuses": [{"name": "dump", "state": {"terminated": {"exitCode": 1}}}]});
        let waiting = json!({"reason": "ImagePullBackOff", "message": "Back-off pulling image \"postgres:0\""});
        let stuck = json!({"phase": "Pending", "containerStatuses": [{"name": "dump", "state": {"waiting": waiting}}]});
        let live: LiveSet = [pod("a", &failed)].into_iter().collect();
        assert_eq!(cannot_start(&live), None);
        let live: LiveSet = [pod("a", &failed), pod("b", &stuck)].into_iter().collect();
        let message = cannot_start(&live).expect("it is told").message;
        assert!(message.contains("pod/b") && message.contains("postgres:0"), "{message}");
    }

    #[test]
    fn the_moment_of_a_backup_is_the_same_when_it_is_read_back() {
        let message = RECORD.replace("02:20:00Z", "02:20:00.362188398Z");
        let ended = json!({"containerStatuses": [{"name": "dump", "state": {"terminated": {"exitCode": 0, "message": message}}}]});
        let live: LiveSet = [pod("a", &ended)].into_iter().collect();
        let told = last_backup(&live).expect("a backup");
        let read: BackupStatus = serde_json::from_value(serde_json::to_value(&told).unwrap()).unwrap();
        assert_eq!(read, told);
    }

    const RECORD: &str = r#"{"complete":{"id":"20261124T021500Z-x7k2p","at":"2026-11-24T02:20:00Z","sizeBytes":7,"sha256":"0","location":"s3://b/k","removed":0}}"#;

    fn job(name: &str, condition: Option<&str>) -> Arc<LiveObject> {
        let labels = json!({"app.kubernetes.io/component": "backup", "app.kubernetes.io/instance": "shop"});
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "labels": labels,
            "creationTimestamp": "2026-11-24T02:15:00Z"});
        let conditions: Vec<_> = condition
            .iter()
            .map(|kind| json!({"type": kind, "status": "True", "message": "Job was active longer than specified deadline"}))
            .collect();
        let body = json!({"metadata": metadata, "status": {"conditions": conditions}});
        Arc::new(LiveObject::whole(kind_of("batch", "Job").expect("a kind"), body).expect("a job"))
    }

    /// The agent has ended, and what an injector put beside it has not; it may also have ended before, saying something.
    fn pod_of(job: &str, said: &str) -> Arc<LiveObject> {
        let labels = json!({"app.kubernetes.io/component": "backup", "app.kubernetes.io/instance": "shop"});
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job, "controller": true});
        let metadata = json!({"name": format!("{job}-x"), "namespace": "default", "uid": "p", "labels": labels, "ownerReferences": [owner]});
        let status = json!({"phase": "Running", "containerStatuses": [
            {"name": "mesh", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1, "message": "no route"}}},
            {"name": "dump", "state": {"terminated": {"exitCode": 0, "message": said}}},
            {"name": "another", "state": {"terminated": {"exitCode": 0, "message": "bye"}}},
        ]});
        let body = json!({"metadata": metadata, "status": status});
        Arc::new(LiveObject::whole(kind_of("", "Pod").expect("a kind"), body).expect("a pod"))
    }

    #[test]
    fn a_dump_that_is_complete_counts_whatever_keeps_its_pod() {
        for condition in [None, Some("Failed")] {
            let live: LiveSet = [job("a", condition), pod_of("a", RECORD)].into_iter().collect();
            assert_eq!(last_run(None, &live), Readiness::Ready, "{condition:?}");
            let told = last_backup(&live).and_then(|backup| backup.last_successful).expect("a backup");
            assert_eq!(told.id, "20261124T021500Z-x7k2p");
        }
        let failed = r#"{"failed":{"message":"no such host"}}"#;
        let live: LiveSet = [job("a", Some("Failed")), pod_of("a", failed)].into_iter().collect();
        let Readiness::Waiting(waiting) = last_run(None, &live) else { panic!("a failed dump is told") };
        assert_eq!((waiting.reason, &*waiting.message), (reason::BACKUP_FAILED, "job/a: no such host"));
        let live: LiveSet = [job("a", None), pod_of("a", "starting")].into_iter().collect();
        let Readiness::Waiting(waiting) = last_run(None, &live) else { panic!("it runs") };
        assert_eq!(waiting.reason, reason::NO_BACKUP_YET);
    }
}
