//! Ports for servers that take theirs as an argument, and so open it only some time after it was chosen.

use std::iter::{Cycle, Skip};
use std::net::TcpListener;
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, anyhow};

/// Linux gives connections their own ports from 32768 on (the default of `net.ipv4.ip_local_port_range`), and node ports begin
/// at 30000: one below goes to nobody who did not ask for it by number, also not while a server is started again.
const RANGE: Range<u16> = 12_000..30_000;

/// Processes that begin one after the other choose this far apart; nothing else keeps them from choosing the same.
const APART: usize = 61;

static NEXT: LazyLock<Mutex<Skip<Cycle<Range<u16>>>>> =
    LazyLock::new(|| Mutex::new(RANGE.cycle().skip(std::process::id() as usize * APART % RANGE.len())));

/// Ports of loopback that are free now. A process is given none twice until it had all.
///
/// # Errors
///
/// When fewer are free.
pub fn free<const N: usize>() -> Result<[u16; N]> {
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let found: Vec<u16> = next.by_ref().take(RANGE.len()).filter(|port| is_free(*port)).take(N).collect();
    let too_few = |found: Vec<u16>| anyhow!("only {} of {N} ports in {RANGE:?} are free", found.len());
    found.try_into().map_err(too_few)
}

/// Whether a server could listen there now.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_given_twice_and_what_is_taken_is_passed_over() {
        let first: [u16; 20] = free().unwrap();
        // Those that come next.
        let taken: Vec<_> = (1..=20).filter_map(|by| TcpListener::bind(("127.0.0.1", first[19] + by)).ok()).collect();
        assert!(!taken.is_empty());
        let second: [u16; 20] = free().unwrap();
        let mut all = [first, second].concat();
        all.extend(taken.iter().map(|listener| listener.local_addr().unwrap().port()));
        let given = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), given, "{first:?}, {taken:?} and {second:?} have one in common");
    }
}
