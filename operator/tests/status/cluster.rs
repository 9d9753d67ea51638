//! A stack with its objects at a moment, and the statuses that it gets one after the other.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rorun_operator::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    desired::{self, Desired, desired},
    names::Component,
    objects::{LiveObject, LiveSet, Readiness, kind_of},
    plan::{Plan, Release, Restores},
    stack::Stack,
    status::{self, Report},
};
use serde_json::{Value, json};

use super::support::{Fixture, all_ready, valid};

pub struct Cluster {
    pub cr: RorunStack,
    pub stack: Stack,
    pub live: LiveSet,
    pub old: Option<RorunStackStatus>,
    /// The release that serves.
    pub release: Release,
    /// The restores that go on.
    pub restores: Restores,
    /// In how many seconds the last verdict changes by time alone.
    pub requeue_after: Option<u64>,
}

impl Cluster {
    /// No object exists, and every service answers.
    pub fn empty(spec: Fixture) -> Self {
        let cr = spec.build();
        let stack = valid(&cr);
        let (live, release, restores) = (LiveSet::default(), Release::default(), Restores::default());
        Self { cr, stack, live, old: None, release, restores, requeue_after: None }
    }

    /// All objects exist and serve, and the status says so.
    pub fn ready(spec: Fixture) -> Self {
        let mut cluster = Self::empty(spec);
        cluster.live = all_ready(&cluster.stack);
        cluster.reconcile(0);
        cluster
    }

    /// Another spec, as an edit leaves it.
    pub fn edit(&mut self, spec: Fixture) {
        let generation = self.cr.metadata.generation.unwrap_or_default() + 1;
        self.cr = spec.build();
        self.cr.metadata.generation = Some(generation);
        self.stack = valid(&self.cr);
    }

    /// Every object but workloads, as they are once they are written.
    pub fn make_the_rest(&mut self) {
        for object in desired::everything(&self.stack, &rorun_operator::plan::Plan::default()) {
            if !object.kind.runs_pods() {
                self.store((object.kind.group, object.kind.kind), object.body);
            }
        }
    }

    fn store(&mut self, (group, kind): (&str, &str), mut body: Value) {
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        body["metadata"]["namespace"] = json!("shop");
        body["metadata"]["uid"] = json!(format!("uid-of-{kind}-{name}"));
        let stored = LiveObject::whole(kind_of(group, kind).unwrap(), body).unwrap();
        self.live.put(Arc::new(stored));
    }

    /// Adds an object of a component.
    pub fn put(&mut self, kind: (&str, &str), component: Component, body: Value) {
        let name = self.stack.child(component);
        let name = if matches!(kind.1, "Pod" | "Job") { format!("{name}-0") } else { name };
        let labels =
            json!({"app.kubernetes.io/instance": self.stack.name, "app.kubernetes.io/component": component.as_str()});
        let mut body = body;
        for (key, value) in [("name", json!(name)), ("labels", labels), ("generation", json!(1))] {
            if body["metadata"][key].is_null() {
                body["metadata"][key] = value;
            }
        }
        self.store(kind, body);
    }

    /// A Deployment: pods wanted; pods there, of the newest template, ready; what it says of its rollout.
    pub fn deployment(&mut self, component: Component, wanted: i32, counts: [i32; 3], conditions: &Value) {
        let [replicas, updated, ready] = counts;
        let status = json!({
            "observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
            "availableReplicas": ready, "conditions": conditions,
        });
        self.put(("apps", "Deployment"), component, json!({"spec": {"replicas": wanted}, "status": status}));
    }

    /// The StatefulSet of an embedded service, with so many pods, and so many that serve.
    pub fn stateful_set(&mut self, component: Component, made: i32, ready: i32) {
        let status = json!({"observedGeneration": 1, "replicas": made, "readyReplicas": ready,
            "currentRevision": "a", "updateRevision": "a"});
        self.put(("apps", "StatefulSet"), component, json!({"spec": {"replicas": 1}, "status": status}));
    }

    /// A reconcile at a moment, and the status that it writes.
    pub fn reconcile(&mut self, now: i64) -> RorunStackStatus {
        self.reconcile_that_writes(now, &[])
    }

    /// As [`Self::reconcile`], which writes these workloads.
    pub fn reconcile_that_writes(&mut self, now: i64, begun: &[Component]) -> RorunStackStatus {
        let live = self.live.clone().at(now);
        let plan = Plan { release: self.release.clone(), restores: self.restores.clone(), ..Plan::default() };
        let Desired { waiting: mut held, readiness, notes, .. } = desired(&self.stack, &plan, &live);
        let key = |component: &Component| rorun_operator::objects::ObjectKey {
            kind: if self.stack.workload(*component).is_some() { "Deployment" } else { "StatefulSet" },
            name: self.stack.child(*component),
        };
        for component in begun {
            held.entry(*component).or_insert_with(|| rorun_operator::objects::rollout_begins(&key(component)));
        }
        // A step that waits is told though the spec does not ask for its component.
        let present = Component::ALL.into_iter().filter(|of| readiness.contains_key(of) || held.contains_key(of));
        let known = |of: Component| (of, readiness.get(&of).cloned().unwrap_or(Readiness::Ready));
        let report = Report {
            release: &self.release,
            restores: &self.restores,
            operations: &rorun_operator::plan::Operations::default(),
            cr: &self.cr,
            old: self.old.clone(),
            stack: &self.stack,
            live: &live,
            readiness: status::with_refusals(present.map(known).collect(), &held),
            notes,
            backup: rorun_operator::desired::last_backup(&live),
            verified: rorun_operator::desired::last_verified(&live),
            point_in_time: rorun_operator::desired::point_in_time(&self.stack, &live),
            begun: begun.iter().map(|component| (*component, 1)).collect::<BTreeMap<_, _>>(),
        };
        let status = status::status(&report, Timestamp::from_second(now).unwrap());
        self.requeue_after = live.requeue_after();
        self.old = Some(status.clone());
        status
    }

    /// What is said of a component without a status.
    pub fn readiness(&self, component: Component, now: i64) -> Readiness {
        desired(&self.stack, &rorun_operator::plan::Plan::default(), &self.live.clone().at(now))
            .readiness
            .remove(&component)
            .unwrap()
    }
}

/// A condition: status, reason and message.
pub fn condition<'a>(status: &'a RorunStackStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// `Ready=False NotHealthy`, or nothing.
pub fn line(status: &RorunStackStatus, kind: &str) -> String {
    condition(status, kind).map_or_else(String::new, |of| format!("{} {}", of.status, of.reason))
}

/// What a rollout says of itself once it has ended.
pub fn rolled_out() -> Value {
    json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}])
}

/// A moment as objects have it.
pub fn at(second: i64) -> Value {
    json!(Timestamp::from_second(second).unwrap().to_string())
}
