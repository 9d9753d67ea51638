//! The one wait of all scenarios: a condition, a deadline, and a failure that says what the cluster had instead.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::{TestCluster, diagnose};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The result of one observation.
#[derive(Debug)]
pub enum Observed<T> {
    /// The condition holds, and this is its value.
    Met(T),
    /// The condition does not hold; the text says, for the reader of a failure, what is there instead.
    NotYet(String),
}

impl Observed<()> {
    /// Met if `holds`; `otherwise` says what is there instead.
    pub fn when(holds: bool, otherwise: impl fmt::Display) -> Observed<()> {
        if holds { Observed::Met(()) } else { Observed::NotYet(otherwise.to_string()) }
    }
}

/// A wait that was given up, with the state of the namespace at that moment.
#[derive(Debug)]
pub struct Stuck {
    what: String,
    limit: Duration,
    observed: String,
    diagnosis: String,
}

impl fmt::Display for Stuck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck { what, limit, observed, diagnosis } = self;
        write!(
            formatter,
            "gave up after {} s waiting for {what}; observed last: {observed}\n{diagnosis}",
            limit.as_secs()
        )
    }
}

impl std::error::Error for Stuck {}

/// Observes until the condition is met. An error counts as "not yet": the API server may be slow to answer, and the Ingress
/// controller may not have the route yet.
pub async fn until<T>(
    test_cluster: &TestCluster,
    namespace: &str,
    what: &str,
    limit: Duration,
    mut observe: impl AsyncFnMut() -> Result<Observed<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        let observed = match observe().await {
            Ok(Observed::Met(value)) => return Ok(value),
            Ok(Observed::NotYet(observed)) => observed,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            // Boxed: it is large, and every wait would carry it.
            let diagnosis = Box::pin(diagnose(test_cluster, namespace)).await;
            return Err(Stuck { what: what.to_owned(), limit, observed, diagnosis }.into());
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}
