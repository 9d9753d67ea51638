//! Stacks over time: what the cluster holds after each reconcile, and what happens to it between two of them. Every Job that a plan asks
//! for appears, ends well or badly, or is lost, in any order.

use proptest::{collection::vec, prelude::*, sample::select};
use rorun_operator::{
    api::v1alpha1::RorunStack,
    names::{Component, annotation},
    plan::{Plan, Step, picked, plan, restore::Kind},
    stack::{
        AccessKeys, BackupRequest, BucketAccess, Cause, JobPhase, Observed, ObservedJob, ObservedWorkload,
        RestorePoint, RestoreRequest, SanitizeRequest, Stack, Statements, validate,
    },
};
use serde_json::json;

use super::{
    generate::fixtures,
    support::{all_there, answering},
};

/// The time of a stack between two reconciles, in seconds, and of its beginning.
const BETWEEN: i64 = 40;
const BEGINNING: i64 = 1_790_000_000;

/// What happens between two reconciles.
#[derive(Clone, Debug)]
pub enum Turn {
    /// A Job goes on to this phase, and its pod says this.
    Job(usize, JobPhase, Option<String>),
    /// Every Job that runs ends well, and its pod says this.
    JobsEnd(String),
    /// A Job is deleted.
    JobGone(usize),
    /// The pods of the workloads roll out, or do not.
    Pods(bool),
    /// The API gets another image.
    Image(&'static str),
    /// An annotation gets a value, or is removed.
    Annotation(&'static str, Option<&'static str>),
    /// Somebody asks for a backup, for a sanitized point, or for a restore.
    Backup,
    Sanitize,
    Restore {
        bucket: bool,
    },
    /// The stack is to hibernate, or to wake.
    Hibernate(bool),
    /// A Job of the CronJob of the backups begins, or ends.
    Dump(bool),
    /// So many seconds pass.
    Later(i64),
}

/// What Jobs say at their end: what each of the agent's commands may, and what none does.
fn said() -> impl Strategy<Value = Option<String>> {
    let dump = json!({"complete": {"id": "20260504T110000Z-x7k2p", "at": "2026-05-04T11:00:00Z", "sizeBytes": 7,
        "sha256": "0", "location": "s3://b/k", "removed": 0}});
    let restore = json!({"done": {"rows": 2, "tables": 1, "database": "shop_restore_1", "bytes": 7, "durationSeconds": 1,
        "kept": {"name": "shop_before_1", "sizeBytes": 7}}});
    let values = [
        dump,
        restore,
        json!({"failed": {"message": "no route"}}),
        json!({"refused": {"reason": "PointNotFound", "message": "no such point"}}),
        json!({"timedOut": {"message": "session 7 holds it"}}),
        json!({"answers": [{"target": "bucket", "verdict": {"passed": {}}}]}),
        json!("nothing of ours"),
    ];
    select([vec![None], values.into_iter().map(|value| Some(value.to_string())).collect()].concat())
}

fn turn() -> impl Strategy<Value = Turn> {
    let phase = select(vec![
        JobPhase::Complete,
        JobPhase::Complete,
        JobPhase::Running,
        JobPhase::CannotStart,
        JobPhase::Failed("BackoffLimitExceeded".to_owned()),
    ]);
    let key = select(vec![annotation::RETRY, annotation::BACKUP, annotation::VERIFY, annotation::APPROVE]);
    prop_oneof![
        8 => (0_usize..4, phase, said()).prop_map(|(index, phase, said)| Turn::Job(index, phase, said)),
        1 => (0_usize..4).prop_map(Turn::JobGone),
        3 => any::<bool>().prop_map(Turn::Pods),
        2 => select(vec!["app:1", "app:2", "app:3"]).prop_map(Turn::Image),
        3 => (key, select(vec![None, Some("1"), Some("2")])).prop_map(|(key, value)| Turn::Annotation(key, value)),
        1 => Just(Turn::Backup),
        1 => Just(Turn::Sanitize),
        2 => any::<bool>().prop_map(|bucket| Turn::Restore { bucket }),
        1 => any::<bool>().prop_map(Turn::Hibernate),
        1 => any::<bool>().prop_map(Turn::Dump),
        1 => select(vec![1_i64, 300, 4000]).prop_map(Turn::Later),
    ]
}

/// A stack with whatever makes Jobs, and what happens to it.
pub fn stories() -> impl Strategy<Value = (RorunStack, Vec<Turn>)> {
    (fixtures(), any::<[bool; 3]>(), vec(turn(), 1..16)).prop_map(|(mut fixture, [migrates, tests, rules], turns)| {
        if migrates {
            fixture = fixture.set("api.migrations", json!({"command": ["migrate"]}));
        }
        if tests {
            fixture = fixture.set("release", json!({"smokeTests": [{"component": "api", "path": "/health"}]}));
        }
        if rules && fixture.0.pointer("/spec/bucket/external").is_some() {
            fixture = fixture.set("bucket.lifecycle", json!({"expireNoncurrentAfterDays": 30}));
        }
        (fixture.build(), turns)
    })
}

/// A stack at one reconcile.
pub struct Moment {
    pub cr: RorunStack,
    pub observed: Observed,
    pub now: i64,
}

impl Moment {
    /// What the cluster holds before the first one.
    pub fn first(cr: &RorunStack) -> Self {
        Self { cr: cr.clone(), observed: all_there(cr), now: BEGINNING }
    }

    /// The stack, of which every service answers, and its plan.
    pub fn planned(&self) -> (Stack, Plan) {
        let mut stack = validate(&self.cr, &self.observed);
        stack.probes = answering(&stack);
        let plan = plan(&stack, &self.observed, self.now);
        (picked(stack, &plan), plan)
    }

    /// What the cluster holds once the plan was applied.
    pub fn apply(&mut self, plan: &Plan) {
        for (component, step) in steps(plan).into_iter().filter(|(_, step)| !step.exists) {
            if self.observed.jobs.iter().all(|job| job.name != step.name) {
                self.observed.jobs.push(running(component, step, self.now));
            }
        }
        // As the cache has them.
        self.observed.jobs.sort_by(|a, b| a.name.cmp(&b.name));
        self.observed.handled.clone_from(&plan.handled);
        self.observed.kept.clone_from(&plan.restores.kept);
        self.observed.releases.revisions.clone_from(&plan.release.revisions);
        let stops = plan.restores.stops() || plan.hibernates;
        if let Some(revision) = plan.release.picked() {
            for component in revision.content.images().into_keys() {
                let there = self.observed.releases.workloads.entry(component).or_default();
                let wanted = revision.content.workload(component);
                if there.revision != wanted || there.asleep != stops {
                    *there = ObservedWorkload { revision: wanted, asleep: stops, ..ObservedWorkload::default() };
                }
            }
        }
        let candidate = |component: &Component| {
            let revision = plan.release.target.content.workload(*component);
            (*component, ObservedWorkload { revision, rolled_out: true, ..ObservedWorkload::default() })
        };
        self.observed.releases.candidates = plan.release.candidates.iter().map(candidate).collect();
        self.now += BETWEEN;
    }

    /// What happens before the next reconcile.
    pub fn happens(&mut self, turn: &Turn) {
        let observed = &mut self.observed;
        let count = observed.jobs.len();
        match turn {
            Turn::Job(index, phase, said) if count > 0 => {
                let job = &mut observed.jobs[count - 1 - index % count];
                job.ended = (*phase == JobPhase::Complete).then_some(self.now);
                job.begun = (*phase != JobPhase::CannotStart).then_some(true);
                (job.phase, job.said) = (phase.clone(), said.clone());
            }
            Turn::JobsEnd(said) => {
                for job in observed.jobs.iter_mut().filter(|job| job.phase == JobPhase::Running) {
                    (job.phase, job.said, job.ended) = (JobPhase::Complete, Some(said.clone()), Some(self.now));
                }
            }
            Turn::JobGone(index) if count > 0 => {
                observed.jobs.remove(count - 1 - index % count);
            }
            Turn::Job(..) | Turn::JobGone(_) => {}
            Turn::Pods(well) => observed.releases.workloads.values_mut().for_each(|there| {
                (there.rolled_out, there.has_pods) = (*well || there.asleep, !there.asleep);
            }),
            Turn::Image(image) => (*image).clone_into(&mut self.cr.spec.api.image),
            Turn::Annotation(key, value) => {
                observed.annotations.remove(*key);
                observed.annotations.extend(value.map(|value| ((*key).to_owned(), value.to_owned())));
            }
            Turn::Backup => observed.backups.push(request(observed.backups.len(), None)),
            Turn::Sanitize => {
                let destination = Ok(Box::new(bucket_of_points()));
                let sql = Statements::Inline("DELETE FROM people".to_owned());
                let (objects, prefix) = (Vec::new(), "sanitized/".to_owned());
                let sanitize = SanitizeRequest { sql, objects, destination, prefix };
                observed.backups.push(request(observed.backups.len(), Some(sanitize)));
            }
            Turn::Restore { bucket } => observed.restores.push(restore(observed.restores.len(), *bucket)),
            Turn::Hibernate(sleep) => observed.hibernation.cause = sleep.then_some(Cause::Spec),
            Turn::Dump(runs) => observed.dump = runs.then(|| format!("{}-backup-29000000", name(&self.cr))),
            Turn::Later(seconds) => self.now += seconds,
        }
    }
}

/// The one that sanitized points go to.
fn bucket_of_points() -> BucketAccess {
    let (session_token, checksums, ca) = Default::default();
    BucketAccess {
        endpoint: "https://s3.example.com".to_owned(),
        region: "us-east-1".to_owned(),
        name: "points".to_owned(),
        force_path_style: true,
        keys: Some(AccessKeys { id: "id".to_owned(), secret: "key".to_owned(), session_token }),
        checksums,
        ca,
    }
}

fn name(cr: &RorunStack) -> &str {
    cr.metadata.name.as_deref().unwrap_or_default()
}

fn running(component: Component, step: &Step, created: i64) -> ObservedJob {
    let (said, begun, ended) = Default::default();
    ObservedJob { name: step.name.clone(), component, created, said, begun, phase: JobPhase::Running, ended }
}

fn request(index: usize, sanitize: Option<SanitizeRequest>) -> BackupRequest {
    BackupRequest { uid: format!("backup-{index}"), name: format!("backup-{index}"), sanitize }
}

fn restore(index: usize, bucket: bool) -> RestoreRequest {
    let point = RestorePoint { id: "20261129T101500Z-b9x2m".to_owned(), moment: None, folder: None };
    RestoreRequest {
        uid: format!("restore-{index}"),
        name: format!("restore-{index}"),
        stack_uid: None,
        fills: false,
        database: true,
        bucket,
        into: None,
        retry: String::new(),
        copy_uid: None,
        point: Ok(point),
    }
}

/// The Jobs of a plan that are to run, run, or are kept, with the component of each.
pub fn steps(plan: &Plan) -> Vec<(Component, &Step)> {
    let release = &plan.release;
    let all = |component, steps: Vec<_>| steps.into_iter().map(move |step| (component, step));
    let current = plan.restores.current.as_ref().and_then(|current| current.step.as_ref());
    let restore =
        current.map(|(kind, step)| (if *kind == Kind::Save { Component::Backup } else { Component::Restore }, step));
    all(Component::Backup, plan.backups.iter().chain(&release.recovery_point).collect())
        .chain(all(Component::Drill, plan.drills.iter().collect()))
        .chain(all(Component::BucketRules, plan.bucket_rules.iter().collect()))
        .chain(all(Component::Preflight, plan.preflight.iter().collect()))
        .chain(all(Component::Migration, release.migration.iter().collect()))
        .chain(all(Component::SmokeTest, release.smoke_test.iter().collect()))
        .chain(all(Component::Sanitize, plan.sanitizes.current.iter().map(|(_, step)| step).collect()))
        .chain(all(Component::Restore, plan.restores.discard.iter().map(|(step, _)| step).collect()))
        .chain(restore)
        .collect()
}
