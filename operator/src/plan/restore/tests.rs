//! Restores played against a cluster that does what the plan says.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    names::{annotation, reason},
    plan::{Plan, plan},
    stack::{BackupRequest, JobPhase, ObservedJob, ObservedWorkload, PointProblem, RestorePoint, validate},
};

const UID: &str = "5e0c37f4-3a55-4b8a-9a86-1c1f2a3b4c5d";

/// A stack that serves, and what the cluster holds of it.
struct Cluster {
    environment: &'static str,
    migrates: bool,
    observed: Observed,
    now: i64,
    /// Every state that was seen, in order.
    states: Vec<State>,
    /// What a kind of Job ends with, where it is not well.
    ends: Vec<(State, Value)>,
}

fn request(name: &str, uid: &str) -> RestoreRequest {
    RestoreRequest {
        uid: uid.to_owned(),
        name: name.to_owned(),
        stack_uid: Some("1".to_owned()),
        fills: false,
        database: true,
        bucket: false,
        into: None,
        retry: String::new(),
        point: Ok(RestorePoint { id: "20261129T101500Z-b9x2m".to_owned(), folder: None }),
    }
}

impl Cluster {
    fn new() -> Self {
        let backup_owner = Some("u/shop".to_owned());
        let mut observed = Observed { restores: vec![request("back", UID)], backup_owner, ..Observed::default() };
        let there = ObservedWorkload { rolled_out: true, has_pods: true, ..ObservedWorkload::default() };
        observed.releases.workloads.insert(Component::Api, there);
        let (states, ends) = Default::default();
        Self { environment: "Development", migrates: true, observed, now: 1000, states, ends }
    }

    fn plan(&self) -> Plan {
        plan(&self.stack(), &self.observed, self.now)
    }

    fn stack(&self) -> Stack {
        let mut api = json!({"image": "api:1"});
        if self.migrates {
            api["migrations"] = json!({"command": ["migrate"]});
        }
        let mut spec = json!({"environment": self.environment, "api": api, "backup": {}});
        if self.environment == "Production" {
            let bucket =
                json!({"name": "b", "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "s"}});
            spec["database"] = json!({"external": {"secretRef": {"name": "d"}}});
            spec["redis"] = json!({"external": {"secretRef": {"name": "r"}}});
            spec["bucket"] = json!({"external": bucket});
        }
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n", "uid": "1"}, "spec": spec});
        let mut stack = validate(&serde_json::from_value(cr).unwrap(), &self.observed);
        // Secrets are none of the plan's business.
        stack.unresolved.clear();
        stack
    }

    fn state(&self, index: usize) -> State {
        self.plan().restores.runs[index].state
    }

    /// One reconcile, and what controllers and kubelets do after it. Gives whether anything changed.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let before =
            (self.observed.jobs.clone(), self.observed.releases.workloads.clone(), self.observed.handled.clone());
        self.observed.handled.clone_from(&plan.handled);
        self.observed.kept.clone_from(&plan.restores.kept);
        if let Some(state) = plan.restores.current.as_ref().map(|current| current.state)
            && self.states.last() != Some(&state)
        {
            self.states.push(state);
        }
        for there in self.observed.releases.workloads.values_mut() {
            let stops = plan.restores.stops();
            // The pods of a Deployment end, and come, after it was changed.
            (there.has_pods, there.asleep) = (if there.asleep == stops { !stops } else { there.has_pods }, stops);
        }
        for job in self.observed.jobs.iter_mut().filter(|job| job.phase == JobPhase::Running) {
            let state = *self.states.last().unwrap();
            if let Some((_, said)) = self.ends.iter().find(|(of, _)| *of == state) {
                job.phase = JobPhase::Failed(said.to_string());
            } else {
                (job.phase, job.said, job.ended) = (JobPhase::Complete, Some(said(state)), Some(self.now));
            }
        }
        let due = plan.restores.current.as_ref().and_then(|current| current.step.clone());
        if let Some((kind, step)) = due.filter(|(_, step)| !step.exists) {
            assert!(self.observed.jobs.iter().all(|job| job.name != step.name), "{kind:?} runs twice");
            let (said, ended) = Default::default();
            let (name, component, created, phase) = (step.name, component(kind), self.now, JobPhase::Running);
            self.observed.jobs.push(ObservedJob { name, component, created, said, phase, ended });
        }
        self.now += 1;
        before != (self.observed.jobs.clone(), self.observed.releases.workloads.clone(), self.observed.handled.clone())
    }

    fn run(&mut self) {
        for _ in 0..100 {
            if !self.step() {
                return;
            }
        }
        panic!("it never settles: {:?}", self.states);
    }
}

fn said(state: State) -> String {
    let outcome = match state {
        State::Saving => {
            json!({"complete": {"id": "20261129T120000Z-aaaaa", "at": "2026-11-29T12:00:00Z", "sizeBytes": 7,
            "sha256": "0", "location": "s3://b/k", "removed": 0}})
        }
        State::Switching => json!({"done": {"kept": {"name": "shop_before_1", "sizeBytes": 7}, "durationSeconds": 1}}),
        _ => json!({"done": {"rows": 2, "tables": 1, "database": "shop_restore_1", "bytes": 7, "durationSeconds": 1}}),
    };
    outcome.to_string()
}

#[test]
fn every_step_in_its_order_and_nothing_twice() {
    use State::{Checking, Complete, Copying, Migrating, Saving, Starting, Stopping, Switching, Testing, Verifying};
    let mut cluster = Cluster::new();
    cluster.run();
    let expected = [Checking, Copying, Migrating, Verifying, Saving, Stopping, Switching, Starting, Testing, Complete];
    assert_eq!(cluster.states, expected);
    let plan = cluster.plan();
    assert_eq!(plan.restores.kept.iter().map(|of| of.name.as_str()).collect::<Vec<_>>(), ["shop_before_1"]);
    let run = &plan.restores.runs[0];
    assert_eq!((run.saved.as_deref(), run.kept.as_deref()), (Some("20261129T120000Z-aaaaa"), Some("shop_before_1")));
    assert!(!plan.restores.works && !plan.restores.stops() && !plan.restores.holds());
}

#[test]
fn without_a_migration_and_with_objects() {
    let mut cluster = Cluster::new();
    cluster.migrates = false;
    cluster.observed.restores[0].bucket = true;
    cluster.run();
    assert!(!cluster.states.contains(&State::Migrating), "{:?}", cluster.states);
    let at = |state| cluster.states.iter().position(|seen| *seen == state).unwrap();
    assert!(at(State::Switching) < at(State::RestoringObjects) && at(State::RestoringObjects) < at(State::Starting));
}

#[test]
fn before_the_switch_a_failure_leaves_the_application_running() {
    for failing in [State::Checking, State::Copying, State::Migrating, State::Verifying, State::Saving] {
        let mut cluster = Cluster::new();
        cluster.ends.push((failing, json!({"failed": {"message": "no route"}})));
        cluster.run();
        assert_eq!(cluster.state(0), State::Broken, "{failing:?}");
        let plan = cluster.plan();
        assert!(!plan.restores.stops() && !plan.restores.holds(), "{failing:?}");
        assert!(!cluster.states.contains(&State::Stopping), "{failing:?}");
        // Nothing is tried again before somebody says so.
        let jobs = cluster.observed.jobs.len();
        cluster.ends.clear();
        cluster.run();
        assert_eq!(cluster.observed.jobs.len(), jobs, "{failing:?}");
        cluster.observed.restores[0].retry = "1".to_owned();
        cluster.run();
        assert_eq!(cluster.state(0), State::Complete, "{failing:?}: {:?}", cluster.states);
    }
}

#[test]
fn what_is_refused_is_over() {
    let mut cluster = Cluster::new();
    cluster
        .ends
        .push((State::Checking, json!({"refused": {"reason": "PointCorrupt", "message": "the dump is cut off"}})));
    cluster.run();
    let plan = cluster.plan();
    let run = &plan.restores.runs[0];
    assert_eq!((run.state, run.waiting.as_ref().map(|waiting| waiting.reason)), (State::Refused, Some("PointCorrupt")));
    assert!(plan.restores.current.is_none());
}

#[rstest]
#[case::of_another_stack(|of: &mut Cluster| of.observed.restores[0].stack_uid = Some("2".to_owned()), reason::ANOTHER_STACK)]
#[case::of_a_moment(|of: &mut Cluster| of.observed.restores[0].point = Err(PointProblem::Final(Waiting::new(reason::POINT_IN_TIME_UNSUPPORTED, "x"))), reason::POINT_IN_TIME_UNSUPPORTED)]
fn what_never_can_be_done_makes_no_job(#[case] change: fn(&mut Cluster), #[case] why: reason::Reason) {
    let mut cluster = Cluster::new();
    change(&mut cluster);
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!((run.state, run.waiting.as_ref().map(|waiting| waiting.reason)), (State::Refused, Some(why)));
    assert!(cluster.observed.jobs.is_empty());
}

#[test]
fn a_restore_of_the_same_name_is_not_repeated() {
    let mut cluster = Cluster::new();
    cluster.run();
    let jobs = cluster.observed.jobs.len();
    // As by a tool that keeps what is in git: the same manifest, another object.
    cluster.observed.restores = vec![request("back", "another")];
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!(run.waiting.as_ref().map(|waiting| waiting.reason), Some(reason::ALREADY_RESTORED));
    assert_eq!(cluster.observed.jobs.len(), jobs);
    cluster.observed.restores = vec![request("once-more", "another")];
    cluster.run();
    assert_eq!(cluster.state(0), State::Complete);
}

#[test]
fn a_restore_whose_jobs_and_status_are_gone_is_not_repeated() {
    let mut cluster = Cluster::new();
    cluster.run();
    cluster.observed.jobs.clear();
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!(run.waiting.as_ref().map(|waiting| waiting.reason), Some(reason::ALREADY_RESTORED));
    assert!(cluster.observed.jobs.is_empty());
}

#[test]
fn after_a_switch_that_broke_off_the_application_starts_and_ends_again_before_the_next_attempt() {
    let mut cluster = Cluster::new();
    cluster.ends.push((State::Switching, json!({"failed": {"message": "no route"}})));
    cluster.run();
    assert_eq!(cluster.state(0), State::Broken);
    assert!(!cluster.plan().restores.stops() && !cluster.plan().restores.holds());
    assert!(cluster.observed.releases.workloads.values().all(|there| there.has_pods), "nobody serves");
    cluster.ends.clear();
    cluster.observed.restores[0].retry = "1".to_owned();
    let runs = |of: &Cluster| of.observed.jobs.iter().any(|job| job.phase == JobPhase::Running);
    while cluster.state(0) != State::Complete {
        assert!(cluster.step(), "{:?}", cluster.states);
        let pods = cluster.observed.releases.workloads.values().any(|there| there.has_pods);
        assert!(cluster.state(0) != State::Switching || !runs(&cluster) || !pods, "{:?}", cluster.states);
    }
    let [stops, switches] =
        [State::Stopping, State::Switching].map(|of| cluster.states.iter().filter(|state| **state == of).count());
    assert_eq!((stops, switches), (2, 2), "{:?}", cluster.states);
}

#[test]
fn objects_that_broke_off_after_the_switch_keep_the_application_stopped() {
    let mut cluster = Cluster::new();
    cluster.observed.restores[0].bucket = true;
    cluster.ends.push((State::RestoringObjects, json!({"failed": {"message": "no route"}})));
    cluster.run();
    assert_eq!(cluster.state(0), State::Broken);
    assert!(cluster.plan().restores.stops() && cluster.plan().restores.holds());
    cluster.ends.clear();
    cluster.observed.restores[0].retry = "1".to_owned();
    cluster.run();
    assert_eq!(cluster.state(0), State::Complete, "{:?}", cluster.states);
}

#[test]
fn objects_that_are_refused_after_the_switch_are_not_over() {
    let mut cluster = Cluster::new();
    cluster.observed.restores[0].bucket = true;
    let refused = json!({"refused": {"reason": "VersionMissing", "message": "a version is gone"}});
    cluster.ends.push((State::RestoringObjects, refused));
    cluster.run();
    assert_eq!(cluster.state(0), State::Broken);
    assert!(cluster.plan().restores.stops() && cluster.plan().restores.holds());
    let waiting = cluster.plan().restores.runs[0].waiting.clone().unwrap();
    assert!(waiting.message.contains("shop_before_1") && waiting.message.contains("rorunrestore/back"), "{waiting:?}");
    cluster.ends.clear();
    cluster.observed.restores[0].retry = "1".to_owned();
    cluster.run();
    assert_eq!(cluster.state(0), State::Complete, "{:?}", cluster.states);
}

#[test]
fn of_two_that_broke_off_the_one_that_changed_data_by_half_goes_first() {
    let mut cluster = Cluster::new();
    cluster.ends.push((State::Copying, json!({"failed": {"message": "no route"}})));
    cluster.run();
    let second = RestoreRequest { bucket: true, ..request("second", "2") };
    cluster.observed.restores.push(second);
    cluster.ends = vec![(State::RestoringObjects, json!({"failed": {"message": "no route"}}))];
    cluster.run();
    assert_eq!((cluster.state(0), cluster.state(1)), (State::Broken, State::Broken));
    cluster.observed.restores[0].retry = "1".to_owned();
    for _ in 0..4 {
        assert!(cluster.plan().restores.stops(), "the application starts with half of the data");
        cluster.step();
    }
    assert_eq!(cluster.plan().restores.current.unwrap().request.name, "second");
}

#[test]
fn what_is_tried_again_of_the_stack_is_no_restore() {
    let mut cluster = Cluster::new();
    cluster.ends.push((State::Switching, json!({"failed": {"message": "no route"}})));
    cluster.run();
    let jobs = cluster.observed.jobs.len();
    cluster.ends.clear();
    cluster.observed.annotations.insert(annotation::RETRY.to_owned(), "of a release".to_owned());
    cluster.run();
    assert_eq!((cluster.state(0), cluster.observed.jobs.len()), (State::Broken, jobs));
}

#[test]
fn a_point_that_is_not_found_any_more_ends_nothing_half_way() {
    let mut cluster = Cluster::new();
    while cluster.states.last() != Some(&State::Switching) {
        cluster.step();
    }
    let gone = Waiting::new(reason::DEPENDENCY_NOT_READY, "rorunbackup/now has no recovery point");
    cluster.observed.restores[0].point = Err(PointProblem::Waits(gone));
    assert_eq!(cluster.state(0), State::Switching);
    assert!(cluster.plan().restores.stops());
}

#[test]
fn restored_data_are_migrated_as_new_ones() {
    let mut cluster = Cluster::new();
    let data = |cluster: &Cluster| cluster.stack().release.data;
    let before = data(&cluster);
    cluster.run();
    let after = data(&cluster);
    assert!(after != before && after.ends_with(UID), "{before}: {after}");
}

#[test]
fn a_point_of_a_stack_whose_owner_is_not_known_waits() {
    let mut cluster = Cluster::new();
    cluster.observed.backup_owner = None;
    cluster.run();
    let run = &cluster.plan().restores.runs[0];
    assert_eq!(run.waiting.as_ref().map(|waiting| waiting.reason), Some(reason::FORBIDDEN));
    assert!(cluster.observed.jobs.is_empty());
}

#[test]
fn of_two_the_second_waits() {
    let mut cluster = Cluster::new();
    cluster.observed.restores.push(request("second", "2"));
    for _ in 0..6 {
        cluster.step();
        let plan = cluster.plan();
        assert_eq!(plan.restores.runs[1].state, State::Waiting);
        let waiting = plan.restores.runs[1].waiting.clone().unwrap();
        assert!(waiting.message.contains("rorunrestore/back"), "{waiting:?}");
    }
}

#[test]
fn production_needs_the_confirmation_of_this_very_restore() {
    let mut cluster = Cluster::new();
    cluster.environment = "Production";
    let confirm = |cluster: &mut Cluster, uid: &str| {
        cluster.observed.annotations.insert(annotation::CONFIRM_RESTORE.to_owned(), uid.to_owned());
        cluster.run();
        cluster.observed.jobs.len()
    };
    assert_eq!(confirm(&mut cluster, "another"), 0);
    let waiting = cluster.plan().restores.runs[0].waiting.clone().unwrap();
    assert!(waiting.reason == reason::CONFIRMATION_REQUIRED && waiting.message.contains(UID), "{waiting:?}");
    assert!(confirm(&mut cluster, UID) > 0);
}

#[test]
fn it_waits_for_a_dump_and_no_backup_begins_beside_it() {
    let mut cluster = Cluster::new();
    cluster.observed.dump = Some("shop-backup-1".to_owned());
    cluster.run();
    assert!(cluster.observed.jobs.is_empty());
    let waiting = cluster.plan().restores.runs[0].waiting.clone().unwrap();
    assert!(waiting.message.contains("job/shop-backup-1"), "{waiting:?}");
    cluster.observed.dump = None;
    cluster.step();
    cluster.observed.backups.push(BackupRequest { uid: "b".to_owned(), name: "now".to_owned() });
    let plan = cluster.plan();
    assert!(plan.dumps_paused && plan.backups.iter().all(|step| step.exists));
    assert!(plan.works_on_data, "a deletion waits for it");
}

#[test]
fn a_new_stack_starts_once_it_is_filled() {
    let mut cluster = Cluster::new();
    cluster.observed.releases.workloads.clear();
    (cluster.observed.restores[0].fills, cluster.observed.restores[0].stack_uid) = (true, None);
    let plan = cluster.plan();
    assert!(plan.restores.holds() && plan.release.migration.is_none() && !plan.restores.stops());
    cluster.run();
    assert_eq!(cluster.states, [State::Checking, State::Filling, State::Complete]);
    assert!(!cluster.plan().restores.holds());
}

#[test]
fn a_kept_database_is_dropped_by_its_name_and_no_other() {
    let mut cluster = Cluster::new();
    cluster.run();
    cluster.observed.restores.clear();
    let discard = |cluster: &mut Cluster, name: &str| {
        cluster.observed.annotations.insert(annotation::DISCARD.to_owned(), name.to_owned());
        cluster.plan().restores.discard.map(|(step, database)| (step, database.restore_uid))
    };
    for other in ["shop", "", "shop_before_2", "postgres"] {
        assert_eq!(discard(&mut cluster, other), None, "{other}");
    }
    let (step, uid) = discard(&mut cluster, "shop_before_1").unwrap();
    assert_eq!((step.exists, uid.as_str()), (false, UID));
    let (component, phase) = (Component::Restore, JobPhase::Complete);
    let (said, ended) = (None, Some(cluster.now));
    cluster.observed.jobs.push(ObservedJob { name: step.name, component, created: 0, said, phase, ended });
    assert!(cluster.plan().restores.kept.is_empty() && cluster.plan().restores.discard.is_none());
}

#[test]
fn each_row_names_states_of_the_table() {
    for row in &TABLE {
        for (next, _) in row.next {
            assert!(TABLE.iter().any(|other| other.state == *next), "{next:?}");
        }
    }
    assert!(diagram().contains("Switching --> Starting: Bucket is not"));
}
