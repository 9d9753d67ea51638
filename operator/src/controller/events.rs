//! Events for what changed, never for what stays.

use kube::{
    Resource,
    runtime::events::{Event, EventType},
};
use tokio::time::timeout;
use tracing::warn;

use super::Context;
use crate::{
    api::v1alpha1::{RorunStack, RorunStackStatus},
    apply::WRITE_LIMIT,
    names::reason,
};

/// Tells of a change of `Ready`, and of warnings when the spec is new. An event that cannot be written is no failure, and all
/// of a pass together take no longer than one write may.
pub(super) async fn publish(
    context: &Context,
    cr: &RorunStack,
    (old, new): (Option<&RorunStackStatus>, &RorunStackStatus),
    warnings: &[String],
) {
    let new_spec = old.and_then(|status| status.observed_generation) != new.observed_generation;
    let warnings = warnings.iter().filter(|_| new_spec);
    let warnings = warnings.map(|warning| event(EventType::Warning, "NotForProduction", warning));
    let events: Vec<_> = ready_event(old, new).into_iter().chain(warnings).collect();
    let sending = async {
        for event in events {
            send(context, cr, event).await;
        }
    };
    if timeout(WRITE_LIMIT, sending).await.is_err() {
        warn!(seconds = WRITE_LIMIT.as_secs(), "events were not published within the limit; they are left out");
    }
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
    let of = cr.object_ref(&());
    if let Err(error) = context.writer.limited(context.recorder.publish(&event, &of)).await {
        warn!(%error, reason = event.reason, "failed to publish an event");
    }
}
