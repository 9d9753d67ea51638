//! What the cluster holds of the steps of a stack: its Jobs, its records, and the commands of its annotations.

use serde_json::Value;

use crate::{
    api::v1alpha1::RorunStack,
    names::{COMMANDS, Component, annotation, reason},
    objects::{LiveObject, LiveSet, Readiness},
    stack::{Command, Handled, JobPhase, Observed, ObservedJob},
};

/// Reads Jobs, records and commands. Jobs and records are those that this very stack owns: a StatefulSet's revisions carry the
/// labels of its pods, and the Jobs of a CronJob those of the backup.
pub(super) fn observe(cr: &RorunStack, live: &LiveSet, observed: &mut Observed) {
    let uid = cr.metadata.uid.as_deref().unwrap_or_default();
    let owned = |there: &&LiveObject| there.owner.as_ref().is_some_and(|owner| owner.uid == uid);
    observed.jobs = live.iter().filter(owned).filter_map(job).collect();
    observed.handled = live.iter().filter(owned).filter_map(handled).max_by_key(|handled| handled.revision);
    let annotations = cr.metadata.annotations.as_ref();
    observed.commands = annotation::COMMANDS
        .into_iter()
        .filter_map(|command| Some((command.to_owned(), annotations?.get(command)?.clone())))
        .collect();
}

fn job(there: &LiveObject) -> Option<ObservedJob> {
    let component = Component::from_label(there.component).filter(|_| there.kind.kind == "Job")?;
    let phase = match &there.readiness {
        Readiness::Ready => JobPhase::Complete,
        Readiness::Waiting(waiting) if waiting.reason == reason::JOB_FAILED => {
            JobPhase::Failed(waiting.message.clone())
        }
        Readiness::Waiting(_) => JobPhase::Running,
    };
    Some(ObservedJob { name: there.name.to_string(), component, created: there.created, phase })
}

/// A record of handled commands, as [`crate::desired`] writes it.
fn handled(there: &LiveObject) -> Option<Handled> {
    let record = there.record.as_deref()?;
    let entries = record.data.get(COMMANDS)?.as_object()?;
    let command = |entry: &Value| {
        Some(Command { value: entry.get("value")?.as_str()?.to_owned(), count: entry.get("count")?.as_i64()? })
    };
    let commands = entries.iter().filter_map(|(of, entry)| Some((of.clone(), command(entry)?))).collect();
    Some(Handled { revision: record.revision, commands })
}
