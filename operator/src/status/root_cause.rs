//! The one sentence that tells what to look at.

use crate::{
    names::{Component, reason, reason::Reason},
    objects::Readiness,
};

/// Why a stack is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootCause {
    /// The component at fault.
    pub component: Component,
    /// The reason of its condition.
    pub reason: Reason,
    /// The sentence: what is wrong, with which object, and what to do.
    pub message: String,
}

/// The first component that waits for something of its own; a backup that failed, or has not run yet, does not make a stack
/// unready.
pub fn root_cause(readiness: &[(Component, Readiness)]) -> Option<RootCause> {
    let waiting = readiness.iter().filter_map(|(component, readiness)| match readiness {
        Readiness::Waiting(waiting) if !harmless(waiting.reason) => Some((*component, waiting)),
        _ => None,
    });
    let (own, dependent): (Vec<_>, Vec<_>) =
        waiting.partition(|(_, waiting)| waiting.reason != reason::DEPENDENCY_NOT_READY);
    // What somebody must mend tells more than what is on its way.
    let (component, waiting) =
        own.iter().find(|(_, waiting)| waiting.reason != reason::PROGRESSING).or(own.first()).or(dependent.first())?;
    let affected: Vec<_> = dependent.iter().map(|(component, _)| component.as_str()).collect();
    let mut message = format!("{component}: {}", waiting.message);
    if let Some(advice) = advice(waiting.reason) {
        message.push_str(": ");
        message.push_str(advice);
    }
    if component.is_waited_for() && !affected.is_empty() {
        let verb = if affected.len() == 1 { "waits" } else { "wait" };
        message = format!("{message} ({} {verb} for it)", affected.join(", "));
    }
    Some(RootCause { component: *component, reason: waiting.reason, message })
}

/// Whether a reason leaves the stack ready.
pub(super) fn harmless(reason: Reason) -> bool {
    matches!(reason, reason::BACKUP_FAILED | reason::NO_BACKUP_YET | reason::NOT_PROBED)
}

/// What to do, where the message itself does not say it.
fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        reason::IMAGE_PULL_FAILED => {
            Some("check the image's name and tag, spec.image.registry and spec.image.pullSecrets")
        }
        reason::UNSCHEDULABLE => {
            Some("add or free a node, or change the resources, scheduling or storage of the component")
        }
        reason::CRASH_LOOP => Some("read its log with kubectl logs --previous"),
        reason::NOT_HEALTHY => Some("read its log with kubectl logs"),
        reason::ROLLOUT_STUCK => Some("look at its pods with kubectl describe"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_at_fault_is_named_with_those_that_wait_for_it() {
        let readiness = [
            (Component::Database, Readiness::waiting(reason::PROGRESSING, "statefulset/s-database: 0 of 1 pods ready")),
            (
                Component::Redis,
                Readiness::waiting(reason::IMAGE_PULL_FAILED, "pod/s-redis-0, container redis: not found"),
            ),
            (Component::Ocr, Readiness::waiting(reason::DEPENDENCY_NOT_READY, "ocr waits for database")),
            (Component::Api, Readiness::waiting(reason::DEPENDENCY_NOT_READY, "api waits for database")),
        ];
        let cause = root_cause(&readiness).unwrap();
        assert_eq!(cause.component, Component::Redis);
        insta::assert_snapshot!(cause.message, @"redis: pod/s-redis-0, container redis: not found: check the image's name and tag, spec.image.registry and spec.image.pullSecrets (ocr, api wait for it)");
    }

    #[test]
    fn nobody_is_said_to_wait_for_what_nobody_waits_for() {
        let readiness = [
            (Component::Api, Readiness::waiting(reason::DEPENDENCY_NOT_READY, "api waits for database")),
            (Component::Ingress, Readiness::waiting(reason::CERTIFICATE_MISSING, "secret/tls does not exist")),
        ];
        let cause = root_cause(&readiness).unwrap();
        assert_eq!(cause.message, "ingress: secret/tls does not exist");
    }

    #[test]
    fn a_failed_backup_leaves_the_stack_ready() {
        let readiness = [(Component::Backup, Readiness::waiting(reason::BACKUP_FAILED, "job/x failed"))];
        assert_eq!(root_cause(&readiness), None);
    }
}
