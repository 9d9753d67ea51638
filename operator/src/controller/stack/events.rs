//! The Events for a change of the status. What stays as it is has none.

use kube::runtime::events::{Event, EventType};

use crate::{
    api::v1alpha1::RorunStackStatus,
    names::{annotation, reason},
    plan::release::State,
    runtime::event,
};

/// The Events for a change of `Ready`, and the warnings when the spec is new.
pub(super) fn of_status((old, new): (Option<&RorunStackStatus>, &RorunStackStatus), warnings: &[String]) -> Vec<Event> {
    let new_spec = old.and_then(|status| status.observed_generation) != new.observed_generation;
    let warnings = warnings.iter().filter(|_| new_spec);
    let warnings = warnings.map(|warning| event(EventType::Warning, "NotForProduction", warning));
    let ready = rollout_event(old, new).or_else(|| ready_event(old, new));
    ready.into_iter().chain(expiry_event(old, new)).chain(warnings).collect()
}

/// A stack that expires within an hour has an Event, once.
fn expiry_event(old: Option<&RorunStackStatus>, new: &RorunStackStatus) -> Option<Event> {
    let warned = |status: &RorunStackStatus| status.expiry.as_ref().is_some_and(|expiry| expiry.warned_at.is_some());
    if !warned(new) || old.is_some_and(warned) {
        return None;
    }
    let note = format!(
        "the stack expires at {} and hibernates then: to put it off, set the annotation {} to a later moment",
        new.expires_at.as_ref()?.0,
        annotation::KEEP_UNTIL
    );
    Some(event(EventType::Warning, reason::EXPIRES_SOON, &note))
}

/// A rollout of a stack that was ready has an Event when it begins and when it ends. The creation of a stack has none.
fn rollout_event(old: Option<&RorunStackStatus>, new: &RorunStackStatus) -> Option<Event> {
    let old = old?;
    let is = |status: &RorunStackStatus, kind: &str| {
        status.conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let generation = new.observed_generation.unwrap_or_default();
    let state =
        |status: &RorunStackStatus| status.release.as_ref().map(|release| release.state.clone()).unwrap_or_default();
    // A release that is backed up, migrated or tested rolls nothing out yet.
    let waits = |status| {
        [State::BackingUp, State::Migrating, State::MigrationLocked, State::Testing]
            .iter()
            .any(|of| state(status) == of.as_str())
    };
    let rolls = !waits(new);
    let begins = waits(old) && state(new) == State::RollingOut.as_str();
    if begins || (rolls && is(old, "Ready") && is(new, "Reconciling")) {
        let changed = images(old, new).map(|(name, from, to)| format!("{name} from {from} to {to}"));
        let changed: Vec<_> = changed.collect();
        let what = if changed.is_empty() { "its configuration".to_owned() } else { changed.join(", ") };
        let note = format!("rolls out generation {generation}: {what}");
        return Some(event(EventType::Normal, reason::ROLLOUT_STARTED, &note));
    }
    // Pods served all along, which they do not while a stack is created.
    if is(old, "Reconciling") && is(old, "Available") && is(new, "Ready") {
        let note = format!("generation {generation} is rolled out, and serves");
        return Some(event(EventType::Normal, reason::ROLLOUT_FINISHED, &note));
    }
    None
}

/// The images that changed: of which component, from which to which.
fn images<'a>(
    old: &'a RorunStackStatus,
    new: &'a RorunStackStatus,
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    new.components.iter().filter_map(|row| {
        let before = old.components.iter().find(|before| before.name == row.name)?.image.as_deref()?;
        let image = row.image.as_deref().filter(|image| *image != before)?;
        Some((row.name.as_str(), before, image))
    })
}

fn ready_event(old: Option<&RorunStackStatus>, new: &RorunStackStatus) -> Option<Event> {
    let ready =
        |status: &RorunStackStatus| status.conditions.iter().find(|condition| condition.type_ == "Ready").cloned();
    let now = ready(new)?;
    let before = old.and_then(ready);
    let same = before.as_ref().is_some_and(|before| before.status == now.status && before.reason == now.reason);
    let on_its_way =
        matches!(now.reason.as_str(), reason::PROGRESSING | reason::DEPENDENCY_NOT_READY | reason::NOT_HEALTHY);
    if same || (now.status != "True" && on_its_way) {
        return None;
    }
    // Steps of a release that is under way, or that goes on when the stack wakes, need nobody.
    let step = matches!(
        now.reason.as_str(),
        reason::BACKING_UP | reason::MIGRATING | reason::TESTING | reason::VERIFYING | reason::HIBERNATED
    );
    let kind = if now.status == "True" || step { EventType::Normal } else { EventType::Warning };
    let reason = now.reason.clone();
    Some(event(kind, &reason, &now.message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(conditions: &[(&str, &str)], image: &str) -> RorunStackStatus {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status)| {
                json!({"type": kind, "status": status, "reason": "Progressing", "message": "api: rolls out",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        let components = json!([{"name": "api", "ready": true, "image": image}]);
        serde_json::from_value(json!({"observedGeneration": 4, "conditions": conditions, "components": components}))
            .expect("a status")
    }

    fn text(event: Option<Event>) -> Option<(String, String)> {
        event.map(|event| (event.reason, event.note.unwrap_or_default()))
    }

    #[test]
    fn a_rollout_has_events_when_it_begins_and_ends_and_a_creation_has_none() {
        let ready = status(&[("Available", "True"), ("Ready", "True")], "api:1");
        let rolling = status(&[("Available", "True"), ("Ready", "False"), ("Reconciling", "True")], "api:2");
        let done = status(&[("Available", "True"), ("Ready", "True")], "api:2");
        let begun = text(rollout_event(Some(&ready), &rolling)).expect("an event");
        assert_eq!(begun, ("RolloutStarted".into(), "rolls out generation 4: api from api:1 to api:2".into()));
        let ended = text(rollout_event(Some(&rolling), &done)).expect("an event");
        assert_eq!(ended, ("RolloutFinished".into(), "generation 4 is rolled out, and serves".into()));
        assert_eq!(text(rollout_event(Some(&done), &done)), None);
        let making = status(&[("Available", "False"), ("Ready", "Unknown"), ("Reconciling", "True")], "api:1");
        assert_eq!(text(rollout_event(None, &making)), None);
        assert_eq!(text(rollout_event(Some(&making), &ready)), None);
        // A pod that moves.
        let moved = status(&[("Available", "False"), ("Ready", "False")], "api:2");
        assert_eq!(text(rollout_event(Some(&done), &moved)), None);
    }
}
