//! Several pieces of work at once. Few programs use all processors all the time: while one links, another compiles.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Result, anyhow};

/// A piece of work.
pub type Work<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;

/// Does all of it, so many at once, beginning with the first. Once one has failed, no other is begun; its error is returned when
/// those that were begun have ended.
pub fn run(at_once: usize, work: Vec<Work<'_>>) -> Result<()> {
    let left = Mutex::new(VecDeque::from(work));
    let one_by_one = || {
        loop {
            let Some(next) = locked(&left).pop_front() else { return Ok(()) };
            if let Err(error) = next() {
                locked(&left).clear();
                return Err(error);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(one_by_one)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a piece of work panicked"))?);
        ended.collect::<Vec<Result<()>>>().into_iter().collect()
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use anyhow::bail;

    use super::*;

    #[test]
    fn so_many_are_done_at_once() {
        let ((to_first, first), (to_second, second)) = (mpsc::channel(), mpsc::channel());
        // Each waits for the other.
        let one: Work<'_> = Box::new(move || {
            to_second.send(())?;
            Ok(first.recv()?)
        });
        let other: Work<'_> = Box::new(move || {
            to_first.send(())?;
            Ok(second.recv()?)
        });
        run(2, vec![one, other]).expect("they meet");
    }

    #[test]
    fn after_a_failure_nothing_is_begun_and_the_error_is_told() {
        let begun = &AtomicUsize::new(0);
        let well = || -> Work<'_> {
            Box::new(move || {
                begun.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
        };
        run(1, vec![well(), Box::new(|| bail!("it broke")), well()]).expect_err("one failed");
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        run(3, vec![well(), well()]).expect("all is well");
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }
}
