//! The CronJob that dumps the database into the bucket, inside the database's own image: the agent is copied in by an init
//! container.

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec},
        core::v1::{ConfigMap, Container, EnvFromSource, PodTemplateSpec, Secret, SecretEnvSource, Volume},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::{
    Component, Places, metadata,
    pod::{self, Pod},
    pods_readiness, probed,
    schedule::{self, Runs},
    service, trouble,
};
use crate::{
    api::v1alpha1::BackupRecord,
    contract,
    names::{Component as Name, ROLE_CA, Waiting, reason},
    objects::{DesiredObject, LiveObject, LiveSet, Readiness},
    stack::{Backup as Resolved, BucketAccess, Connection, Probe, ProbeTarget, Stack, authorities},
};

/// The uid of `postgres` in the official image: `pg_dump` wants no particular one, its own image surely has this.
const USER: i64 = 999;
/// A backup that could not start within this time is skipped rather than run late.
const STARTING_DEADLINE_SECONDS: i64 = 3600;
/// A backup that hangs is ended. Well below the age at which a later one takes its upload for a leftover (48 h).
const ACTIVE_DEADLINE_SECONDS: i64 = 12 * 3600;

pub(super) struct Backup;

impl Component for Backup {
    fn name(&self) -> Name {
        Name::Backup
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Connection]
    }

    fn objects(&self, stack: &Stack) -> Vec<DesiredObject> {
        let (Some(backup), Some(connection)) = (&stack.backup, &stack.connection) else { return Vec::new() };
        let Some(destination) = backup.destination.as_deref() else { return Vec::new() };
        let ca = authorities([connection.ca.as_deref(), destination.ca.as_deref()]);
        let mut objects = vec![
            service::account(stack, Name::Backup, &metadata::Strings::new()),
            secret(stack, connection, destination),
            cron_job(stack, backup, ca.is_some()),
        ];
        if let Some(ca) = ca {
            objects.push(DesiredObject::own(&ConfigMap {
                data: Some([("ca.crt".to_owned(), ca)].into()),
                metadata: metadata::owned(stack, Name::Backup, stack.child_role(Name::Backup, ROLE_CA)),
                ..ConfigMap::default()
            }));
        }
        objects
    }

    fn readiness(&self, stack: &Stack, objects: &mut Places<'_>, live: &LiveSet) -> Readiness {
        let objects = pods_readiness(Name::Backup, objects, live);
        if !objects.is_ready() {
            return objects;
        }
        if stack.backup.as_ref().is_some_and(|backup| backup.own_destination) {
            let probe = probed(stack, Name::Backup);
            // One that is not asked is told of by the dumps that go there.
            if matches!(&probe, Readiness::Waiting(waiting) if waiting.reason != reason::NOT_PROBED) {
                return probe;
            }
        }
        if let Probe::Failed(waiting) = stack.probe(ProbeTarget::DIRECT) {
            return Readiness::Waiting(waiting.clone());
        }
        if let Some(stuck) = cannot_start(live) {
            return Readiness::waiting(reason::BACKUP_FAILED, format!("a backup cannot start: {}", stuck.message));
        }
        let run = last_run(stack.last_backup, live);
        let failed = matches!(&run, Readiness::Waiting(waiting) if waiting.reason == reason::BACKUP_FAILED);
        match overdue(stack, live).filter(|_| !failed) {
            Some(message) => Readiness::waiting(reason::BACKUP_OVERDUE, message),
            None => run,
        }
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
    let why = schedule::overdue(stack.backup.as_ref()?, fires, &runs, STARTING_DEADLINE_SECONDS, live)?;
    Some(format!("cronjob/{name}: {why}"))
}

/// A Job whose pod is refused goes on trying.
fn has_ended(job: &LiveObject) -> bool {
    let goes_on = |waiting: &Waiting| matches!(waiting.reason, reason::PROGRESSING | reason::PODS_REFUSED);
    !matches!(&job.readiness, Readiness::Waiting(waiting) if goes_on(waiting))
}

/// A pod that has not started and will not before somebody does something, or that is refused. Its Job would run until its
/// deadline.
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

/// The newest Job that ended decides; one that runs does not, unless its dump is complete: a container beside it may keep the
/// pod running. `last` is when the newest good backup was complete.
fn last_run(last: Option<i64>, live: &LiveSet) -> Readiness {
    let jobs = live.of_component("Job", Name::Backup.as_str());
    let dumped = |job: &LiveObject| matches!(outcome_of(job, live), Some(contract::DumpOutcome::Complete(_)));
    let ended = jobs.filter(|job| has_ended(job) || dumped(job));
    let Some(job) = ended.max_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name))) else {
        return Readiness::waiting(reason::NO_BACKUP_YET, "no backup has run yet");
    };
    let Readiness::Waiting(waiting) = &job.readiness else { return Readiness::Ready };
    // A Job that failed for its deadline alone has left a good backup.
    if dumped(job) || last.is_some_and(|last| last >= job.created) {
        return Readiness::Ready;
    }
    let said = failure_of(job, live).unwrap_or_else(|| waiting.message.clone());
    Readiness::waiting(reason::BACKUP_FAILED, format!("job/{}: {said}", job.name))
}

/// The newest good backup that a pod still tells of.
pub fn last_backup(live: &LiveSet) -> Option<BackupRecord> {
    let pods = live.of_component("Pod", Name::Backup.as_str());
    let records = pods.filter_map(|pod| match serde_json::from_str(pod.note.as_deref()?).ok()? {
        contract::DumpOutcome::Complete(record) => Some(record),
        contract::DumpOutcome::Failed { .. } => None,
    });
    let record = records.max_by(|a, b| a.at.cmp(&b.at))?;
    Some(BackupRecord { id: record.id, at: Time(record.at), size_bytes: record.size_bytes, location: record.location })
}

/// What the agent said in the newest pod of a Job.
fn outcome_of(job: &LiveObject, live: &LiveSet) -> Option<contract::DumpOutcome> {
    let pods = live.of_component("Pod", Name::Backup.as_str());
    let of_job = pods.filter(|pod| pod.owner.as_ref().is_some_and(|owner| *owner.uid == *job.uid));
    let note = of_job.max_by(|a, b| a.created.cmp(&b.created))?.note.as_deref()?;
    serde_json::from_str(note).ok()
}

/// Why the agent says that it failed.
fn failure_of(job: &LiveObject, live: &LiveSet) -> Option<String> {
    match outcome_of(job, live)? {
        contract::DumpOutcome::Failed { message } => Some(message),
        contract::DumpOutcome::Complete(_) => None,
    }
}

/// Just what the agent reads.
fn secret(stack: &Stack, connection: &Connection, destination: &BucketAccess) -> DesiredObject {
    let mut data = vec![
        (contract::ENV_DATABASE_URL, connection.direct_url.clone()),
        (contract::ENV_S3_ENDPOINT, destination.endpoint.clone()),
        (contract::ENV_S3_REGION, destination.region.clone()),
        (contract::ENV_S3_BUCKET, destination.name.clone()),
        (contract::ENV_S3_FORCE_PATH_STYLE, destination.force_path_style.to_string()),
        (contract::ENV_ACCESS_KEY_ID, destination.access_key_id.clone()),
        (contract::ENV_SECRET_ACCESS_KEY, destination.secret_access_key.clone()),
    ];
    data.extend(destination.session_token.as_ref().map(|token| (contract::ENV_SESSION_TOKEN, token.value.clone())));
    DesiredObject::own(&Secret {
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect()),
        metadata: metadata::owned(stack, Name::Backup, stack.child(Name::Backup)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

fn cron_job(stack: &Stack, backup: &Resolved, with_ca: bool) -> DesiredObject {
    let labels = metadata::labels(stack, Name::Backup);
    DesiredObject::own(&CronJob {
        metadata: metadata::owned(stack, Name::Backup, stack.child(Name::Backup)),
        spec: Some(CronJobSpec {
            schedule: backup.schedule.clone(),
            time_zone: Some(backup.time_zone.clone()),
            concurrency_policy: Some("Forbid".to_owned()),
            // Said, so that backups that somebody stopped by hand are no longer stopped. Whoever means it suspends the stack first.
            suspend: Some(false),
            starting_deadline_seconds: Some(STARTING_DEADLINE_SECONDS),
            successful_jobs_history_limit: Some(3),
            failed_jobs_history_limit: Some(3),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(JobSpec {
                    active_deadline_seconds: Some(ACTIVE_DEADLINE_SECONDS),
                    backoff_limit: Some(2),
                    template: template(stack, backup, with_ca),
                    ..JobSpec::default()
                }),
            },
        }),
        ..CronJob::default()
    })
}

fn template(stack: &Stack, backup: &Resolved, with_ca: bool) -> PodTemplateSpec {
    let mut dump = dump_container(stack, backup);
    let mut volumes = vec![pod::scratch("binary"), pod::scratch("tmp")];
    if with_ca {
        let (volume, mount, variables) = pod::authorities(stack.child_role(Name::Backup, ROLE_CA));
        volumes.push(volume);
        dump.volume_mounts.get_or_insert_default().push(mount);
        dump.env = Some(variables.into());
        dump.args.get_or_insert_default().extend([contract::ARG_CA_FILE, contract::CA_PATH].map(str::to_owned));
    }
    let mut template = backup_pod(stack, backup, dump, volumes).template(stack);
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Never".to_owned());
    }
    template
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
        user: USER,
        config_hash: None,
        image: &backup.image,
    }
}

fn dump_container(stack: &Stack, backup: &Resolved) -> Container {
    let mut dump = pod::container(stack, "dump", &backup.image);
    dump.command = Some(vec![contract::BINARY_PATH.to_owned()]);
    let (days, kept) = (backup.retention_days.to_string(), backup.minimum_kept.to_string());
    let args = [
        contract::AGENT,
        contract::DUMP,
        contract::ARG_PREFIX,
        &backup.prefix,
        contract::ARG_RETENTION_DAYS,
        &days,
        contract::ARG_MINIMUM_KEPT,
        &kept,
    ];
    dump.args = Some(args.map(str::to_owned).into());
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
}
