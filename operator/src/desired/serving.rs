//! Whether a stateless service serves: the fewest desired pods are ready, and all have the current template. Pods beyond that are
//! the autoscaler's, and a pod that moves to another node is no rollout.

use super::{Keys, readiness_after, worst_pod};
use crate::{
    names::{Waiting, reason},
    objects::{LiveSet, ObjectKey, Pods, Readiness, pods_refused},
    stack::{Replicas, Stack, Workload},
};

/// The kubelet asks a pod that has started every 5 seconds.
const ASKED_TWICE: i64 = 10;
/// How long an autoscaler may be without metrics, in seconds: those of new pods come only after a while.
const METRICS_WITHIN: i64 = 120;

/// Whether it serves, and as the spec asks for.
pub(super) fn readiness(stack: &Stack, workload: &Workload, objects: &mut Keys<'_>, live: &LiveSet) -> Readiness {
    let (component, key) = (workload.component, key(stack, workload));
    let there = live.get(&key).filter(|there| !there.deleting);
    let pods = there.and_then(|there| there.pods);
    if !stack.has_no_pods() && pods.is_some_and(|pods| is_off(workload, pods)) {
        return Readiness::waiting(
            reason::SCALED_TO_ZERO,
            format!(
                "{key} was scaled to 0 by hand, which switches its autoscaler off: kubectl scale {key} --replicas={}",
                workload.replicas.floor()
            ),
        );
    }
    let start_up = i64::from(workload.health.startup_seconds).max(ASKED_TWICE);
    let whole = readiness_after(start_up, component, objects, live);
    let (Readiness::Ready, Some(pods)) = (&whole, pods) else { return whole };
    let floor = if stack.has_no_pods() { 0 } else { workload.replicas.floor() };
    if pods.ready >= floor {
        return Readiness::Ready;
    }
    let refused = there.and_then(|there| there.note.as_deref()).map(|said| pods_refused(&key, said));
    let few = || Waiting::new(reason::PROGRESSING, format!("{key}: {} of {floor} pods ready", pods.ready));
    Readiness::Waiting(refused.or_else(|| worst_pod(component, start_up, live)).unwrap_or_else(few))
}

/// What there is to know though it serves: that there are no pods on purpose, what keeps pods beyond the fewest from serving,
/// and that its autoscaler does nothing.
pub(super) fn note(stack: &Stack, workload: &Workload, live: &LiveSet) -> Option<String> {
    let key = key(stack, workload);
    if workload.replicas == Replicas::Fixed(0) {
        return Some(format!("{key} has no pods: spec.{}.replicas is 0", workload.component));
    }
    let there = live.get(&key)?;
    let missing = there.pods.filter(|pods| pods.ready < pods.wanted);
    let degraded = missing.and_then(|pods| {
        let refused = there.note.as_deref().map(|said| pods_refused(&key, said));
        let start_up = i64::from(workload.health.startup_seconds).max(ASKED_TWICE);
        let why = refused.or_else(|| worst_pod(workload.component, start_up, live))?;
        Some(format!("{} of {} pods ready: {}", pods.ready, pods.wanted, why.message))
    });
    degraded.or_else(|| without_metrics(&key.name, live))
}

fn without_metrics(name: &str, live: &LiveSet) -> Option<String> {
    let autoscaler = live.named("HorizontalPodAutoscaler", name)?;
    let said = autoscaler.note.as_deref()?;
    let long = autoscaler.since.is_none_or(|since| live.has_passed(since + METRICS_WITHIN));
    long.then(|| format!("horizontalpodautoscaler/{name} does not scale: {said}"))
}

/// Whether a user scaled to 0 what an autoscaler scales: the autoscaler then ignores the workload.
fn is_off(workload: &Workload, pods: Pods) -> bool {
    matches!(workload.replicas, Replicas::Auto { .. }) && pods.wanted == 0
}

fn key(stack: &Stack, workload: &Workload) -> ObjectKey {
    ObjectKey { kind: "Deployment", name: stack.child(workload.component) }
}
