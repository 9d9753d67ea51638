//! While the API server says that it has too much to do, writes go one after the other: as many at once as usual would be
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

/// For how long writes go one after the other after the last time that the API server asked for patience.
const NARROW: Duration = Duration::from_secs(10);

/// Until when the API server does not want to be asked, and whose turn it is afterwards. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    until: Arc<Mutex<Option<Instant>>>,
    line: Arc<tokio::sync::Mutex<()>>,
    stop: CancellationToken,
}

/// The right to write until it is dropped.
#[derive(Debug)]
#[must_use = "the turn is over when this is dropped"]
pub struct Turn {
    _place: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Nobody waits any more once `stop` is cancelled: a process that ends has less time than the API server may ask for.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// The API server wants to be left alone for so long. The longest wait counts.
    pub fn told(&self, wait: Duration) {
        let mut until = self.until();
        *until = (*until).max(Some(Instant::now() + wait));
    }

    /// How long to wait yet.
    pub fn left(&self) -> Option<Duration> {
        let until = *self.until();
        until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Waits for the turn to write: not at all, as long as nobody asked for patience. `None`: the process ends first.
    pub async fn wait(&self) -> Option<Turn> {
        if !self.is_narrow() {
            return Some(Turn { _place: None });
        }
        self.stop.run_until_cancelled(self.stand_in_line()).await
    }

    async fn stand_in_line(&self) -> Turn {
        let turn = self.line.clone().lock_owned().await;
        self.over().await;
        // Those behind it need not stand in a line that is no longer needed.
        Turn { _place: self.is_narrow().then_some(turn) }
    }

    /// Waits for as long as the API server wants to be left alone, or until the process ends.
    pub async fn patience(&self) {
        let _ = self.stop.run_until_cancelled(self.over()).await;
    }

    async fn over(&self) {
        while let Some(left) = self.left() {
            sleep(left).await;
        }
    }

    fn is_narrow(&self) -> bool {
        self.until().is_some_and(|until| until.elapsed() < NARROW)
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
    async fn nobody_waits_as_long_as_nobody_asks_for_patience() {
        let turns = Turns::default();
        let (one, other) = (turns.wait().now_or_never(), turns.wait().now_or_never());
        assert!(one.is_some() && other.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other_and_not_before_the_time() {
        let (turns, began) = (Turns::default(), Instant::now());
        turns.told(Duration::from_secs(3));
        turns.told(Duration::from_secs(1));
        let turn = turns.wait().await.expect("a turn");
        assert!(began.elapsed() >= Duration::from_secs(3));
        assert!(turns.wait().now_or_never().is_none());
        drop(turn);
        assert!(turns.wait().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_ends_some_time_after_the_last_complaint() {
        let turns = Turns::default();
        turns.told(Duration::from_secs(1));
        let first = turns.wait().await;
        sleep(NARROW).await;
        assert!(turns.wait().now_or_never().is_some());
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_has_a_turn_in_a_process_that_ends_while_the_api_server_wants_to_be_left_alone() {
        let stop = CancellationToken::new();
        let (turns, began) = (Turns::new(stop.clone()), Instant::now());
        turns.told(Duration::from_secs(30));
        let end = async {
            sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        let (first, second, ()) = tokio::join!(turns.wait(), turns.wait(), end);
        assert!(first.is_none() && second.is_none());
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_finished_while_nobody_asks_for_patience() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(Turns::new(stop).wait().await.is_some());
    }
}
