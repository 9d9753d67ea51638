//! The records of a stack: ControllerRevisions, which outlast its steps and this process. They belong to no component, so that
//! nothing that waits keeps one back.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::json;

use super::metadata;
use crate::{
    names::{COMMANDS, ObjectName, annotation},
    objects::{ApplyPolicy, DesiredObject},
    plan::Plan,
    stack::{Command, Handled, Revision, Stack},
};

/// The records that the plan wants kept; others are pruned.
pub(super) fn objects(stack: &Stack, plan: &Plan) -> Vec<DesiredObject> {
    let commands = plan.handled.iter().map(|handled| commands(stack, handled));
    commands.chain(plan.release.revisions.iter().map(|revision| release(stack, revision))).collect()
}

/// What this operator reads back as [`Revision`]. The content never changes; what became of the revision does.
fn release(stack: &Stack, Revision { name, number, content, progress }: &Revision) -> DesiredObject {
    let progress = serde_json::to_string(progress).unwrap_or_default();
    let record = ControllerRevision {
        data: Some(RawExtension(content.data())),
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(metadata::record_labels(stack)),
            annotations: Some([(annotation::PROGRESS.to_owned(), progress)].into()),
            ..ObjectMeta::default()
        },
        revision: *number,
    };
    DesiredObject::new(&record, ApplyPolicy::Recorded)
}

/// What this operator reads back as [`Handled`].
fn commands(stack: &Stack, Handled { revision, commands }: &Handled) -> DesiredObject {
    let entry = |Command { value, count }: &Command| json!({"value": value, "count": count});
    let entries: BTreeMap<_, _> = commands.iter().map(|(of, command)| (of, entry(command))).collect();
    let name = ObjectName::record(&stack.name, COMMANDS, *revision);
    let record = ControllerRevision {
        data: Some(RawExtension(json!({COMMANDS: entries}))),
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(metadata::record_labels(stack)),
            ..ObjectMeta::default()
        },
        revision: *revision,
    };
    DesiredObject::new(&record, ApplyPolicy::RunOnce)
}
