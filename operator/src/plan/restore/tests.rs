//! Restores played against a cluster that does what the plan says.

mod moments;
mod refusals;
mod retries;
mod seeds;
mod steps;

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
    /// What a kind of Job ends with, where it is not well or says something else.
    ends: Vec<(State, Value)>,
    /// The kinds of Jobs whose pods are gone before they are read.
    silent: Vec<State>,
    /// CloudNativePG runs the database and archives its log.
    archives: bool,
    /// The stack is new, and begins with a sanitized point.
    seeds: bool,
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
        copy_uid: None,
        point: Ok(RestorePoint { id: "20261129T101500Z-b9x2m".to_owned(), moment: None, folder: None }),
    }
}

impl Cluster {
    fn new() -> Self {
        let backup_owner = Some("u/shop".to_owned());
        let mut observed = Observed { restores: vec![request("back", UID)], backup_owner, ..Observed::default() };
        let there = ObservedWorkload { rolled_out: true, has_pods: true, ..ObservedWorkload::default() };
        observed.releases.workloads.insert(Component::Api, there);
        let (states, ends, silent) = Default::default();
        Self {
            environment: "Development",
            migrates: true,
            observed,
            now: 1000,
            states,
            ends,
            silent,
            archives: false,
            seeds: false,
        }
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
        if self.archives {
            spec["database"] = json!({"cloudNativePG": {}});
            spec["backup"] = json!({"pointInTime": {"days": 14}});
        }
        if self.seeds {
            spec["seedFrom"] = json!({"location": "s3://safe/sanitized/n/shop/20261129T101500Z-b9x2m/",
                "endpoint": "https://s3.example.com", "credentialsSecretRef": {"name": "reader"}});
        }
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n", "uid": "1"}, "spec": spec});
        let mut stack = validate(&serde_json::from_value(cr).unwrap(), &self.observed);
        // Secrets are none of the plan's business.
        stack.unresolved.clear();
        stack.seed.iter_mut().for_each(|seed| seed.missing = None);
        stack
    }

    fn state(&self, index: usize) -> State {
        self.plan().restores.runs[index].state
    }

    /// One reconcile, and what controllers and kubelets do after it. Gives whether anything changed.
    fn step(&mut self) -> bool {
        let plan = self.plan();
        let before = self.observed.clone();
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
            match self.ends.iter().find(|(of, _)| *of == state) {
                Some((_, ended)) if ended["done"].is_null() => job.phase = JobPhase::Failed(ended.to_string()),
                other => {
                    let said = other.map_or_else(|| said(state), |(_, ended)| ended.to_string());
                    let said = Some(said).filter(|_| !self.silent.contains(&state));
                    (job.phase, job.said, job.ended) = (JobPhase::Complete, said, Some(self.now));
                }
            }
        }
        self.recover(&plan);
        let due = plan.restores.current.as_ref().and_then(|current| current.step.clone());
        if let Some((kind, step)) = due.filter(|(_, step)| !step.exists) {
            assert!(self.observed.jobs.iter().all(|job| job.name != step.name), "{kind:?} runs twice");
            let (said, ended) = Default::default();
            let (name, component, created, phase) = (step.name, component(kind), self.now, JobPhase::Running);
            self.observed.jobs.push(ObservedJob { begun: None, name, component, created, said, phase, ended });
        }
        self.now += 1;
        let seen =
            |of: &Observed| (of.jobs.clone(), of.releases.workloads.clone(), of.handled.clone(), of.clusters.clone());
        seen(&before) != seen(&self.observed)
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
