//! What a person sees while something takes long: a line when it starts, with the reason, one at least every minute
//! while it goes on, and one with the seconds when it is done. All of it on stderr; stdout belongs to results.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::durations::{Durations, Timed};

const HEARTBEAT: Duration = Duration::from_secs(30);

/// Says one thing.
pub fn note(message: &str) {
    eprintln!("  {message}");
}

/// A long step. Says that it ended when dropped, and how: call [`Step::done`] when it went well.
#[derive(Debug)]
pub struct Step {
    what: String,
    started: Instant,
    succeeded: bool,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Step {
    /// Starts a step: what is done, and why now.
    pub fn start(what: &str, why: &str) -> Step {
        eprintln!("> {what} ({why})");
        let started = Instant::now();
        let (stop, stopped) = mpsc::channel();
        let name = what.to_owned();
        let heart = thread::spawn(move || {
            while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("  still at it after {} s: {name}", started.elapsed().as_secs());
            }
        });
        Step { what: what.to_owned(), started, succeeded: false, heart: Some((stop, heart)) }
    }

    /// Runs `work` as a step.
    pub fn of<T>(what: &str, why: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let step = Step::start(what, why);
        let result = work()?;
        step.done();
        Ok(result)
    }

    /// Runs `work` as a step that says how long it will take, and keeps how long it took for the next time.
    pub fn timed<T>(
        durations: &Durations,
        timed: &Timed<'_>,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let estimate = durations.estimate(timed.name, timed.table);
        let step = Step::start(timed.what, &format!("{}; {estimate}", timed.why));
        let result = work()?;
        durations.record(timed.name, Some(timed.table), step.started.elapsed())?;
        step.done();
        Ok(result)
    }

    /// The step went well.
    pub fn done(mut self) {
        self.succeeded = true;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some((stop, heart)) = self.heart.take() {
            drop(stop);
            let _ = heart.join();
        }
        let outcome = if self.succeeded { "done" } else { "FAILED" };
        eprintln!("  {outcome} in {:.1} s: {}", self.started.elapsed().as_secs_f64(), self.what);
    }
}
