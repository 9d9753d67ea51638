//! Conditions as the Kubernetes API conventions and kstatus want them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    NEEDS_THE_USER, Report, RootCause, available, commands, hibernation, note, release,
    root_cause::{advice, is_forgiven},
};
use crate::{
    names::{Component, Waiting, reason, reason::Reason},
    objects::Readiness,
    plan::release::State,
    stack::Excuse,
};

/// A condition without its times.
pub(super) struct Fact {
    pub(super) kind: &'static str,
    pub(super) status: &'static str,
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// The longest message that is worth reading; the limit of the API is 32768.
const MESSAGE_MAX: usize = 1024;

/// Every condition of a report.
pub(super) fn facts(
    report: &Report<'_>,
    cause: Option<&RootCause>,
    [backup, drill]: [Option<&(Reason, String)>; 2],
) -> Vec<Fact> {
    let also = |component| match component {
        Component::Backup => backup,
        Component::Drill => drill,
        _ => None,
    };
    let mut facts: Vec<Fact> = report
        .readiness
        .iter()
        .map(|(component, readiness)| match (readiness, also(*component)) {
            (Readiness::Ready, Some((reason, message))) => {
                Fact { kind: component.condition(), status: "True", reason, message: message.clone() }
            }
            (Readiness::Ready, None) => Fact {
                kind: component.condition(),
                status: "True",
                reason: available::empty(report.stack, *component)
                    .or_else(|| report.stack.findings(*component).first().map(|finding| finding.reason))
                    .unwrap_or(reason::READY),
                message: note(report, *component).unwrap_or_default(),
            },
            (Readiness::Waiting(waiting), also) => Fact {
                kind: component.condition(),
                status: if is_unknown(waiting.reason) { "Unknown" } else { "False" },
                reason: waiting.reason,
                message: also
                    .map_or_else(|| waiting.message.clone(), |(_, also)| format!("{}; {also}", waiting.message)),
            },
        })
        .collect();
    facts.extend(seeded(report));
    facts.extend(overall(report, cause));
    facts
}

/// What the database began with, of a stack that names a point for it. While it is being filled `RestoreComplete` tells how far.
fn seeded(report: &Report<'_>) -> Option<Fact> {
    let (status, reason, message) = match report.stack.seed.as_ref()?.seeded.as_ref()? {
        Ok(point) => ("True", reason::COMPLETE, format!("the database began with recovery point {point}")),
        Err(found) => {
            ("False", reason::DATA_FOUND, format!("the data that were there are kept, and nothing was filled: {found}"))
        }
    };
    Some(Fact { kind: "Seeded", status, reason, message })
}

/// A condition that nobody can decide is neither true nor false.
fn is_unknown(reason: Reason) -> bool {
    matches!(reason, reason::NO_BACKUP_YET | reason::NO_DRILL_YET | reason::NO_IDENTITY | reason::NOT_PROBED)
}

fn overall(report: &Report<'_>, cause: Option<&RootCause>) -> Vec<Fact> {
    let cause = cause.map(|cause| excused(report, cause));
    let mut facts = vec![available::fact(report, cause.as_ref())];
    if report.stack.suspend {
        let message = "spec.suspend is true: the operator watches and changes nothing".to_owned();
        facts.push(Fact { kind: "Suspended", status: "True", reason: reason::SUSPENDED, message });
    }
    facts.extend(hibernation::facts(report));
    let Some(cause) = cause.or_else(|| release::unserved(report)) else {
        let empty = report.readiness.iter().find_map(|(component, _)| available::empty(report.stack, *component));
        let reason = empty.unwrap_or(reason::READY);
        facts.push(Fact { kind: "Ready", status: "True", reason, message: all_is_well(report) });
        return facts;
    };
    let fact = |kind, status| Fact { kind, status, reason: cause.reason, message: cause.message.clone() };
    // The first reconcile has nothing to judge yet.
    let first = report.old.is_none() && cause.reason == reason::PROGRESSING;
    let mut ready = fact("Ready", if first { "Unknown" } else { "False" });
    if let Some(note) = release::approver_unknown(report).filter(|_| report.release.state != State::Serving) {
        ready.message = format!("{}; {note}", ready.message);
    }
    facts.push(ready);
    // Reconciling and Stalled are there only while true, so that kstatus reads them right.
    if NEEDS_THE_USER.contains(&cause.reason) || is_stuck(report) {
        facts.push(fact("Stalled", "True"));
    } else if !report.stack.suspend && !release::awaits(report, &cause) && is_carried_out(report) {
        facts.push(fact("Reconciling", "True"));
    }
    facts
}

/// What is told of a Deployment that has passed its own deadline, which knows nothing of what else is down. Of a release that the plan
/// gives up when its time is over that is what its clock stands for, or that it goes on.
fn excused(report: &Report<'_>, cause: &RootCause) -> RootCause {
    if cause.reason != reason::ROLLOUT_STUCK || !report.release.is_timed() {
        return cause.clone();
    }
    let Some(Excuse { component, waiting }) = &report.release.excuse else {
        let reason = if gives_up(report) { reason::PROGRESSING } else { cause.reason };
        return RootCause { reason, ..cause.clone() };
    };
    // Of several workloads that roll out it may be another one that the cause is about, or a service that they need.
    let component = component.unwrap_or(cause.component);
    let advice = advice(waiting.reason).map(|advice| format!(": {advice}")).unwrap_or_default();
    RootCause { component, reason: waiting.reason, message: format!("{component}: {}{advice}", waiting.message) }
}

/// Whether the plan gives a release up when its time is over. Of a suspended stack it does not, so what a Deployment says is all that tells.
fn gives_up(report: &Report<'_>) -> bool {
    report.release.is_timed() && !report.stack.suspend
}

/// Whether a rollout has passed its deadline, whatever its pods say. Of a release with one to go back to the plan says so: its clock stands
/// while something else is at fault, and then it is rolled back.
fn is_stuck(report: &Report<'_>) -> bool {
    if gives_up(report) || (report.release.is_timed() && report.release.excuse.is_some()) {
        return false;
    }
    let stuck = |waiting: &Waiting| waiting.reason == reason::ROLLOUT_STUCK;
    report.live.iter().any(|there| matches!(&there.readiness, Readiness::Waiting(waiting) if stuck(waiting)))
}

/// Whether the operator carries out a change that is not ready yet: of the spec, of a Secret, of a release, or of objects that
/// were deleted and are created again. It goes on until the stack is ready. A pod that moves later, or a service that is down, is no
/// change.
fn is_carried_out(report: &Report<'_>) -> bool {
    let Some(old) = &report.old else { return true };
    let goes_on = |condition: &Condition| matches!(condition.type_.as_str(), "Reconciling" | "Stalled");
    let rolls_out = |component| available::rolls_out(report, component);
    report.release.state.has_begun()
        || old.observed_generation != report.cr.metadata.generation
        || old.conditions.iter().any(goes_on)
        || report.readiness.iter().any(|(component, _)| rolls_out(*component))
}

/// The conditions of a stack that cannot be reconciled. Pods that serve go on serving.
pub(super) fn stopped(old: &[Condition], waiting: &Waiting) -> Vec<Fact> {
    let fact = |kind, status| Fact { kind, status, reason: waiting.reason, message: waiting.message.clone() };
    let also = if NEEDS_THE_USER.contains(&waiting.reason) { "Stalled" } else { "Reconciling" };
    let served = old.iter().any(|condition| condition.type_ == "Available" && condition.status == "True");
    let available = Fact { reason: reason::READY, message: String::new(), ..fact("Available", "True") };
    let available = if served { available } else { fact("Available", "False") };
    vec![available, fact("Ready", "False"), fact(also, "True")]
}

fn all_is_well(report: &Report<'_>) -> String {
    if let Some(cause) = report.stack.hibernation.cause.filter(|_| report.stack.asleep) {
        return hibernation::message(report, cause);
    }
    let quiet = |reason| {
        let soon = matches!(reason, reason::NO_BACKUP_YET | reason::NO_DRILL_YET | reason::NO_IDENTITY);
        soon || matches!(reason, reason::PROGRESSING | reason::DEPENDENCY_NOT_READY)
    };
    let trouble = report.readiness.iter().find_map(|(component, readiness)| match readiness {
        Readiness::Waiting(waiting) if is_forgiven(*component, waiting.reason) && !quiet(waiting.reason) => {
            Some(format!("; {component}: {}", waiting.message))
        }
        _ => None,
    });
    let empty = report.readiness.iter().find(|(component, _)| available::empty(report.stack, *component).is_some());
    let empty = empty.and_then(|(component, _)| note(report, *component)).map(|note| format!("; {note}"));
    let (empty, trouble) = (empty.unwrap_or_default(), trouble.unwrap_or_default());
    let mut message = format!("everything that the spec asks for serves{empty}{trouble}");
    if let Some(finding) = report.stack.findings(Component::Database).first() {
        message = format!("{message}; {}: {}", Component::Database, finding.message);
    }
    for note in commands::without_effect(report).into_iter().chain(release::approver_unknown(report)) {
        message.push_str("; ");
        message.push_str(&note);
    }
    message
}

/// Sorted by type; a time moves only when the status of its condition does.
pub(super) fn merge(old: &[Condition], facts: Vec<Fact>, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let mut conditions: Vec<Condition> = facts
        .into_iter()
        .map(|fact| {
            let before = old.iter().find(|condition| condition.type_ == fact.kind && condition.status == fact.status);
            Condition {
                last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
                message: shorten(fact.message),
                observed_generation: generation,
                reason: fact.reason.to_owned(),
                status: fact.status.to_owned(),
                type_: fact.kind.to_owned(),
            }
        })
        .collect();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

fn shorten(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|index| message.is_char_boundary(*index)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}
