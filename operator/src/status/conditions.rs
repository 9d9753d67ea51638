//! Conditions as the Kubernetes API conventions and kstatus want them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{NEEDS_THE_USER, Report, RootCause, note, root_cause::harmless};
use crate::{
    names::{Component, Waiting, reason, reason::Reason},
    objects::Readiness,
};

/// A condition without its times.
pub(super) struct Fact {
    kind: &'static str,
    status: &'static str,
    reason: Reason,
    message: String,
}

/// The longest message that is worth reading; the limit of the API is 32768.
const MESSAGE_MAX: usize = 1024;

/// Every condition of a report.
pub(super) fn facts(report: &Report<'_>, cause: Option<&RootCause>, backup: Option<&(Reason, String)>) -> Vec<Fact> {
    let mut facts: Vec<Fact> = report
        .readiness
        .iter()
        .map(|(component, readiness)| match (readiness, backup.filter(|_| *component == Component::Backup)) {
            (Readiness::Ready, Some((reason, message))) => {
                Fact { kind: component.condition(), status: "True", reason, message: message.clone() }
            }
            (Readiness::Ready, None) => Fact {
                kind: component.condition(),
                status: "True",
                reason: reason::READY,
                message: note(report.stack, *component).unwrap_or_default().to_owned(),
            },
            (Readiness::Waiting(waiting), also) => Fact {
                kind: component.condition(),
                status: if waiting.reason == reason::NO_BACKUP_YET { "Unknown" } else { "False" },
                reason: waiting.reason,
                message: also
                    .map_or_else(|| waiting.message.clone(), |(_, also)| format!("{}; {also}", waiting.message)),
            },
        })
        .collect();
    facts.extend(overall(report, cause));
    facts
}

fn overall(report: &Report<'_>, cause: Option<&RootCause>) -> Vec<Fact> {
    let mut facts = Vec::new();
    if report.stack.suspend {
        let message = "spec.suspend is true: the operator watches and changes nothing".to_owned();
        facts.push(Fact { kind: "Suspended", status: "True", reason: reason::SUSPENDED, message });
    }
    let Some(cause) = cause else {
        facts.push(Fact { kind: "Ready", status: "True", reason: reason::READY, message: all_is_well(report) });
        return facts;
    };
    let fact = |kind, status| Fact { kind, status, reason: cause.reason, message: cause.message.clone() };
    // The first time there is nothing to judge yet.
    let first = report.old.is_none() && cause.reason == reason::PROGRESSING;
    facts.push(fact("Ready", if first { "Unknown" } else { "False" }));
    // Reconciling and Stalled are there only while true, so that kstatus reads them right.
    if NEEDS_THE_USER.contains(&cause.reason) {
        facts.push(fact("Stalled", "True"));
    } else if !report.stack.suspend {
        facts.push(fact("Reconciling", "True"));
    }
    facts
}

/// What is left to say of a stack that is kept from going on.
pub(super) fn stopped(waiting: &Waiting) -> Vec<Fact> {
    let fact = |kind, status| Fact { kind, status, reason: waiting.reason, message: waiting.message.clone() };
    let also = if NEEDS_THE_USER.contains(&waiting.reason) { "Stalled" } else { "Reconciling" };
    vec![fact("Ready", "False"), fact(also, "True")]
}

fn all_is_well(report: &Report<'_>) -> String {
    let trouble = report.readiness.iter().find_map(|(component, readiness)| match readiness {
        Readiness::Waiting(waiting) if harmless(waiting.reason) && waiting.reason != reason::NO_BACKUP_YET => {
            Some(format!("; {component}: {}", waiting.message))
        }
        _ => None,
    });
    format!("everything that the spec asks for serves{}", trouble.unwrap_or_default())
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
