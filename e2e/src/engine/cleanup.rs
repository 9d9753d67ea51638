//! What must happen when a run is interrupted. Values clean up after themselves when they are dropped, also after an
//! error or a panic; a signal drops nothing, so what a running piece of work must undo is registered here as well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::progress;

type Action = Box<dyn FnOnce() + Send>;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static CLEANER: OnceLock<ThreadId> = OnceLock::new();
static ACTIONS: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());

/// Registers what to do if a signal ends this process. It is forgotten when the returned value is dropped.
pub fn on_interrupt(action: impl FnOnce() + Send + 'static) -> Registration {
    let mut actions = actions();
    let id = actions.last().map_or(0, |(id, _)| id + 1);
    actions.push((id, Box::new(action)));
    Registration { id }
}

/// Keeps an action registered.
#[derive(Debug)]
#[must_use = "the action is forgotten when this is dropped"]
pub struct Registration {
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        actions().retain(|(id, _)| *id != self.id);
    }
}

/// From now on, Ctrl-C and a polite kill run what is registered, the latest first, and end the process.
pub fn watch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listen = |kind| {
        let _entered = runtime.enter();
        signal(kind).context("failed to listen for signals")
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    thread::spawn(move || {
        let _ = CLEANER.set(thread::current().id());
        let code = runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => 130, _ = terminate.recv() => 143 }
        });
        INTERRUPTED.store(true, Ordering::SeqCst);
        progress::note("interrupted: cleaning up");
        run_all();
        std::process::exit(code);
    });
    Ok(())
}

/// Whether a signal has come and this is the thread that cleans up.
pub fn is_cleaning() -> bool {
    INTERRUPTED.load(Ordering::SeqCst) && CLEANER.get() == Some(&thread::current().id())
}

/// Stops the calling thread for good once a signal has come: what it would start next, nobody would clean up. The
/// thread that cleans up goes on, and ends the process.
pub fn stop_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) && !is_cleaning() {
        thread::park();
    }
}

fn run_all() {
    // One at a time and without the lock: an action may run programs, which register actions of their own.
    loop {
        let Some((_, action)) = actions().pop() else { return };
        action();
    }
}

fn actions() -> MutexGuard<'static, Vec<(u64, Action)>> {
    ACTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}
