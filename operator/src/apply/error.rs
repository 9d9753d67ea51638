//! What an answer of the API server means for the user.

use kube::Error;

use super::{Outcome, writer::WriteError};
use crate::{
    names::{Waiting, reason},
    objects::ObjectKey,
};

/// The outcome of a write that failed.
pub(super) fn outcome(key: &ObjectKey, error: &WriteError) -> Outcome {
    let error = match error {
        WriteError::NotLeader => return Outcome::Again,
        WriteError::TimedOut => return refused(reason::APPLY_FAILED, format!("{key} could not be written: {error}")),
        WriteError::Request(error) => error,
    };
    let Error::Api(status) = error else {
        return refused(reason::APPLY_FAILED, format!("{key} could not be written: {error}"));
    };
    match status.code {
        409 => Outcome::Again,
        403 if status.message.contains("exceeded quota") => refused(
            reason::APPLY_REFUSED,
            format!("{key} was refused: {}: raise the ResourceQuota or lower requests", status.message),
        ),
        403 => refused(
            reason::FORBIDDEN,
            format!("the operator may not write {key}: {}: check its RBAC (rorun-operator rbac)", status.message),
        ),
        400 | 422 => refused(reason::APPLY_REFUSED, format!("the API server refused {key}: {}", status.message)),
        _ => refused(reason::APPLY_FAILED, format!("{key} could not be written: {} ({})", status.message, status.code)),
    }
}

fn refused(reason: reason::Reason, message: String) -> Outcome {
    Outcome::Refused(Waiting::new(reason, message))
}
