//! From a valid stack to the objects that it wants: pure, infallible, without client, clock, environment or random numbers.
//!
//! A component is one file. [`COMPONENTS`] lists them in the order of their dependencies; conditions, status rows and the
//! components that wait are derived from it.

mod autoscaler;
mod aws;
mod backup;
mod bucket;
mod bucket_rules;
mod connection;
mod credentials;
mod database;
mod drill;
mod failure_policy;
mod images;
mod ingress;
mod metadata;
mod migration;
mod mode;
mod monitoring;
mod objectives;
mod pod;
mod pod_template;
mod point_in_time;
mod preflight;
mod proxy;
mod records;
mod recovery;
mod redis;
mod restore;
mod sanitize;
mod schedule;
mod seed;
mod service;
mod serving;
mod smoke_test;
pub mod stages;
mod trust;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

pub use backup::{known_points, last_backup};
pub use drill::last_verified;
pub use objectives::begun;
pub use point_in_time::point_in_time;

use crate::{
    api::v1alpha1::RorunStackSpec,
    names::{Component as Name, Waiting, reason},
    objects::{self, DesiredObject, Keyed, LiveObject, LiveSet, ObjectKind, Readiness},
    plan::{Plan, restore::Current},
    stack::{Probe, Stack},
};

/// A part of a stack: its objects, and when it is ready.
pub trait Component: Sync {
    /// Gives the label, the condition and the status row.
    fn name(&self) -> Name;

    /// The components that must be resolved first: while one of them waits, this one waits and its objects stay as they are.
    fn requires(&self) -> &'static [Name] {
        &[]
    }

    /// The components that must be ready before this one is created. Later it stays as desired, even while one of them is down.
    fn waits_for(&self) -> &'static [Name] {
        &[]
    }

    /// The kinds of other projects that the spec needs for it. Without one of them it waits, and nothing else does.
    fn optional_kinds(&self, _: &RorunStackSpec) -> Vec<&'static ObjectKind> {
        Vec::new()
    }

    /// The desired objects. Empty when the spec omits the component.
    fn objects(&self, stack: &Stack, plan: &Plan) -> Vec<DesiredObject>;

    /// What the plan makes the component wait for, whatever its objects are.
    fn planned(&self, _: &Stack, _: &Plan, _: &LiveSet) -> Option<Waiting> {
        None
    }

    /// A note for the user about a component that serves.
    fn note(&self, stack: &Stack, _: &LiveSet) -> Option<String> {
        let notes = stack.notes(self.name());
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// Whether the component serves. `objects` are the desired ones, `live` are the observed objects of the stack.
    fn readiness(&self, _: &Stack, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
        pods_readiness(self.name(), objects, live)
    }
}

/// The kinds and names of objects.
pub type Keys<'a> = dyn Iterator<Item = (&'static str, &'a str)> + 'a;

/// Every component, in the order in which one needs the other.
pub static COMPONENTS: [&dyn Component; 17] = [
    &database::Database,
    &redis::Redis,
    &bucket::Bucket,
    &connection::Connection,
    &restore::Restore,
    &migration::Migration,
    &smoke_test::SmokeTest,
    &workload::OCR,
    &workload::API,
    &workload::ADMIN,
    &ingress::Ingress,
    &backup::Backup,
    &drill::Drill,
    &sanitize::Sanitize,
    &monitoring::Monitoring,
    &bucket_rules::BucketRules,
    &preflight::Preflight,
];

/// The desired objects, and the components that stay as they are for now.
#[derive(Debug)]
pub struct Desired {
    /// The objects to apply.
    pub objects: Vec<DesiredObject>,
    /// Components whose objects are neither applied nor pruned, and why.
    pub waiting: BTreeMap<Name, Waiting>,
    /// Components whose objects are neither applied nor pruned for now, and that serve all the same.
    pub deferred: BTreeSet<Name>,
    /// Whether each component that the spec asks for serves.
    pub readiness: BTreeMap<Name, Readiness>,
    /// Notes about components that serve.
    pub notes: BTreeMap<Name, String>,
}

impl Desired {
    /// The labels of the components that stay as they are.
    pub fn left_alone(&self) -> BTreeSet<String> {
        self.waiting.keys().chain(&self.deferred).map(ToString::to_string).collect()
    }
}

/// Computes the desired objects. A component that is not resolved waits, with all that require it. One that does not exist yet
/// waits until its dependencies are ready; one that exists stays as desired even while a dependency is down.
pub fn desired(stack: &Stack, plan: &Plan, live: &LiveSet) -> Desired {
    let mut result = Desired {
        objects: Vec::new(),
        waiting: BTreeMap::new(),
        deferred: BTreeSet::new(),
        readiness: BTreeMap::new(),
        notes: BTreeMap::new(),
    };
    // Also those that the spec no longer has: what runs of them is not pruned before a release without them serves.
    result.deferred.extend(&stack.deferred);
    for component in COMPONENTS.iter().filter(|component| stack.has(component.name())) {
        let name = component.name();
        if let Some(waiting) = waiting(*component, (stack, plan), live, &result) {
            result.readiness.insert(name, Readiness::Waiting(waiting.clone()));
            result.waiting.insert(name, waiting);
            continue;
        }
        let planned = stack.unresolved.get(&name).cloned().or_else(|| component.planned(stack, plan, live));
        let readiness = |places: &mut Keys<'_>| match planned.clone() {
            Some(waiting) => Readiness::Waiting(waiting),
            None => component.readiness(stack, places, live),
        };
        let objects = component.objects(stack, plan);
        let readiness = readiness(&mut objects.iter().map(Keyed::kind_and_name));
        if stack.deferred.contains(&name) {
            result.readiness.insert(name, readiness);
            continue;
        }
        result.notes.extend(component.note(stack, live).filter(|_| readiness.is_ready()).map(|note| (name, note)));
        result.readiness.insert(name, readiness);
        result.objects.extend(objects);
    }
    result.objects.extend(restore::kept(stack, plan));
    result.objects.extend(sanitize::kept(stack, plan));
    result.objects.extend(records::objects(stack, plan));
    result
}

/// The kinds of other projects that the spec needs, with the component that needs each.
pub fn optional_kinds(spec: &RorunStackSpec) -> Vec<(Name, &'static ObjectKind)> {
    let of = |component: &&dyn Component| {
        let name = component.name();
        component.optional_kinds(spec).into_iter().map(move |kind| (name, kind))
    };
    COMPONENTS.iter().flat_map(of).collect()
}

/// All desired objects, as once no component waits.
pub fn everything(stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
    let components = COMPONENTS.iter().flat_map(|component| component.objects(stack, plan));
    components.chain(records::objects(stack, plan)).collect()
}

fn waiting(
    component: &dyn Component,
    (stack, plan): (&Stack, &Plan),
    live: &LiveSet,
    sofar: &Desired,
) -> Option<Waiting> {
    let name = component.name();
    if let Some(refused) = stack.refused(name) {
        return Some(refused.clone());
    }
    // The operator creates an Ingress without its certificate: cert-manager issues one only then.
    if let Some(waiting) = stack.unresolved.get(&name).filter(|_| name != Name::Ingress) {
        return Some(waiting.clone());
    }
    let missing =
        |need: &&Name| sofar.waiting.get(need).is_some_and(|waiting| stack.pods_refused.get(need) != Some(waiting));
    let missing = |need: &&Name| missing(need) || stack.lacks_address(**need);
    if let Some(need) = component.requires().iter().find(missing) {
        return Some(waits(name, *need));
    }
    if let Some(waiting) = stack.pods_refused.get(&name) {
        return Some(waiting.clone());
    }
    // A migration that is over, or that may not run yet, needs no database.
    // Nor do rules that are set need the bucket.
    let set = name == Name::BucketRules && plan.bucket_rules.iter().all(|step| step.exists);
    let idle = set || (name == Name::Migration && !plan.release.state.migrates());
    if component.waits_for().is_empty() || runs(name, stack, live) || idle {
        return None;
    }
    let waited_for = |need: &&Name| {
        let waits = |readiness| is_waited_for(readiness) && !stack.fails_from_pods_alone(**need);
        sofar.readiness.get(need).is_some_and(|readiness| waits(readiness) || sleeps(**need, live))
    };
    // The objects of a restore need a bucket.
    let objects = name == Name::Restore && plan.restores.current.as_ref().is_some_and(Current::needs_bucket);
    let needs = component.waits_for().iter().chain(objects.then_some(&Name::Bucket));
    needs.into_iter().find(waited_for).map(|need| waits(name, *need))
}

/// A service that the operator does not probe blocks nothing: no probe would ever say that it answers. Nor does one that serves while a
/// change of it is held.
fn is_waited_for(readiness: &Readiness) -> bool {
    let serves = [reason::NOT_PROBED, reason::CONFIRMATION_REQUIRED];
    matches!(readiness, Readiness::Waiting(waiting) if !serves.contains(&waiting.reason))
}

fn waits(name: Name, need: Name) -> Waiting {
    Waiting::new(reason::DEPENDENCY_NOT_READY, format!("{name} waits for {need}"))
}

/// Whether a component was created, and need not wake: once it runs, it is applied also while a dependency is down.
fn runs(component: Name, stack: &Stack, live: &LiveSet) -> bool {
    let exists = |kind| live.of_component(kind, component.as_str()).next().is_some();
    let wakes = || {
        let wanted = stack.workload(component).is_some_and(|workload| workload.replicas.floor() > 0);
        wanted && !stack.has_no_pods() && sleeps(component, live)
    };
    ["Deployment", "CronJob"].into_iter().any(exists) && !wakes()
}

/// Whether the operator has applied that a component has no pods.
fn sleeps(component: Name, live: &LiveSet) -> bool {
    let asleep = |there: &LiveObject| there.applied_replicas == Some(0);
    ["Deployment", "StatefulSet"].into_iter().any(|kind| live.of_component(kind, component.as_str()).any(asleep))
}

/// How long the pod of an embedded service may take from its start until its health check succeeds, in seconds.
const START_UP: i64 = 60;

/// Ready when every object exists and is ready by its kind. If a workload is not, the worst of its pods gives the reason.
fn pods_readiness(component: Name, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
    readiness_after(START_UP, component, objects, live)
}

/// As [`pods_readiness`], of pods that may take so many seconds to start.
fn readiness_after(start_up: i64, component: Name, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
    for (kind, name) in objects {
        let Some(there) = live.named(kind, name) else {
            return Readiness::waiting(reason::PROGRESSING, format!("{component} is being made"));
        };
        if there.deleting {
            return Readiness::Waiting(objects::terminating(there));
        }
        if let Readiness::Waiting(waiting) = &there.readiness {
            // Refused pods have no status, and the pods of before the change are not the cause.
            let refused = waiting.reason == reason::PODS_REFUSED;
            let worst = worst_pod(component, start_up, live).filter(|_| !refused);
            return Readiness::Waiting(worst.unwrap_or_else(|| waiting.clone()));
        }
    }
    Readiness::Ready
}

/// The readiness of a service by its probe.
fn probed(stack: &Stack, component: Name) -> Readiness {
    match (stack.probe(component), stack.not_probed(component)) {
        // Of what the operator does not probe a Job may know.
        (Probe::Failed(waiting), _) | (_, Some(waiting)) => Readiness::Waiting(waiting.clone()),
        (Probe::Answers { .. }, None) => Readiness::Ready,
        (Probe::Pending, None) => {
            Readiness::waiting(reason::PROGRESSING, format!("{component} is being asked whether it answers"))
        }
    }
}

/// Reasons of pods that say more than that a rollout is not done, worst first.
const TELLING: [reason::Reason; 5] = [
    reason::IMAGE_PULL_FAILED,
    reason::CONTAINER_CONFIG_ERROR,
    reason::UNSCHEDULABLE,
    reason::CRASH_LOOP,
    reason::NOT_HEALTHY,
];

/// How long a pod may have no node before its condition reports it, in seconds: its volume may be about to be bound.
const SCHEDULED_WITHIN: i64 = 10;

/// Why a pod does not serve, once its time to start is over.
fn trouble(pod: &LiveObject, start_up: i64, live: &LiveSet) -> Option<Waiting> {
    let Readiness::Waiting(waiting) = &pod.readiness else { return None };
    let limit = match waiting.reason {
        reason::UNSCHEDULABLE => SCHEDULED_WITHIN,
        reason::NOT_HEALTHY => start_up,
        _ => return Some(waiting.clone()),
    };
    pod.since.is_none_or(|since| live.has_passed(since + limit)).then(|| waiting.clone())
}

fn worst_pod(component: Name, start_up: i64, live: &LiveSet) -> Option<Waiting> {
    worst_of(live.of_component("Pod", component.as_str()), start_up, live)
}

/// The same of the pods that have not failed for good: how one of those ended is for its Job to say, and one of an attempt before says
/// nothing of this one.
fn worst_pod_that_goes_on(component: Name, start_up: i64, live: &LiveSet) -> Option<Waiting> {
    worst_of(live.of_component("Pod", component.as_str()).filter(|pod| !pod.work.is_over()), start_up, live)
}

fn worst_of<'a>(pods: impl Iterator<Item = &'a LiveObject>, start_up: i64, live: &LiveSet) -> Option<Waiting> {
    let problems = pods.filter(|pod| !pod.deleting).filter_map(|pod| {
        let waiting = trouble(pod, start_up, live)?;
        let rank = TELLING.iter().position(|reason| *reason == waiting.reason)?;
        Some((rank, waiting))
    });
    problems.min_by_key(|(rank, _)| *rank).map(|(_, waiting)| waiting)
}
