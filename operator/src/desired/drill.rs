//! The CronJob that restores the newest recovery point for a trial, in a pod with a PostgreSQL of its own. The pod gets the keys of
//! the bucket, and of the live database neither URL nor password.

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec},
        core::v1::{
            Container, EnvFromSource, EphemeralVolumeSource, PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate,
            PodTemplateSpec, Secret, SecretEnvSource, Volume, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};

use super::{
    Component, Keys,
    backup::{ACTIVE_DEADLINE_SECONDS, STARTING_DEADLINE_SECONDS, has_ended, of_a_job},
    failure_policy::failure_policy,
    metadata,
    pod::{self, Pod},
    pod_template, pods_readiness, recovery, service, worst_pod,
};
use crate::{
    api::v1alpha1::VerifiedRecord,
    contract::{self, DrillCheck, DrillFault, DrillOutcome, Verdict},
    names::{Component as Name, ROLE_CA, Waiting, reason, reason::Reason},
    objects::{ApplyPolicy, DesiredObject, LiveObject, LiveSet, Readiness},
    plan::{Plan, Step},
    stack::{Backup, BucketAccess, Stack, Verify, bucket_variables, database},
};

pub(super) struct Drill;

impl Component for Drill {
    fn name(&self) -> Name {
        Name::Drill
    }

    fn requires(&self) -> &'static [Name] {
        &[Name::Connection, Name::Backup]
    }

    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
        let (Some(backup), Some(verify)) = (&stack.backup, stack.verify()) else { return Vec::new() };
        // With neither keys nor a way to get them it waits.
        let Some((destination, source)) = backup.as_drills_read(true) else { return Vec::new() };
        let spec =
            job_spec(template(stack, backup, (verify, &destination), (Name::Drill, container(stack, backup, verify))));
        let mut objects = vec![
            service::account(stack, Name::Drill, &metadata::Strings::new()),
            secret(stack, &destination, source.as_ref()),
            cron_job(stack, (backup, verify), &spec, plan.dumps_paused),
        ];
        objects.extend(plan.drills.iter().map(|step| job(stack, step, spec.clone())));
        objects
    }

    fn readiness(&self, stack: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        // A Job that failed, and its pod that ended, are a result, of which the next lines tell more.
        const RESULTS: [Reason; 3] = [reason::JOB_FAILED, reason::PROGRESSING, reason::CRASH_LOOP];
        let objects = pods_readiness(Name::Drill, objects, live);
        if matches!(&objects, Readiness::Waiting(waiting) if !RESULTS.contains(&waiting.reason)) {
            return objects;
        }
        let ended = |job: &&LiveObject| has_ended(job) || outcome_of(job, live).is_some();
        let jobs = live.of_component("Job", Name::Drill.as_str()).filter(ended);
        let newest = jobs.max_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        let Some(job) = newest else {
            return match stack.last_verified {
                Some(_) => Readiness::Ready,
                None => match worst_pod(Name::Drill, 0, live) {
                    Some(waiting) => Readiness::Waiting(waiting),
                    None => Readiness::waiting(reason::NO_DRILL_YET, "no drill has run yet"),
                },
            };
        };
        match (outcome_of(job, live), &job.readiness) {
            (Some(DrillOutcome::Complete(record)), _) if record.verdict == Verdict::ChecksumsOnly => {
                Readiness::waiting(reason::NO_IDENTITY, format!("{}: {}", record.id, record.message))
            }
            (Some(DrillOutcome::Complete(_)), _) => Readiness::Ready,
            // Without its pod nothing but the status says whether it restored, or compared a checksum alone.
            (None, Readiness::Ready) if stack.last_verified.is_some_and(|at| at >= job.created) => Readiness::Ready,
            (None, Readiness::Ready) => {
                let message = format!("the pod of job/{} is gone, and with it what it found", job.name);
                Readiness::waiting(reason::NO_DRILL_YET, message)
            }
            (Some(DrillOutcome::Failed { id, fault, message }), _) => {
                let point = id.map(|id| format!("{id}: ")).unwrap_or_default();
                Readiness::waiting(reason_of(fault), format!("job/{}: {point}{message}", job.name))
            }
            (None, Readiness::Waiting(waiting)) => {
                Readiness::Waiting(Waiting::new(reason::DRILL_FAILED, waiting.message.clone()))
            }
        }
    }
}

fn reason_of(fault: DrillFault) -> Reason {
    match fault {
        DrillFault::NoPoint => reason::NO_BACKUP_YET,
        DrillFault::Corrupt => reason::BACKUP_CORRUPT,
        DrillFault::NotRestored | DrillFault::Differs | DrillFault::ObjectsDiffer => reason::NOT_RESTORABLE,
        DrillFault::CheckFailed => reason::CHECK_FAILED,
        DrillFault::ServerTooOld | DrillFault::WrongIdentity | DrillFault::NotRun => reason::DRILL_FAILED,
    }
}

/// The newest drill that a pod still reports, and that found nothing wrong.
pub fn last_verified(live: &LiveSet) -> Option<VerifiedRecord> {
    let records = live.of_component("Pod", Name::Drill.as_str()).filter_map(|pod| match outcome(pod)? {
        DrillOutcome::Complete(record) => Some(record).filter(|record| record.verdict != Verdict::ChecksumsOnly),
        DrillOutcome::Failed { .. } => None,
    });
    let record = records.max_by_key(|record| record.at)?;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Some(VerifiedRecord {
        id: record.id,
        // In whole seconds, as the API server keeps it.
        at: Time(Timestamp::from_second(record.at.as_second()).unwrap_or(record.at)),
        duration_seconds: number(record.duration_seconds),
        size_bytes: number(record.size_bytes),
        rows: record.rows.map(number),
        objects: record.objects.map(number),
        checks: i32::try_from(record.checks).unwrap_or(i32::MAX),
        message: record.message,
        partial: record.verdict == Verdict::Partial,
    })
}

fn outcome(pod: &LiveObject) -> Option<DrillOutcome> {
    serde_json::from_str(pod.note.as_deref()?).ok()
}

/// The result that the agent reported in the newest pod of a Job.
fn outcome_of(job: &LiveObject, live: &LiveSet) -> Option<DrillOutcome> {
    let pods = live.of_component("Pod", Name::Drill.as_str());
    let of_job = pods.filter(|pod| pod.owner.as_ref().is_some_and(|owner| *owner.uid == *job.uid));
    outcome(of_job.max_by(|a, b| a.created.cmp(&b.created))?)
}

/// The keys of the buckets, and nothing of the database.
fn secret(stack: &Stack, destination: &BucketAccess, source: Option<&BucketAccess>) -> DesiredObject {
    let mut data = bucket_variables(destination);
    data.extend(recovery::source(source));
    DesiredObject::own(&Secret {
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect()),
        metadata: metadata::owned(stack, Name::Drill, stack.child(Name::Drill)),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

fn cron_job(stack: &Stack, (backup, verify): (&Backup, &Verify), spec: &JobSpec, paused: bool) -> DesiredObject {
    let labels = metadata::labels(stack, Name::Drill);
    DesiredObject::own(&CronJob {
        metadata: metadata::owned(stack, Name::Drill, stack.child(Name::Drill)),
        spec: Some(CronJobSpec {
            schedule: verify.schedule.clone(),
            time_zone: Some(backup.time_zone.clone()),
            concurrency_policy: Some("Forbid".to_owned()),
            suspend: Some(paused || verify.suspend),
            starting_deadline_seconds: Some(STARTING_DEADLINE_SECONDS),
            // The pod of each keeps its volume.
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(1),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(spec.clone()),
            },
        }),
        ..CronJob::default()
    })
}

/// A drill that somebody asked for. One that exists is left as it is.
fn job(stack: &Stack, step: &Step, spec: JobSpec) -> DesiredObject {
    let metadata = metadata::owned(stack, Name::Drill, step.name.clone());
    DesiredObject::new(&Job { metadata, spec: Some(spec), ..Job::default() }, ApplyPolicy::RunOnce)
}

/// The Job of a pod with a server of its own.
pub(super) fn job_spec(template: PodTemplateSpec) -> JobSpec {
    JobSpec {
        active_deadline_seconds: Some(ACTIVE_DEADLINE_SECONDS),
        // A verdict is one: what is corrupt stays so.
        backoff_limit: Some(0),
        pod_failure_policy: Some(failure_policy(None)),
        pod_replacement_policy: Some("Failed".to_owned()),
        template,
        ..JobSpec::default()
    }
}

/// The pod with a server of its own, which a container of a component starts.
pub(super) fn template(
    stack: &Stack,
    backup: &Backup,
    (verify, destination): (&Verify, &BucketAccess),
    (component, mut drill): (Name, Container),
) -> PodTemplateSpec {
    // What the server shares between its processes is not for a disk.
    let mut volumes = vec![pod::scratch("binary"), pod::scratch("tmp"), pod::memory("shm"), work(verify)];
    if destination.ca.is_some() {
        // That of the dumps, which has the authority of the same bucket.
        let (volume, mount) = pod::authorities(stack.child_role(Name::Backup, ROLE_CA));
        volumes.push(volume);
        drill.volume_mounts.get_or_insert_default().push(mount);
        let arguments = [contract::ARG_BUCKET_CA_FILE, contract::BUCKET_CA_PATH].map(str::to_owned);
        drill.args.get_or_insert_default().extend(arguments);
    }
    let mut install = pod::container(stack, "install", &stack.agent_image);
    install.args = Some([contract::AGENT, contract::INSTALL, contract::BINARY_PATH].map(str::to_owned).into());
    install.volume_mounts = Some(vec![pod::mount("binary", contract::BINARY_DIRECTORY)]);
    install.resources = Some(verify.resources.clone());
    let pod = Pod {
        component,
        containers: vec![drill],
        init_containers: vec![install],
        volumes,
        // `initdb` wants a user that the image knows.
        user: database::user(&verify.image),
        config_hash: None,
        image: &verify.image,
    };
    pod_template::of_backups(stack, of_a_job(backup, pod.template(stack)))
}

/// A volume that is made for the pod, and removed with it.
fn work(verify: &Verify) -> Volume {
    let requests = [("storage".to_owned(), Quantity(verify.size.clone()))].into();
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        resources: Some(VolumeResourceRequirements {
            requests: Some(requests),
            ..VolumeResourceRequirements::default()
        }),
        storage_class_name: verify.class.clone(),
        ..PersistentVolumeClaimSpec::default()
    };
    let template = PersistentVolumeClaimTemplate { metadata: None, spec };
    let source = EphemeralVolumeSource { volume_claim_template: Some(template) };
    Volume { name: "work".to_owned(), ephemeral: Some(source), ..Volume::default() }
}

fn container(stack: &Stack, backup: &Backup, verify: &Verify) -> Container {
    let mut drill = pod::container(stack, "drill", &verify.image);
    drill.command = Some(vec![contract::BINARY_PATH.to_owned()]);
    let mut args = [contract::AGENT, contract::DRILL, contract::ARG_PREFIX, &backup.prefix].map(str::to_owned).to_vec();
    args.extend(backup.owner.iter().flat_map(|owner| [contract::ARG_OWNER.to_owned(), owner.clone()]));
    for check in &verify.checks {
        let (name, sql, expect) = (check.name.clone(), check.sql.clone(), check.expect.clone());
        let text = serde_json::to_string(&DrillCheck { name, sql, expect }).unwrap_or_default();
        args.extend([contract::ARG_CHECK.to_owned(), text]);
    }
    drill.args = Some(args);
    furnished(drill, backup, (stack.child(Name::Drill), verify))
}

/// A container with the variables of a Secret, the identity that opens encrypted dumps, and the volumes of the server.
pub(super) fn furnished(mut drill: Container, backup: &Backup, (secret, verify): (String, &Verify)) -> Container {
    let secret_ref = SecretEnvSource { name: secret, optional: None };
    drill.env_from = Some(vec![EnvFromSource { secret_ref: Some(secret_ref), ..EnvFromSource::default() }]);
    let identity = backup.recovery.identity.as_ref();
    drill.env = identity.map(|(name, key)| vec![pod::secret_variable(contract::ENV_IDENTITY, name, key)]);
    drill.volume_mounts = Some(vec![
        pod::mount("binary", contract::BINARY_DIRECTORY),
        pod::mount("tmp", "/tmp"),
        pod::mount("shm", "/dev/shm"),
        pod::mount("work", contract::WORK_DIRECTORY),
    ]);
    drill.resources = Some(verify.resources.clone());
    drill
}
