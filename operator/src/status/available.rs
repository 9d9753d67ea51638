//! Whether the minimum of pods serves, whatever an autoscaler or a rollout does, and whether they are of the current spec.

use super::{Report, RootCause, conditions::Fact, hibernation, root_cause::advice};
use crate::{
    names::{Component, reason},
    objects::{Pods, Readiness},
    stack::{Replicas, Stack},
};

/// The condition `Available`.
pub(super) fn fact(report: &Report<'_>, cause: Option<&RootCause>) -> Fact {
    let Some((reason, message)) = lacking(report, cause) else {
        let message = "the fewest pods that are wanted of each workload serve".to_owned();
        return Fact { kind: "Available", status: "True", reason: reason::READY, message };
    };
    Fact { kind: "Available", status: "False", reason, message }
}

/// The first component that has too few pods; a component without pods on purpose only if there is no other.
fn lacking(report: &Report<'_>, cause: Option<&RootCause>) -> Option<(reason::Reason, String)> {
    if let Some(cause) = report.stack.hibernation.cause.filter(|_| report.stack.asleep) {
        return Some((reason::HIBERNATED, hibernation::message(report, cause)));
    }
    if let Some(current) = report.restores.current.as_ref().filter(|_| report.stack.stopped) {
        let message = format!("{}: {}", current.request.subject(), current.waiting.message);
        return Some((current.waiting.reason, message));
    }
    let short = report.readiness.iter().filter_map(|(component, readiness)| {
        let floor = floor(report.stack, *component)?;
        let ready = pods(report, *component).map_or(0, |pods| pods.ready);
        (ready < floor).then_some((*component, readiness, ready, floor))
    });
    let short: Vec<_> = short.collect();
    let at_fault = short.iter().find(|(component, ..)| cause.is_some_and(|cause| cause.component == *component));
    if let Some((component, readiness, ready, floor)) = at_fault.or(short.first()) {
        return Some(match (cause, readiness) {
            (Some(cause), _) if cause.component == *component || is_held(readiness) => {
                (cause.reason, cause.message.clone())
            }
            (_, Readiness::Waiting(waiting)) => {
                let advice = advice(waiting.reason).map(|advice| format!(": {advice}")).unwrap_or_default();
                (waiting.reason, format!("{component}: {}{advice}", waiting.message))
            }
            (_, Readiness::Ready) => (reason::PROGRESSING, format!("{component}: {ready} of {floor} pods ready")),
        });
    }
    let (component, _) = report.readiness.iter().find(|(component, _)| empty(report.stack, *component).is_some())?;
    Some((reason::SCALED_TO_ZERO, format!("{component} has no pods: spec.{component}.replicas is 0")))
}

/// Whether it waits for another component, of which the root cause says more.
fn is_held(readiness: &Readiness) -> bool {
    matches!(readiness, Readiness::Waiting(waiting) if waiting.reason == reason::DEPENDENCY_NOT_READY)
}

/// The fewest pods of a component at any time. `None`: it has none of its own.
fn floor(stack: &Stack, component: Component) -> Option<i32> {
    let workload = stack.workload(component).map(|workload| workload.replicas.floor());
    workload.or_else(|| stack.server(component).map(|_| 1))
}

/// Why a component has no pods on purpose. `None`: it has pods, or has none of its own.
pub(super) fn empty(stack: &Stack, component: Component) -> Option<reason::Reason> {
    let workload = stack.workload(component);
    if stack.asleep && (workload.is_some() || stack.server(component).is_some()) {
        return Some(reason::HIBERNATED);
    }
    workload.filter(|workload| workload.replicas == Replicas::Fixed(0)).map(|_| reason::SCALED_TO_ZERO)
}

/// Whether the pods of a component are yet to be what the spec asks for: they are being created, or replaced.
pub(super) fn rolls_out(report: &Report<'_>, component: Component) -> bool {
    floor(report.stack, component).is_some()
        && (report.begun.contains_key(&component) || pods(report, component).is_none_or(|pods| !pods.current))
}

pub(super) fn pods(report: &Report<'_>, component: Component) -> Option<Pods> {
    let name = report.stack.child(component);
    ["Deployment", "StatefulSet"].into_iter().find_map(|kind| report.live.named(kind, &name)?.pods)
}
