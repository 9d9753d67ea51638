//! The root cause in one sentence, with the object to inspect.

use crate::{
    names::{Component, Waiting, reason, reason::Reason},
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

/// The first component that waits for something of its own; what the application serves without does not make a stack unready.
pub fn root_cause(readiness: &[(Component, Readiness)]) -> Option<RootCause> {
    let waiting = readiness.iter().filter_map(|(component, readiness)| match readiness {
        Readiness::Waiting(waiting) => Some((*component, waiting)),
        Readiness::Ready => None,
    });
    let (mut own, dependent): (Vec<_>, Vec<_>) =
        waiting.partition(|(_, waiting)| waiting.reason != reason::DEPENDENCY_NOT_READY);
    own.retain(|(component, waiting)| !is_forgiven(*component, waiting.reason));
    // A problem that a user must mend says more than progress; and progress says more than a certificate, which is
    // issued once the rest is there.
    let on_its_way = |(_, waiting): &&(_, &Waiting)| waiting.reason == reason::PROGRESSING;
    let to_mend =
        |(_, waiting): &&(_, &Waiting)| !matches!(waiting.reason, reason::PROGRESSING | reason::CERTIFICATE_MISSING);
    let found = own.iter().find(to_mend).or_else(|| own.iter().find(on_its_way)).or(own.first());
    let (component, waiting) =
        found.or_else(|| dependent.iter().find(|(component, waiting)| !is_forgiven(*component, waiting.reason)))?;
    let affected: Vec<_> = dependent.iter().map(|(component, _)| component.as_str()).collect();
    // A release is none of the components.
    let release = [
        reason::AWAITING_APPROVAL,
        reason::BACKING_UP,
        reason::RECOVERY_POINT_FAILED,
        reason::MIGRATING,
        reason::MIGRATION_LOCKED,
        reason::MIGRATION_FAILED,
        reason::TESTING,
        reason::SMOKE_TEST_FAILED,
        reason::VERIFYING,
        reason::ROLLED_BACK,
    ];
    let mut message = match waiting.reason {
        reason if release.contains(&reason) => waiting.message.clone(),
        _ => format!("{component}: {}", waiting.message),
    };
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

/// Whether the stack is ready also without the component: the application serves without its backups, wherever they go, and
/// whether or not its metrics are collected, whatever rules its bucket has, and whatever becomes of a sanitized point; what a Job found out
/// is told by the service itself; and a service that is not asked may well serve.
pub(super) fn is_forgiven(component: Component, reason: Reason) -> bool {
    use Component::{Backup, BucketRules, Drill, Monitoring, Preflight, Sanitize};
    let silent = [Backup, Drill, Monitoring, BucketRules, Preflight, Sanitize];
    let beside = component == Component::Restore && reason == reason::RESTORING;
    silent.contains(&component) || beside || reason == reason::NOT_PROBED
}

/// What to do, where the message itself does not say it.
pub(super) fn advice(reason: Reason) -> Option<&'static str> {
    match reason {
        reason::IMAGE_PULL_FAILED => {
            Some("check the image's name and tag, spec.image.registry and spec.image.pullSecrets")
        }
        reason::UNSCHEDULABLE => {
            Some("add or free a node, or change the resources, scheduling or storage of the component")
        }
        reason::CRASH_LOOP => Some("read its log with kubectl logs --previous"),
        reason::NOT_HEALTHY => Some("read its log with kubectl logs"),
        reason::PODS_REFUSED => Some("raise the ResourceQuota, set resources, or change what the message names"),
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
    fn a_backup_leaves_the_stack_ready_whatever_it_waits_for() {
        for reason in [reason::BACKUP_FAILED, reason::UNREACHABLE, reason::ACCESS_DENIED, reason::REFERENCE_MISSING] {
            let readiness = [(Component::Backup, Readiness::waiting(reason, "the destination"))];
            assert_eq!(root_cause(&readiness), None, "{reason}");
            // Not by the reason: another component may have the same.
            let readiness = [(Component::Bucket, Readiness::waiting(reason, "the bucket"))];
            assert_eq!(root_cause(&readiness).map(|cause| cause.reason), Some(reason));
        }
    }

    #[test]
    fn an_application_that_is_not_scraped_serves() {
        for reason in [reason::MISSING_API, reason::FORBIDDEN, reason::NAME_TAKEN, reason::PROGRESSING] {
            let readiness = [(Component::Monitoring, Readiness::waiting(reason, "the monitor"))];
            assert_eq!(root_cause(&readiness), None, "{reason}");
        }
        // A service that lacks its API does not.
        let readiness = [(Component::Database, Readiness::waiting(reason::MISSING_API, "the cluster"))];
        assert_eq!(root_cause(&readiness).map(|cause| cause.reason), Some(reason::MISSING_API));
    }

    #[test]
    fn a_certificate_is_told_once_nothing_else_is_on_its_way() {
        let certificate = (Component::Ingress, Readiness::waiting(reason::CERTIFICATE_MISSING, "secret/tls"));
        let database = (Component::Database, Readiness::waiting(reason::PROGRESSING, "statefulset/s-database"));
        let both = [database, certificate.clone()];
        assert_eq!(root_cause(&both).unwrap().reason, reason::PROGRESSING);
        assert_eq!(root_cause(&[certificate]).unwrap().reason, reason::CERTIFICATE_MISSING);
    }
}
