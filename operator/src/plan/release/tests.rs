//! Releases played against a cluster that does what the plan says.

mod attempts;
mod beside;
mod candidates;
mod hibernation;
mod moments;
mod moved;
mod recovery_point;
mod retries;
mod steps;
mod verification;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    contract::LockOutcome,
    names::{Component, annotation, reason},
    plan::{Operation, Plan, plan},
    stack::{Cause, JobPhase, ObservedJob, ObservedWorkload, Progress, validate},
};

/// A stack and what the cluster holds of it.
struct Cluster {
    spec: Value,
    observed: Observed,
    now: i64,
    /// Pods of these images never become ready.
    broken: Vec<&'static str>,
    /// What a migration of an image ends with.
    failing: Vec<&'static str>,
    /// Migrations run and do not end.
    hanging: bool,
    /// What keeps the command of a migration from running, as the agent says it.
    in_the_way: Option<LockOutcome>,
    /// Every image that a Deployment ever had, in order.
    served: Vec<String>,
    migrated: Vec<String>,
    /// Every image that a candidate had, in order.
    tested: Vec<String>,
    /// Candidates of these images answer otherwise than they must.
    failing_tests: Vec<&'static str>,
    /// Pods of these images answer otherwise than they must, once they serve.
    failing_pods: Vec<&'static str>,
    /// How often the pods of a release were asked.
    verified: usize,
    /// The identifier of each backup, or why none can be made.
    backups: Result<&'static str, &'static str>,
    /// The spec and the data when the state was last looked at, and the state.
    last: Option<(String, State)>,
}

const DEADLINE: i64 = 100;

impl Cluster {
    fn new() -> Self {
        let spec = json!({
            "environment": "Development",
            "api": {"image": "api:1", "migrations": {"command": ["migrate"]}, "progressDeadlineSeconds": DEADLINE},
            "ocr": {"image": "ocr:1"},
        });
        let (broken, failing, hanging, served, migrated) = Default::default();
        let (tested, failing_tests, failing_pods, verified) = Default::default();
        let (backups, in_the_way) = (Ok("20260504T110000Z-x7k2p"), None);
        let observed = Observed::default();
        Self {
            spec,
            observed,
            now: 1000,
            broken,
            failing,
            hanging,
            in_the_way,
            served,
            migrated,
            tested,
            failing_tests,
            failing_pods,
            verified,
            backups,
            last: None,
        }
    }

    fn plan(&self) -> (Release, Stack) {
        let (plan, stack) = self.whole_plan();
        (plan.release, stack)
    }

    fn whole_plan(&self) -> (Plan, Stack) {
        let cr = json!({
            "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n", "uid": "1"}, "spec": self.spec,
        });
        let stack = validate(&serde_json::from_value(cr).unwrap(), &self.observed);
        (plan(&stack, &self.observed, self.now), stack)
    }

    /// Compares the state with the one before: the table has every way from one to the other, while spec and data stay as they are.
    fn look(&mut self) {
        let (release, stack) = self.plan();
        let (state, of) = (release.state, format!("{} {}", self.spec, stack.release.data));
        // From everywhere, when a user or a schedule says so.
        let is_paused = matches!(state, State::Hibernating | State::Restoring);
        if let Some((before, from)) = self.last.take().filter(|last| last.0 == of && last.1 != state && !is_paused) {
            let row = TABLE.iter().find(|row| row.state == from).unwrap();
            let is_known = row.next.iter().any(|(next, _)| *next == state);
            assert!(is_known, "the table has no way from {from:?} to {state:?}: {before}");
        }
        self.last = Some((of, state));
    }

    /// One reconcile, and what controllers and kubelets do after it. Gives whether anything changed.
    fn step(&mut self) -> bool {
        self.look();
        let changed = self.take_step();
        self.look();
        changed
    }

    fn take_step(&mut self) -> bool {
        let (plan, _) = self.whole_plan();
        self.observed.handled = plan.handled;
        let (hibernates, release) = (plan.hibernates, plan.release);
        let before = (self.observed.releases.clone(), self.observed.jobs.clone());
        self.observed.releases.revisions.clone_from(&release.revisions);
        // Prune leaves a Job that runs.
        let wanted = |name: &str| release.migration.as_ref().is_some_and(|step| step.name == name);
        let other = |job: &ObservedJob| job.component != Component::Migration;
        self.observed.jobs.retain(|job| other(job) || job.phase == JobPhase::Running || wanted(&job.name));
        if let Some(step) = release.migration.as_ref().filter(|step| !step.exists) {
            let name = step.name.clone();
            self.observed.jobs.push(ObservedJob {
                begun: None,
                name,
                component: Component::Migration,
                created: self.now,
                said: None,
                phase: JobPhase::Running,
                ended: None,
            });
            self.migrated.push(release.target.content.image(Component::Api).unwrap().to_owned());
            let migrations = self.observed.jobs.iter().filter(|job| job.component == Component::Migration);
            let running = migrations.filter(|job| job.phase == JobPhase::Running);
            assert!(running.count() < 2, "two migrations run at once: {:?}", self.observed.jobs);
        } else if !self.hanging {
            self.end_migrations(&release);
        }
        self.test(&release);
        self.back_up(&release);
        if let Some(picked) = release.picked() {
            for (component, image) in picked.content.images() {
                let there = self.observed.releases.workloads.entry(component).or_default();
                let revision = picked.content.workload(component);
                if there.revision != revision || there.asleep != hibernates {
                    if !hibernates && there.revision != revision {
                        self.served.push(image.to_owned());
                    }
                    // A Deployment without pods is rolled out.
                    *there = ObservedWorkload {
                        revision,
                        asleep: hibernates,
                        rolled_out: hibernates,
                        ..ObservedWorkload::default()
                    };
                } else if !self.broken.contains(&image) {
                    there.rolled_out = true;
                    there.digests = [Some(format!("digest of {image}"))].into();
                }
            }
        }
        before != (self.observed.releases.clone(), self.observed.jobs.clone())
    }

    /// The Jobs of migrations end.
    fn end_migrations(&mut self, release: &Release) {
        let image = release.target.content.image(Component::Api).unwrap();
        let fails = self.failing.contains(&image);
        let migrations = self.observed.jobs.iter_mut().filter(|job| job.component == Component::Migration);
        for job in migrations.filter(|job| job.phase == JobPhase::Running) {
            if let Some(outcome) = &self.in_the_way {
                (job.begun, job.phase) = (Some(false), JobPhase::Failed("by its policy".to_owned()));
                job.said = serde_json::to_string(outcome).ok();
                self.now += 130;
                continue;
            }
            job.phase = if fails { JobPhase::Failed("P3018".to_owned()) } else { JobPhase::Complete };
            job.ended = (!fails).then_some(job.created + 12);
        }
    }

    /// The Job of the recovery point ends.
    fn back_up(&mut self, release: &Release) {
        for job in self.observed.jobs.iter_mut().filter(|job| job.component == Component::Backup) {
            let said = match self.backups {
                Ok(id) => json!({"complete": {"id": id, "at": "2026-05-04T11:00:00Z", "sizeBytes": 7, "sha256": "0",
                    "location": "s3://b/k", "removed": 0}}),
                Err(message) => json!({"failed": {"message": message}}),
            };
            (job.said, job.phase) = match self.backups {
                Ok(_) => (Some(said.to_string()), JobPhase::Complete),
                Err(_) => (None, JobPhase::Failed(said.to_string())),
            };
        }
        let missing = release.recovery_point.iter().filter(|step| !step.exists);
        for step in missing {
            let (name, component, phase) = (step.name.clone(), Component::Backup, JobPhase::Running);
            assert!(self.observed.jobs.iter().all(|job| job.phase != JobPhase::Running), "{:?}", self.observed.jobs);
            self.observed.jobs.push(ObservedJob {
                begun: None,
                name,
                component,
                created: 0,
                said: None,
                ended: None,
                phase,
            });
        }
    }

    /// Candidates start, and the Job that asks them ends.
    fn test(&mut self, release: &Release) {
        let target = &release.target.content;
        let there = std::mem::take(&mut self.observed.releases.candidates);
        for component in &release.candidates {
            let (revision, image) = (target.workload(*component), target.image(*component).unwrap());
            let old = there.get(component).filter(|there| there.revision == revision).cloned();
            if old.is_none() {
                self.tested.push(image.to_owned());
            }
            let rolled_out = old.is_some() && !self.broken.contains(&image);
            let candidate = ObservedWorkload { revision, rolled_out, ..ObservedWorkload::default() };
            self.observed.releases.candidates.insert(*component, candidate);
        }
        let name = |step: &Step| step.name.clone();
        let step = release.smoke_test.as_ref();
        self.observed
            .jobs
            .retain(|job| job.component != Component::SmokeTest || step.map(name).as_ref() == Some(&job.name));
        let failing = if release.state == State::Verifying { &self.failing_pods } else { &self.failing_tests };
        let fails = target.images().values().any(|image| failing.contains(image));
        let runs = |job: &&mut ObservedJob| job.component == Component::SmokeTest && job.phase == JobPhase::Running;
        for job in self.observed.jobs.iter_mut().filter(runs) {
            job.phase = if fails { JobPhase::Failed("the answer is 503".to_owned()) } else { JobPhase::Complete };
        }
        if let Some(step) = step.filter(|step| !step.exists) {
            self.verified += usize::from(release.state == State::Verifying);
            let (component, phase) = (Component::SmokeTest, JobPhase::Running);
            self.observed.jobs.push(ObservedJob {
                begun: None,
                name: name(step),
                component,
                created: 0,
                said: None,
                ended: None,
                phase,
            });
        }
    }

    fn settle(&mut self) -> Release {
        while self.step() {}
        self.plan().0
    }

    /// The states of a release until nothing changes any more.
    fn states(&mut self) -> Vec<State> {
        let mut states = vec![self.plan().0.state];
        while self.step() {
            states.push(self.plan().0.state);
        }
        states.dedup();
        states
    }

    fn edit(&mut self, path: &str, value: Value) {
        *self.spec.pointer_mut(path).unwrap() = value;
    }

    fn annotate(&mut self, key: &str, value: &str) {
        self.observed.annotations.insert(key.to_owned(), value.to_owned());
    }

    /// `kubectl annotate ... rorun.app/retry-`.
    fn take_retry_away(&mut self) {
        self.observed.annotations.remove(annotation::RETRY).expect("a retry");
    }

    fn hibernate(&mut self, cause: Option<Cause>) {
        self.observed.hibernation.cause = cause;
    }

    fn api(&self) -> &str {
        let revision = &self.observed.releases.workloads[&Component::Api].revision;
        let named = |of: &&Revision| of.content.workload(Component::Api) == *revision;
        self.observed.releases.revisions.iter().find(named).unwrap().content.image(Component::Api).unwrap()
    }
}

fn serving() -> Cluster {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.settle().state, State::Serving);
    cluster.served.clear();
    cluster.migrated.clear();
    cluster.now += 3600;
    cluster
}
