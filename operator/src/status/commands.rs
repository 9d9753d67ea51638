//! Annotations that ask for something which there is not: whoever set one learns why nothing happens.

use super::Report;
use crate::names::annotation;

/// A sentence about each annotation that has no effect.
pub(super) fn without_effect(report: &Report<'_>) -> Vec<String> {
    let annotated = |key: &str| report.cr.metadata.annotations.as_ref().and_then(|all| all.get(key));
    let mut notes = Vec::new();
    if let Some(approved) = annotated(annotation::APPROVE).filter(|approved| !is_known(report, approved)) {
        notes.push(format!(
            "the annotation {} is {approved}, which the spec does not ask for, so it starts nothing",
            annotation::APPROVE
        ));
    }
    if report.stack.backup.is_none() && annotated(annotation::BACKUP).is_some() {
        notes.push(format!("the annotation {} asks for a backup, and spec.backup is not set", annotation::BACKUP));
    }
    if report.stack.verify().is_none() && annotated(annotation::VERIFY).is_some() {
        notes.push(format!("the annotation {} asks for a drill, and backup.verify is not set", annotation::VERIFY));
    }
    notes.extend(report.restores.discard_problem.clone());
    notes
}

/// Whether the spec asks for a release, or it is in the history.
fn is_known(report: &Report<'_>, release: &str) -> bool {
    let revisions = report.release.revisions.iter().chain([&report.release.target]);
    revisions.map(|revision| revision.content.release()).any(|known| known == release)
}
