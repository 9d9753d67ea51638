//! What an answer of the API server means for the user.

use kube::{Error, core::Status};

use super::{Outcome, writer::WriteError};
use crate::{
    names::{Waiting, reason},
    objects::{ObjectKey, ObjectKind, kind_with_key},
};

/// The outcome of a write that failed.
pub(super) fn outcome(key: &ObjectKey, error: &WriteError) -> Outcome {
    let error = match error {
        WriteError::NotPermitted => return Outcome::Again,
        WriteError::TimedOut => return refused(reason::APPLY_FAILED, format!("{key} could not be written: {error}")),
        WriteError::Request(error) => error,
    };
    let Error::Api(status) = error else {
        return refused(reason::APPLY_FAILED, format!("{key} could not be written: {error}"));
    };
    match status.code {
        409 => Outcome::Again,
        // Not the object, which an apply makes: the kind, which is gone, or 405 while its definition is being deleted.
        404 | 405 if let Some(kind) = of_another_project(key) => refused(
            reason::MISSING_API,
            format!("{key} cannot be written: the cluster no longer serves {}", kind.resource()),
        ),
        403 if status.message.contains("exceeded quota") => refused(
            reason::APPLY_REFUSED,
            format!("{key} was refused: {}: raise the ResourceQuota or lower requests", status.message),
        ),
        // Of the namespace, in the words of the admission plugin NamespaceLifecycle.
        403 if status.message.contains("because it is being terminated") => {
            Outcome::NamespaceTerminating(Waiting::new(
                reason::TERMINATING,
                format!("{key} cannot be made: its namespace is being deleted, and the stack with it"),
            ))
        }
        // Admission refuses with the same code as a lack of rights, which the API server describes in these words.
        403 if !(status.message.contains("User \"") && status.message.contains("\" cannot ")) => {
            refused(reason::APPLY_REFUSED, format!("the API server refused {key}: {}", words(status)))
        }
        403 => refused(
            reason::FORBIDDEN,
            format!("the operator may not write {key}: {}: check its RBAC (rorun-operator rbac)", status.message),
        ),
        400 | 422 => refused(reason::APPLY_REFUSED, format!("the API server refused {key}: {}", words(status))),
        // Two items of one key in a list: a mistake in the object, although the code is that of a failure of the server.
        500 if status.message.contains("failed to create typed patch object") => {
            refused(reason::APPLY_REFUSED, format!("the API server refused {key}: {}", words(status)))
        }
        _ => refused(reason::APPLY_FAILED, format!("{key} could not be written: {} ({})", status.message, status.code)),
    }
}

fn of_another_project(key: &ObjectKey) -> Option<&'static ObjectKind> {
    kind_with_key(key.kind).filter(|kind| !kind.is_core())
}

/// What the API server says, without the differences between the two objects that it prints below some refusals of a volume.
fn words(status: &Status) -> &str {
    status.message.split("\n@@ ").next().unwrap_or_default()
}

fn refused(reason: reason::Reason, message: String) -> Outcome {
    Outcome::Refused(Waiting::new(reason, message))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::objects::SERVICE_MONITOR;

    #[rstest]
    #[case(
        r#"services "a" is forbidden: User "u" cannot patch resource "services" in API group "" in the namespace "n""#,
        reason::FORBIDDEN
    )]
    #[case(
        r#"services "a" is forbidden: unable to create new content in namespace n because it is being terminated"#,
        reason::TERMINATING
    )]
    #[case(r#"services "a" is forbidden: exceeded quota: full, requested: services=1"#, reason::APPLY_REFUSED)]
    #[case(r#"pods "a" is forbidden: maximum memory usage per Container is 1Gi"#, reason::APPLY_REFUSED)]
    #[case(r#"admission webhook "w.example.com" denied the request: no"#, reason::APPLY_REFUSED)]
    fn a_lack_of_rights_is_not_a_refusal_of_admission(#[case] message: &str, #[case] expected: &str) {
        let status = json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": message});
        let error = Error::Api(serde_json::from_value(status).unwrap());
        let key = ObjectKey { kind: "Service", name: "a".to_owned() };
        let (Outcome::Refused(waiting) | Outcome::NamespaceTerminating(waiting)) =
            outcome(&key, &WriteError::Request(error))
        else {
            panic!("not refused")
        };
        assert_eq!(waiting.reason, expected);
        assert!(waiting.message.contains("service/a"), "{}", waiting.message);
    }

    #[rstest]
    #[case(404, "the server could not find the requested resource")]
    #[case(405, "create not allowed while custom resource definition is terminating")]
    fn a_kind_of_another_project_that_is_gone_is_a_missing_api(#[case] code: u16, #[case] message: &str) {
        let refusal = |kind| {
            let status = json!({"status": "Failure", "code": code, "message": message});
            let error = WriteError::Request(Error::Api(serde_json::from_value(status).unwrap()));
            match outcome(&ObjectKey { kind, name: "a".to_owned() }, &error) {
                Outcome::Refused(waiting) => waiting,
                other => panic!("{other:?}"),
            }
        };
        let waiting = refusal(SERVICE_MONITOR.key);
        assert_eq!(waiting.reason, reason::MISSING_API);
        assert!(waiting.message.starts_with("servicemonitor.monitoring.coreos.com/a "), "{}", waiting.message);
        assert_eq!(refusal("Service").reason, reason::APPLY_FAILED);
    }

    #[rstest]
    #[case(422, "spec.x is invalid", reason::APPLY_REFUSED)]
    #[case(422, "spec: Forbidden: spec is immutable\n@@ -6,7 +6,7 @@\n-   \"storage\": \"2Gi\"", reason::APPLY_REFUSED)]
    #[case(
        500,
        "failed to create typed patch object (n/a): .spec.x: duplicate entries for key [name=\"y\"]",
        reason::APPLY_REFUSED
    )]
    #[case(500, "etcdserver: request timed out", reason::APPLY_FAILED)]
    fn a_refusal_that_the_user_has_to_mend_is_not_a_failure_that_passes(
        #[case] code: u16,
        #[case] message: &str,
        #[case] expected: &str,
    ) {
        let status = json!({"status": "Failure", "code": code, "message": message});
        let error = Error::Api(serde_json::from_value(status).unwrap());
        let key = ObjectKey { kind: "Service", name: "a".to_owned() };
        let Outcome::Refused(waiting) = outcome(&key, &WriteError::Request(error)) else { panic!("not refused") };
        assert_eq!(waiting.reason, expected);
        assert!(!waiting.message.contains('\n'), "{}", waiting.message);
    }
}
