//! Events for what changed, never for what stays.

use kube::{
    Resource,
    runtime::events::{Event, EventType},
};
use tracing::warn;

use super::Context;
use crate::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    names::reason,
};

/// Tells of a change of `Ready`, and of warnings when the spec is new. An event that cannot be written is no failure.
pub(super) async fn publish(
    context: &Context,
    cr: &RorunStack,
    (old, new): (Option<&RorunStackStatus>, &RorunStackStatus),
    warnings: &[String],
) {
    if let Some(event) = ready_event(old, new) {
        send(context, cr, event).await;
    }
    let new_spec = old.and_then(|status| status.observed_generation) != new.observed_generation;
    for warning in warnings.iter().filter(|_| new_spec) {
        send(context, cr, event(EventType::Warning, "NotForProduction", warning)).await;
    }
}

/// Tells of something that is done.
pub(super) async fn tell(context: &Context, cr: &RorunStack, (type_, reason): (EventType, &str), note: &str) {
    send(context, cr, event(type_, reason, note)).await;
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
    let kind = if now.status == "True" { EventType::Normal } else { EventType::Warning };
    let reason = now.reason.clone();
    Some(event(kind, &reason, &now.message))
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    // The API allows 1024 bytes.
    let end = (0..=note.len().min(1000)).rev().find(|index| note.is_char_boundary(*index)).unwrap_or(0);
    let note = note.get(..end).map(str::to_owned);
    Event { type_, reason: reason.to_owned(), note, action: "Reconcile".to_owned(), secondary: None }
}

async fn send(context: &Context, cr: &RorunStack, event: Event) {
    if let Err(error) = context.recorder.publish(&event, &cr.object_ref(&())).await {
        warn!(%error, reason = event.reason, "failed to publish an event");
    }
}
