//! While the API server has too much to do, this process writes one object at a time: as many writes at once as usual would be
//! refused together, each time that the wait is over.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// For how long writes go one after the other after the last time that the API server asked for a pause.
const ONE_AT_A_TIME: Duration = Duration::from_secs(10);

/// Until when the API server is left alone, and which write is next afterwards. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct WriteThrottle {
    until: Arc<Mutex<Option<Instant>>>,
    next: Arc<tokio::sync::Mutex<()>>,
    stop: CancellationToken,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
#[must_use = "the right ends when this is dropped"]
pub struct WritePermit {
    _only: Option<OwnedMutexGuard<()>>,
}

impl WriteThrottle {
    /// No write waits any more once `stop` is cancelled: a process that ends has less time than the API server may ask for.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// The API server asked for a pause. The longest pause counts.
    pub fn hold_off(&self, pause: Duration) {
        let mut until = self.until();
        *until = (*until).max(Some(Instant::now() + pause));
    }

    /// How much of the pause is left.
    pub fn left(&self) -> Option<Duration> {
        let until = *self.until();
        until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Waits for the right to write: not at all, unless the API server asked for a pause. `None`: the process ends first.
    pub async fn permit(&self) -> Option<WritePermit> {
        if !self.is_throttled() {
            return Some(WritePermit { _only: None });
        }
        self.stop.run_until_cancelled(self.only_permit()).await
    }

    async fn only_permit(&self) -> WritePermit {
        let only = self.next.clone().lock_owned().await;
        self.pause_is_over().await;
        // The writes behind this one need not wait for it once the throttle has ended.
        WritePermit { _only: self.is_throttled().then_some(only) }
    }

    /// Waits until the pause that the API server asked for is over, or until the process ends.
    pub async fn wait_for_server(&self) {
        let _ = self.stop.run_until_cancelled(self.pause_is_over()).await;
    }

    async fn pause_is_over(&self) {
        while let Some(left) = self.left() {
            sleep(left).await;
        }
    }

    fn is_throttled(&self) -> bool {
        self.until().is_some_and(|until| until.elapsed() < ONE_AT_A_TIME)
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_write_waits_unless_the_api_server_asked_for_a_pause() {
        let throttle = WriteThrottle::default();
        let (one, other) = (throttle.permit().now_or_never(), throttle.permit().now_or_never());
        assert!(one.is_some() && other.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_write_after_the_other_and_none_before_the_pause_is_over() {
        let (throttle, began) = (WriteThrottle::default(), Instant::now());
        throttle.hold_off(Duration::from_secs(3));
        throttle.hold_off(Duration::from_secs(1));
        let permit = throttle.permit().await.expect("a permit");
        assert!(began.elapsed() >= Duration::from_secs(3));
        assert!(throttle.permit().now_or_never().is_none());
        drop(permit);
        assert!(throttle.permit().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_throttle_ends_some_time_after_the_last_pause() {
        let throttle = WriteThrottle::default();
        throttle.hold_off(Duration::from_secs(1));
        let first = throttle.permit().await;
        sleep(ONE_AT_A_TIME).await;
        assert!(throttle.permit().now_or_never().is_some());
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_ends_while_the_api_server_asks_for_a_pause_writes_nothing() {
        let stop = CancellationToken::new();
        let (throttle, began) = (WriteThrottle::new(stop.clone()), Instant::now());
        throttle.hold_off(Duration::from_secs(30));
        let end = async {
            sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        let (first, second, ()) = tokio::join!(throttle.permit(), throttle.permit(), end);
        assert!(first.is_none() && second.is_none());
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_ends_finishes_its_writes_unless_the_api_server_asks_for_a_pause() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(WriteThrottle::new(stop).permit().await.is_some());
    }
}
