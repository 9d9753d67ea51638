//! Publishes Events about a resource.

use kube::{
    Resource,
    runtime::events::{Event, EventType, Recorder},
};
use tokio::time::timeout;
use tracing::warn;

use crate::apply::{WRITE_LIMIT, Writer};

/// The longest note: the API server allows 1024 bytes.
const NOTE_MAX: usize = 1000;

/// An Event. A note that is too long is cut.
pub fn event(type_: EventType, reason: &str, note: &str) -> Event {
    let end = (0..=note.len().min(NOTE_MAX)).rev().find(|index| note.is_char_boundary(*index)).unwrap_or(0);
    let note = note.get(..end).map(str::to_owned);
    Event { type_, reason: reason.to_owned(), note, action: "Reconcile".to_owned(), secondary: None }
}

/// Publishes Events while this process may write.
pub struct EventPublisher {
    recorder: Recorder,
    writer: Writer,
}

impl EventPublisher {
    /// A publisher. `writer` is asked whether this process may write.
    pub fn new(recorder: Recorder, writer: Writer) -> Self {
        Self { recorder, writer }
    }

    /// Publishes Events about a resource. An Event that cannot be written is no failure, and all of them together take no longer
    /// than one write may.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, resource: &K, events: Vec<Event>) {
        let reference = resource.object_ref(&());
        let publishing = async {
            for event in events {
                if let Err(error) = self.writer.limited(self.recorder.publish(&event, &reference)).await {
                    warn!(%error, reason = event.reason, "failed to publish an event");
                }
            }
        };
        if timeout(WRITE_LIMIT, publishing).await.is_err() {
            warn!(seconds = WRITE_LIMIT.as_secs(), "events were not published within the limit; they are left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_two_characters() {
        let note = "ü".repeat(600);
        let published = event(EventType::Normal, "Tested", &note).note.expect("a note");
        assert_eq!(published, "ü".repeat(NOTE_MAX / 2));
        assert_eq!(event(EventType::Normal, "Tested", "short").note.as_deref(), Some("short"));
    }
}
