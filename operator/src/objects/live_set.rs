//! The observed objects of one stack, and the time of the reconcile: time alone may change a verdict.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::{Keyed, LiveObject, Readiness, Running, Work};
use crate::names::reason::{self, Reason};

/// What the pod of a Job says while no container of it can start before a user acts.
const CANNOT_START: [Reason; 3] = [reason::UNSCHEDULABLE, reason::IMAGE_PULL_FAILED, reason::CONTAINER_CONFIG_ERROR];

/// The observed objects of one stack at a time, sorted by kind and name.
#[derive(Clone, Debug, Default)]
pub struct LiveSet {
    objects: Vec<Arc<LiveObject>>,
    clock: Option<Arc<Clock>>,
}

/// The time of the reconcile, and the next time at which a verdict may change without an event.
#[derive(Debug)]
struct Clock {
    now: i64,
    next: AtomicI64,
}

impl LiveSet {
    /// The same objects at a time, in seconds since 1970.
    #[must_use]
    pub fn at(mut self, now: i64) -> Self {
        self.clock = Some(Arc::new(Clock { now, next: AtomicI64::new(i64::MAX) }));
        self
    }

    /// Whether a time has passed. The set remembers one that has not, for [`Self::requeue_after`]. For a set without a time none
    /// has.
    pub fn has_passed(&self, moment: i64) -> bool {
        let Some(clock) = &self.clock else { return false };
        let passed = clock.now >= moment;
        if !passed {
            clock.next.fetch_min(moment, Ordering::Relaxed);
        }
        passed
    }

    /// In how many seconds to reconcile again: when the first of the remembered times passes. `None`: there is none.
    pub fn requeue_after(&self) -> Option<u64> {
        let clock = self.clock.as_ref()?;
        let next = clock.next.load(Ordering::Relaxed);
        (next != i64::MAX).then(|| next.saturating_sub(clock.now).unsigned_abs())
    }

    /// The object of a kind and name.
    pub fn get(&self, key: &super::ObjectKey) -> Option<&LiveObject> {
        self.named(key.kind, &key.name)
    }

    /// The object of a kind and name.
    pub fn named(&self, kind: &'static str, name: &str) -> Option<&LiveObject> {
        let index = self.objects.binary_search_by(|live| live.kind_and_name().cmp(&(kind, name))).ok()?;
        Some(&self.objects[index])
    }

    /// Each object.
    pub fn iter(&self) -> impl Iterator<Item = &LiveObject> {
        self.objects.iter().map(AsRef::as_ref)
    }

    /// Each object of a kind that belongs to a component.
    pub fn of_component<'a>(
        &'a self,
        kind: &'static str,
        component: &'a str,
    ) -> impl Iterator<Item = &'a LiveObject> + 'a {
        self.iter().filter(move |live| live.kind.key == kind && live.component == component)
    }

    /// Whether an object is a Job that runs: it has not ended, its pods are not refused, and the newest of them can start. One that
    /// has no pod yet runs, and so does one of which a pod is being stopped.
    pub fn is_running(&self, job: &LiveObject) -> bool {
        let on_its_way = matches!(&job.readiness, Readiness::Waiting(waiting) if waiting.reason == reason::PROGRESSING);
        if job.kind.kind != "Job" || !on_its_way {
            return false;
        }
        let stuck = |pod: &LiveObject| {
            pod.work == Work::Idle
                && matches!(&pod.readiness, Readiness::Waiting(waiting) if CANNOT_START.contains(&waiting.reason))
        };
        self.newest_pod(job).is_none_or(|pod| !stuck(pod)) || self.pods_of(job).any(|pod| pod.deleting)
    }

    /// The newest pod of a Job.
    pub fn newest_pod<'a>(&'a self, job: &'a LiveObject) -> Option<&'a LiveObject> {
        self.pods_of(job).max_by_key(|pod| pod.created)
    }

    fn pods_of<'a>(&'a self, job: &'a LiveObject) -> impl Iterator<Item = &'a LiveObject> {
        let pods = self.of_component("Pod", job.component);
        pods.filter(|pod| pod.owner.as_ref().is_some_and(|owner| *owner.uid == *job.uid))
    }

    /// What the pods of a component run of an image, with those pods. A pod that is being deleted does not count.
    fn running<'a>(
        &'a self,
        component: &'a str,
        image: &'a str,
    ) -> impl Iterator<Item = (&'a LiveObject, &'a Running)> {
        let pods = self.of_component("Pod", component).filter(|pod| !pod.deleting);
        let running = pods.filter_map(|pod| Some((pod, pod.running.as_deref()?)));
        running.filter(move |(_, running)| *running.image.name == *image)
    }

    /// The digests that the ready pods of a component run of an image. `None` among them: that of a node which has it from no
    /// registry.
    pub fn digests<'a>(&'a self, component: &'a str, image: &'a str) -> BTreeSet<Option<&'a str>> {
        let ready = self.running(component, image).filter(|(pod, _)| pod.readiness.is_ready());
        ready.map(|(_, running)| running.image.digest.as_deref()).collect()
    }

    /// When a pod of a component that runs an image was last started again, in seconds since 1970.
    pub fn restarted(&self, component: &str, image: &str) -> Option<i64> {
        self.running(component, image).filter_map(|(_, running)| running.restarted).max()
    }

    /// Puts an object in its place, instead of one of the same kind and name.
    pub fn put(&mut self, live: Arc<LiveObject>) {
        match self.objects.binary_search_by(|there| there.kind_and_name().cmp(&live.kind_and_name())) {
            Ok(index) => self.objects[index] = live,
            Err(index) => self.objects.insert(index, live),
        }
    }

    /// Takes the object of a kind and name out.
    pub fn take(&mut self, kind: &'static str, name: &str) {
        if let Ok(index) = self.objects.binary_search_by(|live| live.kind_and_name().cmp(&(kind, name))) {
            self.objects.remove(index);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

impl FromIterator<Arc<LiveObject>> for LiveSet {
    fn from_iter<I: IntoIterator<Item = Arc<LiveObject>>>(objects: I) -> Self {
        let mut set = Self::default();
        objects.into_iter().for_each(|live| set.put(live));
        set
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::objects::kind_of;

    fn migration(group: &str, kind: &str, metadata: &Value, status: &Value) -> Arc<LiveObject> {
        let labels = json!({"app.kubernetes.io/component": "migration", "app.kubernetes.io/instance": "shop"});
        let mut body = json!({"metadata": {"namespace": "default", "labels": labels}, "status": status});
        body["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        Arc::new(LiveObject::whole(kind_of(group, kind).expect("a kind"), body).expect("an object"))
    }

    fn waiting(reason: &str) -> Value {
        json!({"phase": "Pending", "containerStatuses": [{"name": "migrate", "state": {"waiting": {"reason": reason}}}]})
    }

    fn running() -> Value {
        json!({"phase": "Running", "containerStatuses": [{"name": "migrate", "state": {"running": {}}}]})
    }

    fn no_room() -> Value {
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]})
    }

    /// The migration runs, and the container beside it cannot.
    fn beside(reason: &str) -> Value {
        let mut status = running();
        status["initContainerStatuses"] = json!([{"name": "lock", "state": {"waiting": {"reason": reason}}}]);
        status
    }

    fn ended() -> Value {
        json!({"phase": "Failed", "containerStatuses": [{"name": "migrate", "state": {"terminated": {"exitCode": 1}}}]})
    }

    /// The condition of a Job; the statuses of its pods, the oldest first, and whether the first is being deleted.
    #[rstest]
    #[case::no_pod_yet(None, &[], false, true)]
    #[case::it_runs(None, &[running()], false, true)]
    #[case::its_pod_is_being_made(None, &[waiting("ContainerCreating")], false, true)]
    #[case::its_sidecar_ends_again_and_again(None, &[waiting("CrashLoopBackOff")], false, true)]
    #[case::between_two_attempts(None, &[ended()], false, true)]
    #[case::no_image(None, &[waiting("ImagePullBackOff")], false, false)]
    #[case::no_secret(None, &[waiting("CreateContainerConfigError")], false, false)]
    #[case::its_sidecar_has_no_image(None, &[beside("ImagePullBackOff")], false, true)]
    #[case::no_node(None, &[no_room()], false, false)]
    #[case::the_second_attempt_has_no_node(None, &[ended(), no_room()], false, false)]
    #[case::the_first_attempt_is_being_stopped(None, &[running(), no_room()], true, true)]
    #[case::complete(Some("Complete"), &[running()], false, false)]
    #[case::failed(Some("Failed"), &[], false, false)]
    fn a_job_runs_until_it_has_ended_unless_its_pod_cannot_start(
        #[case] condition: Option<&str>,
        #[case] pods: &[Value],
        #[case] deleting: bool,
        #[case] runs: bool,
    ) {
        let conditions: Vec<_> = condition.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        let job = migration("batch", "Job", &json!({"name": "m", "uid": "m"}), &json!({"conditions": conditions}));
        let owner =
            |uid| json!([{"apiVersion": "batch/v1", "kind": "Job", "name": uid, "uid": uid, "controller": true}]);
        let pod = |(index, status): (usize, &Value)| {
            let mut metadata = json!({"name": index.to_string(), "uid": index.to_string(), "ownerReferences": owner("m"),
                "creationTimestamp": format!("2026-11-24T02:15:0{index}Z")});
            if deleting && index == 0 {
                metadata["deletionTimestamp"] = json!("2026-11-24T02:16:00Z");
            }
            migration("", "Pod", &metadata, status)
        };
        // The pod of another Job says nothing of this one.
        let other = json!({"name": "9", "uid": "9", "ownerReferences": owner("n"), "creationTimestamp": "2026-11-24T03:00:00Z"});
        let pods = pods.iter().enumerate().map(pod).chain([migration("", "Pod", &other, &no_room())]);
        let live: LiveSet = pods.chain([job.clone()]).collect();
        assert_eq!(live.is_running(&job), runs);
    }

    #[test]
    fn the_first_moment_to_come_is_remembered() {
        let set = LiveSet::default();
        assert!(!set.has_passed(0), "without a moment nothing has passed");
        assert_eq!(set.requeue_after(), None);
        let set = set.at(100);
        assert!(set.has_passed(100));
        assert_eq!(set.requeue_after(), None, "what has passed next nothing");
        assert!(!set.has_passed(160) && !set.has_passed(130) && !set.has_passed(190));
        assert_eq!(set.requeue_after(), Some(30));
        assert_eq!(set.clone().at(150).requeue_after(), None, "another moment, and nothing was asked for");
    }
}
