//! What the status of a stack tells of its restores.

use super::Report;
use crate::api::v1alpha1::StackRestoreStatus;

/// The restore that goes on, and the databases that restores left. `None`: there is neither.
pub(super) fn told(report: &Report<'_>) -> Option<Box<StackRestoreStatus>> {
    let restores = report.restores;
    let current = restores.current.as_ref();
    let status = StackRestoreStatus {
        current: current.map(|current| current.request.name.clone()),
        phase: current.map(|current| current.state.as_str().to_owned()),
        kept: restores.kept.clone(),
    };
    (status != StackRestoreStatus::default()).then(|| Box::new(status))
}
