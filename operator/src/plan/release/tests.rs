//! Releases played against a cluster that does what the plan says.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
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
    /// Every image that a Deployment ever had, in order.
    served: Vec<String>,
    migrated: Vec<String>,
    /// Every image that a candidate had, in order.
    tested: Vec<String>,
    /// Candidates of these images answer otherwise than they must.
    failing_tests: Vec<&'static str>,
    /// The identifier of each backup, or why none can be made.
    backups: Result<&'static str, &'static str>,
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
        let (tested, failing_tests) = Default::default();
        let backups = Ok("20260504T110000Z-x7k2p");
        let observed = Observed::default();
        Self { spec, observed, now: 1000, broken, failing, hanging, served, migrated, tested, failing_tests, backups }
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

    /// One reconcile, and what controllers and kubelets do after it. Gives whether anything changed.
    fn step(&mut self) -> bool {
        let (plan, _) = self.whole_plan();
        let (hibernates, release) = (plan.hibernates(), plan.release);
        let before = (self.observed.releases.clone(), self.observed.jobs.clone());
        self.observed.releases.revisions.clone_from(&release.revisions);
        // Prune leaves a Job that runs.
        let wanted = |name: &str| release.migration.as_ref().is_some_and(|step| step.name == name);
        let other = |job: &ObservedJob| job.component != Component::Migration;
        self.observed.jobs.retain(|job| other(job) || job.phase == JobPhase::Running || wanted(&job.name));
        if let Some(step) = release.migration.as_ref().filter(|step| !step.exists) {
            let name = step.name.clone();
            self.observed.jobs.push(ObservedJob {
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
            let image = release.target.content.image(Component::Api).unwrap();
            let fails = self.failing.contains(&image);
            let migrations = self.observed.jobs.iter_mut().filter(|job| job.component == Component::Migration);
            for job in migrations.filter(|job| job.phase == JobPhase::Running) {
                job.phase = if fails { JobPhase::Failed("P3018".to_owned()) } else { JobPhase::Complete };
                job.ended = (!fails).then_some(job.created + 12);
            }
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
            self.observed.jobs.push(ObservedJob { name, component, created: 0, said: None, ended: None, phase });
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
        let fails = target.images().values().any(|image| self.failing_tests.contains(image));
        for job in self.observed.jobs.iter_mut().filter(|job| job.component == Component::SmokeTest) {
            job.phase = if fails { JobPhase::Failed("the answer is 503".to_owned()) } else { JobPhase::Complete };
        }
        if let Some(step) = step.filter(|step| !step.exists) {
            let (component, phase) = (Component::SmokeTest, JobPhase::Running);
            self.observed.jobs.push(ObservedJob {
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

#[test]
fn a_new_stack_migrates_before_anything_serves() {
    let mut cluster = Cluster::new();
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.pick), (State::Migrating, Pick::Keep));
    cluster.step();
    assert!(cluster.served.is_empty());
    assert_eq!(cluster.settle().state, State::Serving);
    assert_eq!((cluster.api(), &*cluster.migrated), ("api:1", &["api:1".to_owned()][..]));
}

#[test]
fn nothing_of_a_release_serves_before_its_migration_has_succeeded() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.edit("/ocr/image", json!("ocr:2"));
    cluster.failing = vec!["api:2"];
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::MigrationFailed, "api:1"));
    assert!(cluster.served.is_empty(), "{:?}", cluster.served);
    let waiting = release.waiting.unwrap();
    assert!(waiting.message.contains("P3018") && waiting.message.contains("rorun.app/retry"), "{waiting:?}");
    // An edit of something else changes neither.
    cluster.edit("/ocr/image", json!("ocr:3"));
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::MigrationFailed, 1), "the same migration");
    cluster.failing.clear();
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!(cluster.migrated.len(), 2);
}

#[test]
fn a_migration_waits_for_a_dump_that_runs() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.observed.dump = Some("shop-backup-1".to_owned());
    let release = cluster.settle();
    assert_eq!((release.state, release.migration.is_none()), (State::Migrating, true));
    assert!(release.waiting.unwrap().message.contains("waits for the dump of job/shop-backup-1"));
    cluster.observed.dump = None;
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

/// How the spec goes on while the migration to api:2 runs, and what serves in the end.
#[rstest]
#[case::to_another_image("/api/image", json!("api:3"), "api:3")]
#[case::back("/api/image", json!("api:1"), "api:1")]
#[case::without_a_migration("/api", json!({"image": "api:2"}), "api:2")]
#[case::with_another_command("/api", json!({"image": "api:2", "migrations": {"command": ["migrate", "all"]}}), "api:2")]
#[case::by_a_retry("/environment", json!("Development"), "api:2")]
fn a_migration_that_runs_is_ended_by_nothing_and_the_next_waits(
    #[case] path: &str,
    #[case] value: Value,
    #[case] serves: &str,
) {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.hanging = true;
    cluster.settle();
    let first = cluster.observed.jobs.clone();
    cluster.edit(path, value);
    cluster.annotate(annotation::RETRY, "1");
    let release = cluster.settle();
    assert_eq!(cluster.observed.jobs, first, "it runs, and alone");
    assert!(release.migration_runs && release.migration.is_none());
    if release.state == State::Migrating {
        assert_eq!(cluster.api(), "api:1");
        let waiting = release.waiting.unwrap().message;
        assert!(waiting.contains(&format!("waits for the migration of job/{} to end", first[0].name)), "{waiting}");
    }
    cluster.hanging = false;
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api(), release.migration_runs), (State::Serving, serves, false));
}

#[test]
fn a_migration_that_cannot_start_holds_neither_dumps_nor_the_next_one() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.hanging = true;
    cluster.settle();
    cluster.observed.jobs[0].phase = JobPhase::CannotStart;
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.migration_runs), (State::Migrating, false));
    assert!(release.migration.unwrap().exists, "it starts once its image is there");
    cluster.hanging = false;
    cluster.edit("/api/image", json!("api:3"));
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:3"));
}

#[test]
fn an_edit_without_an_image_rolls_at_once_and_migrates_nothing() {
    let mut cluster = serving();
    cluster.edit("/api", json!({"image": "api:1", "migrations": {"command": ["migrate", "all"]}, "port": 4000}));
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.pick), (State::RollingOut, Pick::Target));
    assert_eq!(cluster.settle().state, State::Serving);
    assert!(cluster.migrated.is_empty());
}

#[test]
fn a_release_that_never_becomes_ready_is_rolled_back_and_tried_again_when_asked() {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, Some(cluster.now + DEADLINE)));
    cluster.now += DEADLINE - 1;
    assert_eq!(cluster.settle().state, State::RollingOut);
    cluster.now += 1;
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::RolledBack, "api:1"));
    assert_eq!(release.waiting.unwrap().reason, reason::ROLLED_BACK);
    assert_eq!(cluster.migrated.len(), 1, "a roll-back migrates nothing");
    cluster.now += 10 * DEADLINE;
    assert!(!cluster.step(), "it stays so");
    cluster.broken.clear();
    cluster.annotate(annotation::RETRY, "again");
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!(cluster.migrated.len(), 1, "it is migrated already");
}

#[test]
fn a_mended_variable_is_a_new_attempt_after_a_roll_back() {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.now += DEADLINE;
    assert_eq!(cluster.settle().state, State::RolledBack);
    cluster.broken.clear();
    cluster.edit("/api", json!({"image": "api:2", "migrations": {"command": ["migrate"]}, "port": 4000}));
    assert_eq!((cluster.settle().state, cluster.api(), cluster.migrated.len()), (State::Serving, "api:2", 1));
}

#[test]
fn the_clock_stands_while_the_release_is_not_at_fault() {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.observed.releases.excuse = Some(Waiting::new(reason::UNSCHEDULABLE, "no room"));
    cluster.settle();
    cluster.now += 5 * DEADLINE;
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, None));
    cluster.observed.releases.excuse = None;
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, Some(cluster.now + DEADLINE)));
    cluster.now += DEADLINE;
    assert_eq!(cluster.settle().state, State::RolledBack);
}

#[test]
fn what_the_pods_of_another_workload_say_excuses_no_release() {
    let mut cluster = serving();
    cluster.broken = vec!["api:2"];
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    let full = Some(Waiting::new(reason::UNSCHEDULABLE, "no room"));
    cluster.observed.releases.workloads.get_mut(&Component::Ocr).unwrap().excuse.clone_from(&full);
    let (release, _) = cluster.plan();
    assert_eq!(release.turns_at, Some(cluster.now + DEADLINE), "the clock runs on");
    cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap().excuse = full;
    assert_eq!(cluster.settle().turns_at, None, "its own pods have no room");
}

#[test]
fn an_approval_releases_exactly_one_release() {
    let mut cluster = serving();
    cluster.spec["release"] = json!({"approval": "Required"});
    assert_eq!(cluster.settle().state, State::Serving, "what serves needs none");
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::AwaitingApproval, "api:1"));
    assert!(cluster.migrated.is_empty() && release.migration.is_none());
    assert!(!release.state.has_begun(), "it holds nobody");
    let waiting = release.waiting.unwrap().message;
    let hash = release.target.content.release();
    assert!(waiting.contains(&hash) && waiting.contains("api:2"), "{waiting}");
    // Of another release, and then of this one after the spec went on.
    cluster.annotate(annotation::APPROVE, "0123456789");
    assert_eq!(cluster.settle().state, State::AwaitingApproval);
    cluster.edit("/api/image", json!("api:3"));
    cluster.annotate(annotation::APPROVE, &hash);
    let release = cluster.settle();
    assert_eq!(release.state, State::AwaitingApproval, "an approval of the withdrawn one starts nothing");
    assert!(release.waiting.unwrap().message.contains(&format!("it approves {hash}, which is another one")));
    cluster.edit("/api/image", json!("api:2"));
    cluster.annotate(annotation::APPROVED_BY, "ada");
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::Serving, "api:2"));
    assert_eq!(release.target.progress.approved_by.as_deref(), Some("ada"));
}

#[test]
fn going_back_needs_neither_approval_nor_migration() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.now += 60;
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.migrated.clear();
    cluster.edit("/api/image", json!("api:1"));
    let (release, _) = cluster.plan();
    assert_eq!(release.state, State::RollingOut);
    assert_eq!(release.turns_at, Some(cluster.now + DEADLINE), "this rollout has its own clock");
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::Serving, "api:1"));
    assert!(cluster.migrated.is_empty());
    assert_eq!(release.last_good.map(|good| good.name), Some(release.target.name));
}

#[test]
fn what_an_operator_without_releases_runs_is_recorded_and_left_as_it_is() {
    let mut cluster = Cluster::new();
    for component in [Component::Api, Component::Ocr] {
        let there = ObservedWorkload { rolled_out: true, ..ObservedWorkload::default() };
        cluster.observed.releases.workloads.insert(component, there);
    }
    cluster.observed.releases.adoptable = true;
    cluster.spec["release"] = json!({"approval": "Required"});
    let (release, _) = cluster.plan();
    assert_eq!((release.state, release.pick, release.revisions.len()), (State::Serving, Pick::Target, 1));
    assert!(release.migration.is_none());
    cluster.observed.releases.revisions = release.revisions;
    cluster.observed.releases.adoptable = false;
    assert_eq!(cluster.settle().state, State::Serving);
    assert!(cluster.migrated.is_empty(), "it was migrated by whoever released it");
    // The next one is a release like any other.
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.settle().state, State::AwaitingApproval);
}

#[test]
fn an_upgrade_of_the_operator_and_a_default_make_no_release() {
    let mut cluster = serving();
    let (before, _) = cluster.plan();
    cluster.observed.agent_image = "rorun-operator:next".to_owned();
    cluster.spec["api"]["replicas"] = json!(3);
    assert_eq!(cluster.plan().0, before);
    assert!(!cluster.step());
}

#[test]
fn the_digests_and_the_moments_of_a_release_are_kept_with_it() {
    let mut cluster = serving();
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.edit("/api/image", json!("api:2"));
    let hash = cluster.settle().target.content.release();
    cluster.now += 60;
    cluster.annotate(annotation::APPROVE, &hash);
    let release = cluster.settle();
    let Progress { approved_at, migration_started_at, migrated_at, ref digests, .. } = release.target.progress;
    let now = Some(cluster.now);
    assert_eq!((approved_at, migration_started_at, migrated_at), (now, now, now.map(|now| now + 12)));
    assert_eq!((&*digests["api"], &*digests["ocr"]), ("digest of api:2", "digest of ocr:1"));
    assert_eq!(release.last_good.as_ref(), Some(&release.target));
    // The next release has no migration of its own, and leaves those of before as they are.
    cluster.now += 60;
    cluster.edit("/ocr/image", json!("ocr:2"));
    cluster.spec["release"] = json!({});
    let next = cluster.settle();
    let progress = &next.target.progress;
    assert_eq!((progress.migrated_at, progress.migrated.is_some()), (None, true));
    assert_eq!(next.revisions.iter().find(|before| before.name == release.target.name), Some(&release.target));
}

/// What the pods of the API run, after a digest of theirs was known, and what is told of them then.
#[rstest]
#[case::another(&[Some("b")], "b")]
#[case::no_pods(&[], "digest of api:1")]
#[case::from_no_registry(&[None], "Local")]
#[case::two(&[Some("a"), Some("b")], "Several")]
#[case::one_from_no_registry(&[None, Some("b")], "Several")]
fn a_digest_is_told_if_all_pods_run_the_same(#[case] pods: &[Option<&str>], #[case] told: &str) {
    let mut cluster = serving();
    cluster.settle();
    let there = cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap();
    there.digests = pods.iter().map(|digest| digest.map(str::to_owned)).collect();
    cluster.now += 60;
    let progress = cluster.plan().0.target.progress;
    assert_eq!(progress.digests["api"], told);
    let moved = told != "digest of api:1";
    assert_eq!(progress.digests_changed_at, moved.then_some(cluster.now), "another image is proven anew");
    // Pods that are being replaced may run anything.
    cluster.observed.releases.workloads.get_mut(&Component::Api).unwrap().rolled_out = false;
    assert_eq!(cluster.plan().0.target.progress.digests["api"], "digest of api:1");
}

#[test]
fn a_digest_in_the_name_of_an_image_needs_no_pod() {
    let mut cluster = Cluster::new();
    cluster.edit("/api/image", json!("api:1@sha256:0"));
    assert_eq!(cluster.settle().target.progress.digests["api"], "sha256:0");
}

#[test]
fn a_revision_that_an_earlier_operator_recorded_is_read() {
    let text = r#"{"createdAt": 1, "servedAt": 2, "migrated": "m"}"#;
    let progress: Progress = serde_json::from_str(text).unwrap();
    assert_eq!((progress.served_at, progress.digests.len(), progress.migrated_at), (Some(2), 0, None));
    let mut again = progress.clone();
    proof::migrated(&mut again, &[], ("m", None), &Observed::default());
    assert_eq!(again, progress, "what is migrated stays as it was recorded");
}

#[test]
fn ten_releases_are_kept() {
    let mut cluster = serving();
    for number in 2..20 {
        cluster.now += 60;
        cluster.edit("/api/image", json!(format!("api:{number}")));
        assert_eq!(cluster.settle().state, State::Serving);
    }
    assert_eq!(cluster.observed.releases.revisions.len(), HISTORY);
}

/// Two releases within a second, and each order of stopping half-way.
#[test]
fn a_spec_that_goes_on_at_any_step_ends_well() {
    for steps in 0..8 {
        for next in ["api:1", "api:3"] {
            let mut cluster = serving();
            cluster.edit("/api/image", json!("api:2"));
            for _ in 0..steps {
                cluster.step();
            }
            cluster.edit("/api/image", json!(next));
            let release = cluster.settle();
            assert_eq!((release.state, cluster.api()), (State::Serving, next), "after {steps} steps");
        }
    }
}

/// Another revision of a release that served is a way back as the first one is, at every step of the way.
#[test]
fn going_back_with_another_variable_needs_no_approval_and_no_migration() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.settle();
    cluster.migrated.clear();
    cluster.now += 60;
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.spec["api"]["env"] = json!([{"name": "A", "value": "1"}]);
    cluster.edit("/api/image", json!("api:1"));
    while cluster.step() {
        assert!(matches!(cluster.plan().0.state, State::RollingOut | State::Serving), "{:?}", cluster.plan().0.state);
    }
    assert_eq!((cluster.api(), cluster.migrated.len()), ("api:1", 0));
}

#[test]
fn a_release_waits_while_the_stack_hibernates_and_goes_on_when_it_wakes() {
    let mut cluster = serving();
    cluster.hibernate(Some(Cause::Spec));
    assert_eq!(cluster.settle().state, State::Serving, "what served is what serves when it wakes");
    assert!(cluster.observed.releases.workloads.values().all(|there| there.asleep));
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api(), cluster.migrated.len()), (State::Hibernating, "api:1", 0));
    assert_eq!(release.waiting, None);
    cluster.hibernate(None);
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

#[test]
fn the_clock_of_a_rollout_begins_again_when_the_stack_wakes() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.broken = vec!["api:2"];
    assert_eq!(cluster.settle().state, State::RollingOut);
    cluster.now += DEADLINE - 1;
    cluster.hibernate(Some(Cause::Schedule(None)));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api(), release.turns_at), (State::Hibernating, "api:1", None));
    cluster.now += 100 * DEADLINE;
    assert_eq!(cluster.settle().state, State::Hibernating);
    cluster.hibernate(None);
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, Some(cluster.now + DEADLINE)));
    cluster.now += DEADLINE;
    assert_eq!((cluster.settle().state, cluster.api()), (State::RolledBack, "api:1"));
}

#[test]
fn a_stack_that_never_served_ends_its_pods_and_serves_once_it_has_woken() {
    let mut cluster = Cluster::new();
    cluster.broken = vec!["api:1"];
    assert_eq!(cluster.settle().state, State::RollingOut);
    cluster.hibernate(Some(Cause::Spec));
    let release = cluster.settle();
    assert_eq!((release.state, release.pick), (State::Hibernating, Pick::Target));
    assert_eq!(release.last_good, None, "without pods nothing shows that it serves");
    cluster.hibernate(None);
    assert_eq!(cluster.settle().state, State::RollingOut);
    cluster.broken.clear();
    assert_eq!(cluster.settle().state, State::Serving);
}

#[test]
fn dumps_begin_once_the_application_has_started_and_a_stack_that_had_no_pods_pauses_none() {
    let mut cluster = serving();
    cluster.hibernate(Some(Cause::Spec));
    cluster.settle();
    assert!(cluster.whole_plan().0.dumps_paused);
    cluster.hibernate(None);
    assert!(!cluster.whole_plan().0.dumps_paused, "it has no pods for another reason");
    cluster.observed.hibernation.slept = true;
    assert!(cluster.whole_plan().0.dumps_paused);
    cluster.settle();
    assert!(!cluster.whole_plan().0.dumps_paused);
}

#[test]
fn hibernation_waits_for_a_migration_that_runs_and_none_begins_meanwhile() {
    let mut cluster = serving();
    cluster.edit("/api/image", json!("api:2"));
    cluster.hanging = true;
    cluster.settle();
    cluster.hibernate(Some(Cause::Spec));
    cluster.edit("/api/image", json!("api:3"));
    cluster.settle();
    let (plan, _) = cluster.whole_plan();
    let job = format!("job/{}", cluster.observed.jobs[0].name);
    assert_eq!(plan.operations.next, Some((Operation::Hibernation, job)));
    assert!(!plan.hibernates() && plan.dumps_paused && cluster.migrated == ["api:2"]);
    cluster.hanging = false;
    assert_eq!((cluster.settle().state, cluster.migrated.len()), (State::Hibernating, 1));
    assert!(cluster.whole_plan().0.hibernates());
    cluster.hibernate(None);
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:3"));
}

/// A stack that serves, and whose releases are tested.
fn tested() -> Cluster {
    let mut cluster = serving();
    for component in ["api", "ocr"] {
        cluster.spec[component]["candidate"] = json!(true);
    }
    assert_eq!(cluster.settle().state, State::Serving);
    assert!(cluster.tested.is_empty(), "an edit without an image has no candidate");
    cluster
}

#[test]
fn a_new_image_is_tested_after_its_migration_and_before_its_rollout() {
    let mut cluster = tested();
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.states(), [State::Migrating, State::Testing, State::RollingOut, State::Serving]);
    assert_eq!((cluster.api(), &*cluster.tested), ("api:2", &["api:2".to_owned()][..]), "the other image serves");
    assert!(cluster.observed.releases.candidates.is_empty(), "the candidate is gone");
    // Going back needs no test.
    cluster.edit("/api/image", json!("api:1"));
    assert_eq!((cluster.settle().state, cluster.tested.len()), (State::Serving, 1));
}

#[test]
fn an_image_that_fails_its_tests_never_serves_and_is_tested_again_by_a_retry() {
    let mut cluster = tested();
    cluster.failing_tests = vec!["ocr:2"];
    cluster.edit("/ocr/image", json!("ocr:2"));
    let release = cluster.settle();
    assert_eq!((release.state, release.smoke_test.is_some()), (State::SmokeTestFailed, true));
    assert!(cluster.served.is_empty() && release.candidates.is_empty());
    let told = release.waiting.unwrap().message;
    assert!(told.contains("the answer is 503") && told.contains("rorun.app/retry"), "{told}");
    cluster.failing_tests.clear();
    assert_eq!(cluster.settle().state, State::SmokeTestFailed, "nothing tests it again by itself");
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, &*cluster.served), (State::Serving, &["ocr:2".to_owned()][..]));
}

#[test]
fn a_candidate_that_never_becomes_ready_fails_within_the_deadline_unless_something_else_is_at_fault() {
    let mut cluster = tested();
    cluster.broken = vec!["ocr:2"];
    cluster.edit("/ocr/image", json!("ocr:2"));
    let release = cluster.settle();
    // That of the OCR service, which is on the way, by its default.
    assert_eq!((release.state, release.turns_at), (State::Testing, Some(cluster.now + 600)));
    let excuse = crate::names::Waiting::new(reason::UNSCHEDULABLE, "no room");
    cluster.observed.releases.excuse = Some(excuse);
    cluster.now += 5000;
    assert_eq!(cluster.settle().state, State::Testing);
    cluster.observed.releases.excuse = None;
    assert_eq!(cluster.settle().turns_at, Some(cluster.now + 600));
    cluster.now += 600;
    let release = cluster.settle();
    assert_eq!(release.state, State::SmokeTestFailed);
    assert!(release.waiting.unwrap().message.contains("did not become ready within 600 s"));
    // A mended variable is another try.
    cluster.broken.clear();
    cluster.spec["ocr"]["env"] = json!([{"name": "A", "value": "1"}]);
    assert_eq!(cluster.settle().state, State::Serving);
}

#[test]
fn a_rollout_after_a_test_has_its_whole_time_and_is_not_tested_again() {
    let mut cluster = tested();
    cluster.edit("/api/image", json!("api:2"));
    while cluster.plan().0.state != State::RollingOut {
        cluster.now += 10;
        cluster.step();
    }
    cluster.broken = vec!["api:2"];
    let release = cluster.settle();
    assert_eq!((release.state, release.turns_at), (State::RollingOut, Some(cluster.now + DEADLINE)));
    cluster.now += DEADLINE;
    assert_eq!((cluster.settle().state, cluster.api()), (State::RolledBack, "api:1"));
    cluster.broken.clear();
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!((cluster.settle().state, cluster.tested.len()), (State::Serving, 1));
}

/// At every step of a release that is tested.
#[test]
fn a_spec_that_goes_on_while_a_candidate_is_tested_ends_well() {
    for steps in 0..12 {
        for next in ["api:1", "api:3"] {
            let mut cluster = tested();
            cluster.edit("/api/image", json!("api:2"));
            for _ in 0..steps {
                cluster.step();
            }
            cluster.edit("/api/image", json!(next));
            let release = cluster.settle();
            assert_eq!((release.state, cluster.api()), (State::Serving, next), "after {steps} steps");
            assert!(cluster.observed.releases.candidates.is_empty() && release.smoke_test.is_none());
        }
    }
}

/// A stack of Production that serves.
fn in_production() -> Cluster {
    let mut cluster = serving();
    cluster.spec["environment"] = json!("Production");
    cluster.spec["backup"] = json!({});
    cluster.spec["api"]["candidate"] = json!(false);
    assert_eq!(cluster.settle().state, State::Serving);
    cluster
}

#[test]
fn a_migration_in_production_begins_beside_a_recovery_point() {
    let mut cluster = in_production();
    cluster.edit("/api/image", json!("api:2"));
    assert_eq!(cluster.states(), [State::BackingUp, State::Migrating, State::RollingOut, State::Serving]);
    let point = cluster.plan().0.target.progress.recovery_point.expect("a way back");
    assert_eq!(
        (&*point.id, point.skipped, &*cluster.migrated),
        ("20260504T110000Z-x7k2p", false, &["api:2".to_owned()][..])
    );
    // Another image of another workload runs no migration, and needs none.
    cluster.edit("/ocr/image", json!("ocr:2"));
    cluster.spec["ocr"]["candidate"] = json!(false);
    assert_eq!(cluster.plan().0.state, State::RollingOut);
}

/// A way back that has become too old, as while a migration failed for days, is none.
#[test]
fn a_recovery_point_that_is_too_old_is_made_again_and_one_of_before_the_last_migration_is_none() {
    let mut cluster = in_production();
    cluster.now = 1_777_892_400; // The moment of the backup that the Job reports.
    cluster.edit("/api/image", json!("api:2"));
    cluster.failing = vec!["api:2"];
    assert_eq!(cluster.settle().state, State::MigrationFailed);
    let backups =
        |cluster: &Cluster| cluster.observed.jobs.iter().filter(|job| job.component == Component::Backup).count();
    assert_eq!(backups(&cluster), 1);
    cluster.annotate(annotation::RETRY, "1");
    cluster.now += 3600;
    assert_eq!(cluster.settle().state, State::MigrationFailed, "an hour is young enough");
    assert_eq!(backups(&cluster), 1);
    cluster.annotate(annotation::RETRY, "2");
    cluster.now += 1;
    assert_eq!(cluster.plan().0.state, State::BackingUp);
    // One migration has succeeded ten minutes ago.
    let mut cluster = in_production();
    cluster.edit("/api/image", json!("api:2"));
    assert!(cluster.plan().0.reuse_within > 3000, "the first migration was an hour ago");
    cluster.settle();
    cluster.now += 600;
    cluster.edit("/api/image", json!("api:3"));
    assert!(cluster.plan().0.reuse_within <= 600, "{}", cluster.plan().0.reuse_within);
}

/// A mended variable is a new revision of the same release, and the release that is taken back has changed the data.
#[test]
fn what_a_release_changed_is_not_forgotten_with_its_revision() {
    let mut cluster = in_production();
    cluster.broken = vec!["api:2"];
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.edit("/api/image", json!("api:2"));
    let hash = cluster.plan().0.target.content.release();
    cluster.annotate(annotation::APPROVE, &hash);
    cluster.settle();
    cluster.now += DEADLINE;
    assert_eq!(cluster.settle().state, State::RolledBack);
    let before = cluster.plan().0.target.progress;
    cluster.observed.annotations.clear();
    cluster.spec["api"]["env"] = json!([{"name": "A", "value": "1"}]);
    let mended = cluster.settle();
    assert_eq!(mended.state, State::RollingOut, "nobody has to approve the same images again");
    let after = &mended.target.progress;
    assert_eq!((&after.recovery_point, after.migrated_at), (&before.recovery_point, before.migrated_at));
    assert!(after.recovery_point.is_some() && after.rolled_back.is_none());
    // Back to what served: the release stays among the revisions, whose holds stay.
    cluster.spec["api"]["env"] = json!([]);
    cluster.edit("/api/image", json!("api:1"));
    cluster.settle();
    let kept = &cluster.observed.releases.revisions;
    assert!(kept.iter().any(|of| of.content.release() == hash && of.progress.recovery_point.is_some()), "{kept:?}");
    assert!(!cluster.step());
}

#[test]
fn without_a_recovery_point_no_migration_begins_until_somebody_says_so() {
    let mut cluster = in_production();
    cluster.backups = Err("the bucket is full");
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.migrated.len()), (State::RecoveryPointFailed, 0));
    let (told, hash) = (release.waiting.unwrap().message, release.target.content.release());
    for words in ["the bucket is full", "rorun.app/retry", &format!("rorun.app/skip-recovery-point: {hash}")] {
        assert!(told.contains(words), "{told}");
    }
    cluster.annotate(annotation::RETRY, "1");
    assert_eq!(cluster.settle().state, State::RecoveryPointFailed, "tried again");
    cluster.annotate(annotation::SKIP_RECOVERY_POINT, "another");
    assert_eq!(cluster.settle().state, State::RecoveryPointFailed, "another release may go on");
    cluster.annotate(annotation::SKIP_RECOVERY_POINT, &hash);
    let release = cluster.settle();
    assert_eq!((release.state, cluster.api()), (State::Serving, "api:2"));
    assert!(release.target.progress.recovery_point.is_some_and(|point| point.skipped), "it stays in the record");
}

#[test]
fn a_recovery_point_waits_for_the_approval_and_for_a_dump_that_runs() {
    let mut cluster = in_production();
    cluster.spec["release"] = json!({"approval": "Required"});
    cluster.edit("/api/image", json!("api:2"));
    let release = cluster.settle();
    assert_eq!((release.state, cluster.observed.jobs.len()), (State::AwaitingApproval, 0));
    cluster.observed.dump = Some("shop-backup-1".to_owned());
    cluster.annotate(annotation::APPROVE, &release.target.content.release());
    let release = cluster.settle();
    assert_eq!((release.state, release.recovery_point), (State::BackingUp, None));
    assert!(release.waiting.unwrap().message.contains("waits for the dump of job/shop-backup-1 to end"));
    cluster.observed.dump = None;
    assert_eq!((cluster.settle().state, cluster.api()), (State::Serving, "api:2"));
}

#[test]
fn the_rows_name_every_state_and_lead_only_to_states_that_have_one() {
    for row in &TABLE {
        for (next, _) in row.next {
            assert!(TABLE.iter().any(|other| other.state == *next), "{next:?}");
        }
    }
}
