//! Mutexes, whose data are as good as before when a test that held one has failed.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of another thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
