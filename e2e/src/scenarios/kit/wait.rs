//! The one wait of all scenarios: a condition, a deadline, and a failure that says what was there instead.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::{World, diagnose};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What a look found.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was waited for.
    There(T),
    /// Something else, in words for whoever reads the failure.
    NotYet(String),
}

impl Seen<()> {
    /// There if `holds`; `otherwise` says what is seen instead.
    pub fn when(holds: bool, otherwise: impl fmt::Display) -> Seen<()> {
        if holds { Seen::There(()) } else { Seen::NotYet(otherwise.to_string()) }
    }
}

/// A wait that was given up, with the state of the namespace at that moment.
#[derive(Debug)]
pub struct Stuck {
    what: String,
    limit: Duration,
    seen: String,
    diagnosis: String,
}

impl fmt::Display for Stuck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck { what, limit, seen, diagnosis } = self;
        write!(formatter, "gave up after {} s waiting for {what}; seen last: {seen}\n{diagnosis}", limit.as_secs())
    }
}

impl std::error::Error for Stuck {}

/// Looks until the condition is there. A look that fails counts as one that did not find it: an API server that is
/// slow to answer, or an Ingress that has no route yet, is what is waited out here.
pub async fn until<T>(
    world: &World,
    namespace: &str,
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = match look().await {
            Ok(Seen::There(value)) => return Ok(value),
            Ok(Seen::NotYet(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            // Boxed: it is large, and every wait would carry it.
            let diagnosis = Box::pin(diagnose(world, namespace)).await;
            return Err(Stuck { what: what.to_owned(), limit, seen, diagnosis }.into());
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}
