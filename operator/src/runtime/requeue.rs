//! How long a resource waits before it is reconciled again although no event asks for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::ResourceKey;
use crate::telemetry::ControllerMetrics;

/// The first and the longest pause before something is tried again that no watch reports.
pub const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// The exponential back-off of each resource. Clones share it.
#[derive(Clone, Debug)]
pub struct Requeue {
    /// How many reconciles of a resource in a row ended with a retry.
    attempts: Arc<Mutex<HashMap<ResourceKey, u32>>>,
    metrics: ControllerMetrics,
}

impl Requeue {
    /// No resource has been retried yet.
    pub fn new(metrics: ControllerMetrics) -> Self {
        Self { attempts: Arc::default(), metrics }
    }

    /// The pause before the next retry: twice as long each time in a row, up to the longest.
    pub fn back_off(&self, key: &ResourceKey) -> Duration {
        let mut all = self.attempts();
        let attempts = all.entry(key.clone()).or_default();
        let pause = RETRY.0.saturating_mul(1 << (*attempts).min(10)).min(RETRY.1);
        *attempts += 1;
        self.metrics.retry_scheduled();
        spread(pause, key)
    }

    /// The resource is settled, or gone: the next retry is the first one again.
    pub fn reset(&self, key: &ResourceKey) {
        self.attempts().remove(key);
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<ResourceKey, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to a fifth longer, depending on the name, so that resources are not all reconciled at once.
pub fn spread(pause: Duration, key: &ResourceKey) -> Duration {
    let sum: u32 = key.name.bytes().chain(key.namespace.bytes()).map(u32::from).sum();
    pause + pause / 5 * (sum % 16) / 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn each_retry_in_a_row_waits_twice_as_long_up_to_a_minute() {
        let requeue = Requeue::new(Metrics::new().expect("metrics").controller("test"));
        let key = ResourceKey { namespace: String::new(), name: String::new() };
        let pauses: Vec<_> = (0..9).map(|_| requeue.back_off(&key).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        requeue.reset(&key);
        assert_eq!(requeue.back_off(&key), RETRY.0);
    }

    #[test]
    fn the_pause_is_spread_by_at_most_a_fifth() {
        let spreads = ('a'..='z').map(|name| {
            let key = ResourceKey { namespace: "n".to_owned(), name: name.to_string() };
            spread(Duration::from_secs(10), &key)
        });
        let spreads: Vec<_> = spreads.collect();
        assert!(spreads.iter().all(|pause| (10..12).contains(&pause.as_secs())), "{spreads:?}");
        assert!(spreads.iter().any(|pause| *pause != spreads[0]));
    }
}
